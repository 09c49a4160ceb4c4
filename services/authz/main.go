// Command authz decides about every request: it verifies tokens, runs Cedar, and seals what it decided.
//
// Envoy asks it by ext_authz before anything reaches the aggregator; the aggregator asks it which items a caller may
// see. It is the only process that evaluates policy.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"reflect"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"vmcp/internal/daemon"
	"vmcp/internal/gatewayconfig"
	"vmcp/internal/keyring"
	"vmcp/internal/mcpwire"
	"vmcp/internal/mtls"
	"vmcp/internal/policy"
	"vmcp/internal/token"
	gatewayv1 "vmcp/proto/gateway/v1"
	"vmcp/services/authz/internal/audit"
	"vmcp/services/authz/internal/engine"
	"vmcp/services/authz/internal/extauthz"
	"vmcp/services/authz/internal/follow"
	"vmcp/services/authz/internal/permit"
	"vmcp/services/authz/internal/revocation"
)

// maxMessage is above Envoy's body limit of 4 MiB with its headers.
const maxMessage = 6 << 20

var cfg config

func main() {
	cfg.flags(flag.CommandLine)
	daemon.Main(run)
}

func run(ctx context.Context, log *zap.Logger) error {
	if err := cfg.validate(); err != nil {
		return err
	}
	gw, err := gatewayconfig.Load(cfg.source)
	if err != nil {
		return err
	}
	if err := cfg.fits(gw); err != nil {
		return err
	}
	loopback, err := cfg.loopbackPort()
	if err != nil {
		return err
	}
	if gw.Authz.Anonymous {
		if loopback == 0 && !cfg.anonymous {
			return errors.New("incomingAuth.type is anonymous, but clients do not connect by loopback: anybody could call every permitted tool; -allow-anonymous accepts that")
		}
		log.Warn("anonymous access: whoever reaches the endpoint may use what the policies permit to Client::\"anonymous\"")
	}
	identity, err := mtls.Load(cfg.tls, log)
	if err != nil {
		return err
	}
	auditLog, err := openAudit(cfg.auditLog, log)
	if err != nil {
		return err
	}
	sealKeys, err := keyring.Load(cfg.sealKeys)
	if err != nil {
		return fmt.Errorf("seal keys: %w", err)
	}
	eng := engine.New(func(kind mcpwire.ItemKind, name string) {
		log.Error("aggregator replicas disagree, denied", zap.String("kind", kind.String()), zap.String("name", name))
	}, func(remarks []string) {
		for _, r := range remarks {
			log.Warn("policy", zap.String("warning", r))
		}
	})
	if err := setPolicies(eng, gw, log); err != nil {
		return err
	}

	g, ctx := errgroup.WithContext(ctx)
	check := extauthz.Config{
		VirtualServer: gw.Name, Endpoint: gw.Endpoint, Issuer: gw.Authz.Issuer.URL, Loopback: loopback,
		Engine: eng, Keys: sealKeys, Audit: auditLog, Log: log,
	}
	if !gw.Authz.Anonymous {
		check.Verifier, err = token.New(token.Config{
			Issuer: gw.Authz.Issuer, Audience: gw.Endpoint.Audience, KeysFile: cfg.kept("issuer-keys.json"), Pushed: gw.Authz.Issuer.Own, Log: log,
		}, extauthz.NewCaller)
		if err != nil {
			return err
		}
		if gw.Authz.Issuer.Own {
			conn, err := identity.Dial(cfg.authserver, mtls.RoleAuthServer)
			if err != nil {
				return fmt.Errorf("authserver: %w", err)
			}
			defer conn.Close()
			check.Revoked = revocation.New(revocation.Config{File: cfg.kept("revocations.json"), Silence: gw.AuthServer.RevocationSilence, Log: log})
			g.Go(func() error { return check.Revoked.Watch(ctx, conn) })
			g.Go(func() error { return follow.Keys(ctx, conn, check.Verifier.SetKeys, log) })
		} else {
			g.Go(func() error { return check.Verifier.Run(ctx) })
		}
	}
	checks := extauthz.New(check)

	for _, address := range cfg.aggregator {
		replicas, err := engine.NewReplicas(address, eng, identity, log)
		if err != nil {
			return err
		}
		g.Go(func() error { return replicas.Run(ctx) })
	}
	g.Go(func() error { return sealKeys.Run(ctx, log) })
	g.Go(func() error {
		return gatewayconfig.Watch(ctx, cfg.source, time.Second, func(next *gatewayconfig.Gateway, err error) {
			if err == nil {
				err = setPolicies(eng, next, log)
				if !reflect.DeepEqual(next.Endpoint, gw.Endpoint) || !reflect.DeepEqual(next.Authz.Issuer, gw.Authz.Issuer) {
					log.Warn("endpoint or issuer changed in the documents: that needs a restart; policies are reloaded")
				}
			}
			if err != nil {
				log.Error("documents not reloaded, the last good ones stay in force", zap.Error(err))
			}
		})
	})

	server := grpc.NewServer(
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.NumStreamWorkers(2),
		grpc.MaxConcurrentStreams(100_000), // Envoy opens one connection a worker; a stream is one request
		grpc.InitialWindowSize(8<<20), grpc.InitialConnWindowSize(32<<20),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	)
	authv3.RegisterAuthorizationServer(server, checks)
	permissions := &permit.Server{Engine: eng, Keys: sealKeys, VirtualServer: gw.Name, Revoked: check.Revoked}
	gatewayv1.RegisterPermissionsServer(server, permissions)
	l, err := identity.Listen(cfg.listen, mtls.RoleEnvoy)
	if err != nil {
		return err
	}
	if cfg.permissions != "" { // the aggregator of another pod asks what is permitted, and may not ask for a decision
		server := grpc.NewServer()
		gatewayv1.RegisterPermissionsServer(server, permissions)
		l, err := identity.Listen(cfg.permissions, mtls.RoleAggregator)
		if err != nil {
			return err
		}
		g.Go(func() error { return daemon.ServeGRPC(ctx, l, server) })
	}
	adminListener, err := mtls.Listen(cfg.admin)
	if err != nil {
		return err
	}
	admin := daemon.NewAdmin()
	admin.AddCheck("decisions", checks.Ready)
	if check.Revoked != nil {
		admin.Metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "vmcp_revocation_feed_silence_seconds",
			Help: "How long authserver has said nothing about revocations; over 5 is a reason to look."},
			func() float64 { return check.Revoked.Silence().Seconds() }))
	}
	admin.Metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "vmcp_policy_warnings",
		Help: "Remarks on policies that cannot do what they seem to say, and on names in them that nothing has; GET /warnings of the admin listener tells them."},
		func() float64 { return float64(len(eng.Warnings())) }))
	admin.Handle("GET /warnings", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for _, text := range eng.Warnings() {
			fmt.Fprintln(w, text)
		}
	}))
	g.Go(func() error { return daemon.ServeGRPC(ctx, l, server) })
	g.Go(func() error { return admin.Serve(ctx, adminListener, log) })
	g.Go(func() error { return admin.ServeHealth(ctx, cfg.health, log) })
	return g.Wait()
}

// setPolicies compiles and puts in force the policies of gw, or changes nothing.
func setPolicies(eng *engine.Engine, gw *gatewayconfig.Gateway, log *zap.Logger) error {
	set, err := policy.Load(gw.Name, gw.Authz.Backends, gw.Authz.Policies)
	if err != nil {
		return err
	}
	if !eng.SetPolicies(set) {
		return nil
	}
	for _, w := range set.Warnings() {
		log.Warn("policy", zap.String("warning", w))
	}
	log.Info("policies in force", zap.Int("policies", set.Len()), zap.String("revision", set.Revision()))
	return nil
}

func openAudit(path string, log *zap.Logger) (*audit.Log, error) {
	failed := func(err error) { log.Error("the audit trail cannot be written", zap.Error(err)) }
	var w io.Writer = os.Stdout
	if path != "-" {
		f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, fmt.Errorf("audit trail: %w", err)
		}
		w = f
	}
	return audit.New(w, failed), nil
}
