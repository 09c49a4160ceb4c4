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
	"os"
	"reflect"
	"slices"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"vmcp/internal/daemon"
	"vmcp/internal/gatewayconfig"
	"vmcp/internal/keyring"
	"vmcp/internal/mcpwire"
	"vmcp/internal/mtls"
	"vmcp/internal/policy"
	"vmcp/internal/token"
	"vmcp/services/authz/internal/audit"
	"vmcp/services/authz/internal/engine"
	"vmcp/services/authz/internal/extauthz"
	"vmcp/services/authz/internal/follow"
	"vmcp/services/authz/internal/revocation"
)

var cfg config

func main() {
	cfg.flags(flag.CommandLine)
	daemon.Main(run)
}

// task is something that runs until its context ends. All of them start when everything is built.
type task func(context.Context) error

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
	identity, err := mtls.Load(cfg.common.TLS, log)
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
	eng := newEngine(auditLog, log)
	if err := setPolicies(eng, gw, log); err != nil {
		return err
	}
	check := extauthz.Config{
		VirtualServer: gw.Name, Endpoint: gw.Endpoint, Issuer: gw.Authz.Issuer.URL, Loopback: loopback,
		Engine: eng, Keys: sealKeys, Audit: auditLog, Log: log,
	}
	verifying, closeFeed, err := verification(gw, &check, identity)
	if err != nil {
		return err
	}
	defer closeFeed()
	watching, err := watches(gw, &check, identity)
	if err != nil {
		return err
	}
	serving, err := servers(extauthz.New(check), &check, identity)
	if err != nil {
		return err
	}

	g, ctx := errgroup.WithContext(ctx)
	for _, t := range slices.Concat(verifying, watching, serving) {
		g.Go(func() error { return t(ctx) })
	}
	return g.Wait()
}

func newEngine(to *audit.Log, log *zap.Logger) *engine.Engine {
	return engine.New(func(kind mcpwire.ItemKind, name string) {
		log.Error("aggregator replicas disagree, denied", zap.String("kind", kind.String()), zap.String("name", name))
	}, func(remarks []string) {
		for _, r := range remarks {
			log.Warn("policy", zap.String("warning", r))
		}
	}, func(t engine.ChangedTool) { noteChanged(to, t) })
}

// noteChanged records that a tool is not as it was approved, or is again (annotation vmcp/pin).
func noteChanged(to *audit.Log, t engine.ChangedTool) {
	reason := "tool_changed"
	switch {
	case t.Settled:
		reason = "tool_as_approved"
	case t.Hidden:
		reason = "tool_hidden"
	}
	// Where the trail cannot be written, the log tells: nothing is allowed by this.
	_ = to.Write(audit.Record{Time: time.Now(), Decision: "note", Reason: reason, Backend: t.Backend, Original: t.Original, Definition: t.Definition})
}

// verification gives check what tells who asks: a verifier, and for tokens of our own the list of those that were ended.
func verification(gw *gatewayconfig.Gateway, check *extauthz.Config, identity *mtls.Identity) (tasks []task, closeFeed func(), err error) {
	log, nothing := check.Log, func() {}
	if gw.Authz.Anonymous {
		if check.Loopback == 0 && !cfg.anonymous {
			return nil, nothing, errors.New("incomingAuth.type is anonymous, but clients do not connect by loopback: anybody could call every permitted tool; -allow-anonymous accepts that")
		}
		log.Warn("anonymous access: whoever reaches the endpoint may use what the policies permit to Client::\"anonymous\"")
		return nil, nothing, nil
	}
	own := gw.Authz.Issuer.Own
	check.Verifier, err = token.New(token.Config{
		Issuer: gw.Authz.Issuer, Audience: gw.Endpoint.Audience, KeysFile: cfg.kept("issuer-keys.json"), Pushed: own, Log: log,
	}, extauthz.NewCaller)
	if err != nil {
		return nil, nothing, err
	}
	if !own {
		return []task{check.Verifier.Run}, nothing, nil
	}
	conn, err := identity.Dial(cfg.authserver, mtls.RoleAuthServer)
	if err != nil {
		return nil, nothing, fmt.Errorf("authserver: %w", err)
	}
	check.Revoked = revocation.New(revocation.Config{File: cfg.kept("revocations.json"), Silence: gw.AuthServer.RevocationSilence, Log: log})
	return []task{
		func(ctx context.Context) error { return check.Revoked.Watch(ctx, conn) },
		func(ctx context.Context) error { return follow.Keys(ctx, conn, check.Verifier.SetKeys, log) },
	}, func() { conn.Close() }, nil
}

// watches keep up with the catalogs of the aggregators, the keys and the documents.
func watches(gw *gatewayconfig.Gateway, check *extauthz.Config, identity *mtls.Identity) (tasks []task, err error) {
	log := check.Log
	for _, address := range cfg.aggregator {
		replicas, err := engine.NewReplicas(address, check.Engine, identity, log)
		if err != nil {
			return nil, err
		}
		tasks = append(tasks, replicas.Run)
	}
	return append(tasks,
		func(ctx context.Context) error { return check.Keys.Run(ctx, log) },
		func(ctx context.Context) error {
			return gatewayconfig.Watch(ctx, cfg.source, time.Second, func(next *gatewayconfig.Gateway, err error) {
				if err == nil {
					err = setPolicies(check.Engine, next, log)
					if !reflect.DeepEqual(next.Endpoint, gw.Endpoint) || !reflect.DeepEqual(next.Authz.Issuer, gw.Authz.Issuer) || !reflect.DeepEqual(next.TrustedProxies, gw.TrustedProxies) {
						log.Warn("endpoint, issuer or trusted proxies changed in the documents: that needs a restart; policies are reloaded")
					}
				}
				if err != nil {
					log.Error("documents not reloaded, the last good ones stay in force", zap.Error(err))
				}
			})
		}), nil
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
