// Command bridge serves an MCP server that speaks over stdio as one of Streamable HTTP, beside it in its container: a
// child for each session. In a cluster it takes the gateway's aggregator for a client and nobody else.
//
//	bridge -listen :8443 -tls /etc/vmcp/mtls -- PROGRAM ARGS…
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"vmcp/internal/daemon"
	"vmcp/internal/mtls"
)

var (
	common   daemon.Flags
	install  = flag.String("install", "", "copy this program to `path` and end: how an init container brings it to the server's image")
	listen   = flag.String("listen", "127.0.0.1:8080", "`address` for clients; on TCP those that have the aggregator's role")
	sessions = flag.Int("max-sessions", 16, "children at one time; above it the longest idle one is ended")
	idle     = flag.Duration("idle", 30*time.Minute, "a session without calls and without a stream ends after this")
)

func main() {
	common.Declare(flag.CommandLine, "bridge")
	// What is behind -- is the server's.
	var command []string
	if at := slices.Index(os.Args, "--"); at >= 0 {
		os.Args, command = os.Args[:at], os.Args[at+1:]
	}
	flag.Usage = func() {
		fmt.Fprint(flag.CommandLine.Output(), "usage: bridge [flags] -- PROGRAM ARGS…\n\nServes the MCP server PROGRAM, which speaks over stdio, as one of Streamable HTTP.\n\n")
		flag.PrintDefaults()
	}
	daemon.Main(func(ctx context.Context, log *zap.Logger) error { return run(ctx, command, log) })
}

func run(ctx context.Context, command []string, log *zap.Logger) error {
	if *install != "" {
		return daemon.Install(*install)
	}
	if len(command) == 0 {
		return errors.New("no program given: bridge [flags] -- PROGRAM ARGS…")
	}
	if *sessions < 1 || *idle < time.Second {
		return errors.New("-max-sessions: at least 1; -idle: at least 1s")
	}
	if _, err := exec.LookPath(command[0]); err != nil {
		return fmt.Errorf("the program is not there: %w", err)
	}
	identity, err := mtls.Load(common.TLS, log)
	if err != nil {
		return err
	}
	s := newServer(command, *sessions, *idle, log)
	if common.TLS != "" {
		s.hide = []string{common.TLS}
	}
	defer s.Close() // the listener has drained by then
	l, err := identity.Listen(*listen, mtls.RoleAggregator)
	if err != nil {
		return err
	}
	pages := daemon.NewAdmin()
	pages.AddCheck("server", s.ready)
	g, ctx := errgroup.WithContext(ctx)
	context.AfterFunc(ctx, s.Drain)
	g.Go(func() error { return daemon.ServeHTTP(ctx, l, daemon.NewHTTPServer(s, log)) })
	g.Go(func() error { return s.Run(ctx) })
	g.Go(func() error { return pages.Run(ctx, common, log) })
	return g.Wait()
}
