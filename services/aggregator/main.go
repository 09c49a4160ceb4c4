// Command aggregator is one MCP endpoint in front of many MCP servers: it dispatches what authz allowed, and lists what
// the caller may use. Only Envoy talks to it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"reflect"
	"slices"
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

	hide, err := cfg.hidden(gw)
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

	g, ctx := errgroup.WithContext(ctx)
	// Backends outlive ctx: calls that were dispatched finish, and only when the listeners have drained do children and
	// sessions hear that it is over.
	open, closeBackends := context.WithCancel(context.WithoutCancel(ctx))
	var running errgroup.Group
	defer running.Wait()
	defer closeBackends()
	backends := map[string]*backend.Backend{}
	var sources []inventory.Source
	for _, b := range gw.Aggregator.Backends {
		command, err := cfg.command(b)
		if err != nil {
			return err
		}
		to := backend.New(backend.Config{Backend: b, Command: command, Hide: hide, ServerInfo: gateway.ServerInfo(), Log: log})
		backends[b.Name] = to
		sources = append(sources, inventory.Source{Name: b.Name, Stdio: b.Transport == gatewayconfig.TransportStdio,
			List: to.List, Changed: to.Changed()})
		running.Go(func() error { return to.Run(open) })
	}
	lists := ""
	if cfg.state != "" {
		lists = filepath.Join(cfg.state, "lists")
	}
	inv := inventory.New(&gw.Aggregator, sources, lists, log)
	g.Go(func() error { return inv.Run(ctx) })

	conn, err := identity.Dial(cfg.authz, mtls.RoleAuthz)
	if err != nil {
		return fmt.Errorf("authz %s: %w", cfg.authz, err)
	}
	defer conn.Close()
	gate := gateway.New(gateway.Config{
		VirtualServer: gw.Name, Aggregator: &gw.Aggregator, SealKeys: sealKeys, SessionKeys: sessionKeys,
		Permissions: gatewayv1.NewPermissionsClient(conn), Inventory: inv, Backends: backends, Log: log,
	})
	context.AfterFunc(ctx, gate.Stop)
	g.Go(func() error { return gate.Run(ctx) })
	for _, keys := range []*keyring.Ring{sealKeys, sessionKeys} {
		g.Go(func() error { return keys.Run(ctx, log) })
	}

	g.Go(func() error {
		return gatewayconfig.Watch(ctx, cfg.source, time.Second, func(next *gatewayconfig.Gateway, err error) {
			switch {
			case err != nil:
				log.Error("documents not read again", zap.Error(err))
			case !reflect.DeepEqual(next.Aggregator, gw.Aggregator):
				log.Warn("backends changed in the documents: that needs a restart of the aggregator")
			}
		})
	})

	catalogServer := grpc.NewServer()
	gatewayv1.RegisterCatalogServer(catalogServer, &inventory.Server{Inventory: inv, Done: ctx.Done()})
	admin := daemon.NewAdmin()
	admin.AddCheck("backends", inv.Ready)
	admin.Handle("GET /status", status(inv, warnings))
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

// command is the program that stands for a stdio backend's image.
func (c *config) command(b gatewayconfig.Backend) ([]string, error) {
	if b.Kind != "MCPServer" {
		return nil, nil
	}
	command := c.commands[b.Name]
	switch {
	case command == nil:
		return nil, fmt.Errorf("MCPServer %s: no program stands for its image here: give -run '%s=COMMAND ARGS…'", b.Name, b.Name)
	case b.Transport != gatewayconfig.TransportStdio:
		return nil, errors.New("MCPServer " + b.Name + ": transport " + string(b.Transport) + ": only stdio servers are started here; name a running one by an MCPServerEntry")
	}
	return command, nil
}

// starts says whether any backend is a child of this process.
func starts(gw *gatewayconfig.Gateway) bool {
	return slices.ContainsFunc(gw.Aggregator.Backends, func(b gatewayconfig.Backend) bool {
		return b.Transport == gatewayconfig.TransportStdio
	})
}

// status lists the backends and their state, and what is wrong here for as long as we run, for people.
func status(inv *inventory.Inventory, warnings []string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{"backends": inv.Status(), "warnings": warnings}) // the client is gone where it fails
	}
}
