// Command aggregator is one MCP endpoint in front of many MCP servers: it dispatches what authz allowed, and lists what
// the caller may use. Only Envoy talks to it.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"vmcp/internal/daemon"
	"vmcp/internal/gatewayconfig"
	"vmcp/internal/keyring"
	"vmcp/internal/mtls"
	"vmcp/internal/stdio"
	gatewayv1 "vmcp/proto/gateway/v1"
	"vmcp/services/aggregator/internal/backend"
	"vmcp/services/aggregator/internal/fleet"
	"vmcp/services/aggregator/internal/gateway"
	"vmcp/services/aggregator/internal/inventory"
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
	for _, n := range gw.Notes {
		log.Info("configuration", zap.Stringer("note", n))
	}
	identity, err := mtls.Load(cfg.common.TLS, log)
	if err != nil {
		return err
	}
	sealKeys, err := keyring.Load(cfg.sealKeys)
	if err != nil {
		return fmt.Errorf("seal keys: %w", err)
	}
	sessionKeys, err := keyring.Load(cfg.sessionKeys)
	if err != nil {
		return fmt.Errorf("session keys: %w", err)
	}

	first, err := cfg.spec(gw)
	if err != nil {
		return err
	}
	var warnings []string
	if err := stdio.CanHide(); err != nil && starts(gw) {
		warnings = append(warnings, "stdio servers can read the gateway's keys and state: "+err.Error())
	}
	for _, w := range warnings {
		log.Warn(w)
	}

	lists := ""
	if cfg.state != "" {
		lists = filepath.Join(cfg.state, "lists")
	}
	admin := daemon.NewAdmin()
	backends := fleet.New(fleet.Config{Lists: lists, ServerInfo: gateway.ServerInfo(), Identity: identity, Metrics: backend.NewMetrics(admin.Metrics), Log: log}, first)
	// They outlive ctx: calls that were dispatched finish, and only when the listeners have drained do children and
	// sessions hear that it is over.
	defer backends.Close()
	inv := backends.Inventory()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return inv.Run(ctx) })

	// An authz that is just back is waited for, within the time of a decision, while the connection to it is made.
	conn, err := identity.Dial(cfg.authz, mtls.RoleAuthz, grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		return fmt.Errorf("authz %s: %w", cfg.authz, err)
	}
	defer conn.Close()
	gate := gateway.New(gateway.Config{
		VirtualServer: gw.Name, Fleet: backends, SealKeys: sealKeys, SessionKeys: sessionKeys,
		Permissions: gatewayv1.NewPermissionsClient(conn), Inventory: inv, Log: log,
	})
	context.AfterFunc(ctx, gate.Stop)
	g.Go(func() error { return gate.Run(ctx) })
	for _, keys := range []*keyring.Ring{sealKeys, sessionKeys} {
		g.Go(func() error { return keys.Run(ctx, log) })
	}

	documents := inForce{since: time.Now()}
	g.Go(func() error { return documents.follow(ctx, gw, backends, log) })

	catalogServer := grpc.NewServer()
	gatewayv1.RegisterCatalogServer(catalogServer, &inventory.Server{Inventory: inv, Done: ctx.Done()})
	admin.AddCheck("backends", inv.Ready)
	admin.Metrics.MustRegister(gauges{backends})
	admin.Handle("GET /status", status(backends, warnings, &documents))
	admin.HandleLocal("GET /tools/changed", changedTools(inv))
	admin.HandleLocal("POST /tools/approved", approveTools(inv))
	for _, s := range []struct {
		address string
		client  mtls.Role
		serve   func(l net.Listener) error
	}{
		{cfg.listen, mtls.RoleEnvoy, func(l net.Listener) error { return daemon.ServeHTTP(ctx, l, daemon.NewHTTPServer(gate, log)) }},
		{cfg.catalog, mtls.RoleAuthz, func(l net.Listener) error { return daemon.ServeGRPC(ctx, l, catalogServer) }},
	} {
		l, err := identity.Listen(s.address, s.client)
		if err != nil {
			return err
		}
		g.Go(func() error { return s.serve(l) })
	}
	g.Go(func() error { return admin.Run(ctx, cfg.common, log) })
	return g.Wait()
}
