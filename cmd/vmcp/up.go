package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"vmcp/internal/daemon"
	"vmcp/internal/stack"
)

const upHelp = `usage: vmcp up -f FILE|DIR [flags]

Runs the gateway of your files on this machine until Ctrl-C: Envoy, the services, and for each MCPServer the program that
its annotation vmcp/command or --run names. When calls succeed it prints one line to stdout: ready URL.

example:
  vmcp up -f gateway.yaml --run 'demo/everything=npx -y @modelcontextprotocol/server-everything'
`

// up runs the gateway of the user's documents on this machine.
func up(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("vmcp up", flag.ContinueOnError)
	cfg := stack.Config{Progress: stderr}
	fs.Var((*daemon.List)(&cfg.Source.Paths), "f", "YAML `file or directory`; may be repeated")
	fs.StringVar(&cfg.Source.Name, "name", "", "`name` of the VirtualMCPServer to run, where the documents hold several")
	fs.StringVar(&cfg.Listen, "listen", "127.0.0.1:4483", "`address` for clients")
	fs.StringVar(&cfg.State, "state", "", "`directory` for keys, lists and logs (default ~/.local/state/vmcp/NAME)")
	fs.StringVar(&cfg.Source.Secrets, "secrets", "", "`directory` of secrets: <secret name>/<key>")
	fs.Var((*daemon.List)(&cfg.Run), "run", "`IMAGE='COMMAND ARGS…'`: start this program for an MCPServer with that image, before its annotation vmcp/command; may be repeated")
	fs.StringVar(&cfg.TLSCert, "tls-cert", "", "certificate `file`, PEM: clients connect by TLS")
	fs.StringVar(&cfg.TLSKey, "tls-key", "", "key `file`, PEM")
	fs.BoolVar(&cfg.PublicTLS, "public-tls", false, "TLS ends in front of this listener: issuer and resourceUrl name another origin")
	fs.BoolVar(&cfg.Anonymous, "allow-anonymous", false, "accept incomingAuth.type anonymous although --listen is not loopback: whoever reaches it calls what is permitted")
	fs.BoolVar(&cfg.EntraSim, "entra-sim", false, "sign in at a simulated Entra tenant on this machine instead of Microsoft's")
	fs.IntVar(&cfg.EntraVersion, "entra-sim-token-version", 0, "`version` of the simulation's access tokens: 1 or 2")
	fs.StringVar(&cfg.People, "entra-sim-people", "", "YAML `file` with the simulation's people and roles")
	fs.StringVar(&cfg.Tools, "tools", "", "`directory` where Envoy is found or installed (default .tools beside the binary's directory)")
	names, err := parse(fs, upHelp, args, stdout, stderr)
	if err != nil {
		return err
	}
	if cfg.Source.Paths = append(cfg.Source.Paths, names...); len(cfg.Source.Paths) == 0 {
		return wrongUsage(fs, stderr, "no file given")
	}
	self, err := os.Executable()
	if err == nil {
		self, err = filepath.EvalSymlinks(self)
	}
	if err != nil {
		return fmt.Errorf("finding the services beside this program: %w", err)
	}
	cfg.Bin = filepath.Dir(self)
	if cfg.Tools == "" {
		cfg.Tools = filepath.Join(filepath.Dir(cfg.Bin), ".tools")
	}
	cfg.Source.Loopback = true
	gw, _, err := check(cfg.Source) // the warnings come from authz, which knows the tools
	if err != nil {
		return printProblems(stderr, err)
	}
	s, err := stack.Start(ctx, cfg)
	if err == nil {
		sayNext(stderr, gw, s)
		fmt.Fprintln(stdout, "ready", s.URL)
		stopping := context.AfterFunc(ctx, func() { fmt.Fprintln(stderr, "stopping") })
		err = s.Wait()
		stopping()
	}
	if ctx.Err() != nil { // stopped as asked
		return nil
	}
	return printProblems(stderr, err)
}
