// Command authserver signs people in: the OAuth 2.1 authorization server of MCP clients, and an OpenID Connect client
// of Entra. Envoy lets everybody reach it; authz watches its keys and revocations.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"vmcp/internal/daemon"
	"vmcp/internal/entra"
	"vmcp/internal/gatewayconfig"
	"vmcp/internal/keyring"
	"vmcp/internal/mtls"
	"vmcp/internal/secret"
	"vmcp/internal/token"
	gatewayv1 "vmcp/proto/gateway/v1"
	"vmcp/services/authserver/internal/feed"
	"vmcp/services/authserver/internal/oauth"
	"vmcp/services/authserver/internal/signing"
	"vmcp/services/authserver/internal/store"
)

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
	if gw.AuthServer == nil || len(gw.AuthServer.Upstreams) == 0 {
		return fmt.Errorf("VirtualMCPServer %s has no authServerConfig: there is nothing for authserver to do", gw.Name)
	}
	secrets := &current{}
	secrets.set(gw.AuthServer)
	upstream, origin, err := newUpstream(gw.AuthServer.Upstreams[0], secrets, log)
	if err != nil {
		return err
	}
	if cfg.entra != "" {
		log.Warn("Entra is simulated: whoever reaches the gateway may sign in as anybody", zap.String("address", cfg.entra))
	}
	identity, err := mtls.Load(cfg.common.TLS, log)
	if err != nil {
		return err
	}
	ring, err := keyring.Load(cfg.keys)
	if err != nil {
		return fmt.Errorf("authserver keys: %w", err)
	}
	if err := os.MkdirAll(cfg.state, 0o700); err != nil {
		return fmt.Errorf("making the state directory: %w", err)
	}
	db, err := store.Open(filepath.Join(cfg.state, "authserver.db"), ring)
	if err != nil {
		return err
	}
	defer db.Close()
	keys, err := signing.Open(ctx, signing.Config{Store: db, Overlap: gw.AuthServer.AccessToken + token.Margin, Log: log}, signingKeys(gw.AuthServer))
	if err != nil {
		return err
	}
	server := oauth.New(oauth.Config{
		AuthServer: *gw.AuthServer, Name: gw.Name, Endpoint: gw.Endpoint, Upstream: upstream, UpstreamOrigin: origin,
		Store: db, Keys: keys, Secrets: ring, HMACKeys: func() []secret.Value { return hmacKeys(secrets.get().HMACKeys, ring) }, Log: log,
	})

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return upstream.Run(ctx) })
	g.Go(func() error { return keys.Run(ctx) })
	g.Go(func() error { return db.Run(ctx, func(err error) { log.Error("store", zap.Error(err)) }) })
	g.Go(func() error { return ring.Run(ctx, log) })
	g.Go(func() error {
		return gatewayconfig.Watch(ctx, cfg.source, time.Second, func(next *gatewayconfig.Gateway, err error) {
			if err == nil {
				err = reload(ctx, gw, next, secrets, keys, log)
			}
			if err != nil {
				log.Error("documents not reloaded, the last good ones stay in force", zap.Error(err))
			}
		})
	})

	rpc := grpc.NewServer()
	gatewayv1.RegisterKeysServer(rpc, &feed.Keys{Signing: keys, Done: ctx.Done()})
	gatewayv1.RegisterRevocationsServer(rpc, &feed.Revocations{Store: db, Done: ctx.Done()})
	admin := daemon.NewAdmin()
	admin.AddCheck("entra", upstream.Ready)
	for _, s := range []struct {
		address string
		clients []mtls.Role
		serve   func(l net.Listener) error
	}{
		{cfg.listen, []mtls.Role{mtls.RoleEnvoy}, func(l net.Listener) error { return daemon.ServeHTTP(ctx, l, daemon.NewHTTPServer(server, log)) }},
		{cfg.rpc, []mtls.Role{mtls.RoleAuthz}, func(l net.Listener) error { return daemon.ServeGRPC(ctx, l, rpc) }},
	} {
		l, err := identity.Listen(s.address, s.clients...)
		if err != nil {
			return err
		}
		g.Go(func() error { return s.serve(l) })
	}
	g.Go(func() error { return admin.Run(ctx, cfg.common, log) })
	return g.Wait()
}

// current holds the secrets of the documents, which may change while we run.
type current struct {
	p atomic.Pointer[gatewayconfig.AuthServer]
}

func (c *current) get() *gatewayconfig.AuthServer  { return c.p.Load() }
func (c *current) set(a *gatewayconfig.AuthServer) { c.p.Store(a) }

// newUpstream makes the client of the identity provider, and says where browsers are sent.
func newUpstream(u gatewayconfig.Upstream, secrets *current, log *zap.Logger) (*entra.Client, string, error) {
	client, err := entra.New(entra.Config{
		IssuerURL: u.IssuerURL, ClientID: u.ClientID, RedirectURI: u.RedirectURI, Scopes: u.Scopes, Address: cfg.entra, Log: log,
		Secret: func() secret.Value { return secrets.get().Upstreams[0].ClientSecret },
	})
	if err != nil {
		return nil, "", err
	}
	if cfg.entra != "" {
		return client, cfg.entra, nil
	}
	issuer, err := url.Parse(u.IssuerURL)
	if err != nil {
		return nil, "", fmt.Errorf("issuer of %s: %w", u.Name, err)
	}
	return client, issuer.Scheme + "://" + issuer.Host, nil
}

// hmacKeys are those of the documents, else derived from the key ring, the newest first.
func hmacKeys(configured []secret.Value, ring *keyring.Ring) []secret.Value {
	if len(configured) > 0 {
		return configured
	}
	var derived []secret.Value
	for _, k := range ring.All() {
		derived = append(derived, secret.Value(k.MAC("authserver tokens", nil)))
	}
	return derived
}

// reload puts new secrets and signing keys in force. Everything else needs a restart.
func reload(ctx context.Context, gw, next *gatewayconfig.Gateway, secrets *current, keys *signing.Keys, log *zap.Logger) error {
	if next.AuthServer == nil || len(next.AuthServer.Upstreams) == 0 {
		return errors.New("authServerConfig is gone from the documents")
	}
	if err := keys.Configure(ctx, signingKeys(next.AuthServer)); err != nil {
		return err
	}
	secrets.set(next.AuthServer)
	if !reflect.DeepEqual(withoutSecrets(gw.AuthServer), withoutSecrets(next.AuthServer)) || !reflect.DeepEqual(gw.Endpoint, next.Endpoint) {
		log.Warn("authServerConfig or the endpoint changed in the documents: that needs a restart of authserver; secrets are reloaded")
	}
	return nil
}

func signingKeys(a *gatewayconfig.AuthServer) signing.Documents {
	return signing.Documents{PEM: a.SigningKeys, Drop: a.DropRemovedKeys}
}

func withoutSecrets(a *gatewayconfig.AuthServer) gatewayconfig.AuthServer {
	c := *a
	c.SigningKeys, c.DropRemovedKeys, c.HMACKeys, c.Upstreams = nil, false, nil, nil
	for _, u := range a.Upstreams {
		u.ClientSecret = ""
		c.Upstreams = append(c.Upstreams, u)
	}
	return c
}
