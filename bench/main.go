// Command bench measures what the gateway adds: the same calls to an MCP server directly and through the whole chain
// of Envoy, authz (Cedar on) and aggregator, on loopback, with the CPU time of each process. It states figures and
// judges none: docs/performance.md does.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"vmcp/internal/browser"
	"vmcp/internal/child"
	"vmcp/internal/freeport"
	"vmcp/internal/gatewayconfig"
	"vmcp/internal/stack"
	"vmcp/internal/token/tokentest"
)

var (
	bin      = flag.String("bin", "bin", "directory of the built binaries")
	duration = flag.Duration("t", 3*time.Second, "time of each measurement, at most 30s")
	only     = flag.String("run", "call,list,session,memory,own", "which parts, by comma")
	eras     = flag.String("eras", "2025-11-25,2026-07-28", "protocol eras of call, by comma")
	clients  = flag.String("c", "1,8,64", "numbers of concurrent clients of call, by comma")
	repeats  = flag.Int("n", 3, "repetitions of each call measurement; the median by CPU is shown")
)

func main() {
	flag.Parse()
	if *duration > 30*time.Second || *repeats > 20 {
		fmt.Fprintln(os.Stderr, "bench: loads are bounded: -t at most 30s, -n at most 20")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	parts := map[string]func(context.Context) error{"call": calls, "list": lists, "session": opens, "memory": memory, "own": ownTokens}
	for _, name := range strings.Split(*only, ",") {
		part := parts[name]
		if part == nil {
			return fmt.Errorf("-run: unknown part %q", name)
		}
		if err := part(ctx); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// layout is a gateway in front of n backends with tools each.
type layout struct {
	*stack.Stack
	issuer   *tokentest.Issuer
	token    string
	backends []string // URLs
	pids     []int    // of the backends
	end      func()
}

// whose are the tokens of a layout.
type whose int

const (
	given whose = iota // of a test issuer
	own                // of our authorization server, which signs in at a simulated Entra tenant
)

const document = `apiVersion: toolhive.stacklok.dev/v1beta1
kind: %s
metadata: {name: %s}
spec:
%s
---
`

// newLayout starts issuer, backends and gateway, and returns when calls succeed.
func newLayout(ctx context.Context, n, tools int, tokens whose) (*layout, error) {
	dir, err := os.MkdirTemp("", "vmcp-bench-")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	l := &layout{}
	ended := make(chan error, n)
	running := 0
	l.end = func() {
		cancel()
		for range running {
			<-ended
		}
		if l.Stack != nil {
			l.Wait()
		}
		if l.issuer != nil {
			l.issuer.Close()
		}
		os.RemoveAll(dir)
	}
	fail := func(err error) (*layout, error) { l.end(); return nil, err }

	if l.issuer, err = tokentest.Start("127.0.0.1:0"); err != nil {
		return fail(err)
	}
	absBin, err := filepath.Abs(*bin)
	if err != nil {
		return fail(err)
	}
	var docs strings.Builder
	write := func(kind, name, spec string) { fmt.Fprintf(&docs, document, kind, name, spec) }
	write("MCPGroup", "bench", "  description: bench")
	for i := range n {
		addr, err := freeport.Address()
		if err != nil {
			return fail(err)
		}
		started := make(chan int, 1)
		running++
		go func() {
			ended <- child.Run(ctx, child.Config{Name: "backend", Path: filepath.Join(absBin, "echo-mcp"), Log: filepath.Join(dir, "backend.log"),
				Args: []string{"--http", addr, "--tools", fmt.Sprint(tools)}, Started: func(pid int) { started <- pid }})
		}()
		l.pids = append(l.pids, <-started)
		url := "http://" + addr + "/mcp"
		l.backends = append(l.backends, url)
		write("MCPServerEntry", fmt.Sprintf("backend-%02d", i),
			"  groupRef: {name: bench}\n  transport: streamable-http\n  remoteUrl: "+url)
	}
	listen, err := freeport.Address()
	if err != nil {
		return fail(err)
	}
	_, port, _ := net.SplitHostPort(listen)
	origin := "http://localhost:" + port
	issuer, authServer := l.issuer.URL, ""
	if tokens == own {
		issuer, authServer = origin, strings.ReplaceAll(authServerConfig, "ORIGIN", origin)
		secret := filepath.Join(dir, "secrets", "idp-client-secret")
		if err := os.MkdirAll(secret, 0o700); err != nil {
			return fail(err)
		}
		if err := os.WriteFile(filepath.Join(secret, "client-secret"), []byte("bench"), 0o600); err != nil {
			return fail(err)
		}
	}
	write("MCPOIDCConfig", "issuer", "  type: inline\n  inline: {issuer: '"+issuer+"', insecureAllowHTTP: true, jwksAllowPrivateIP: true}")
	write("VirtualMCPServer", "bench-server", `  groupRef: {name: bench}
`+authServer+`
  incomingAuth:
    type: oidc
    oidcConfigRef: {name: issuer, audience: '`+origin+`', resourceUrl: '`+origin+`'}
    authzConfig:
      type: inline
      inline:
        policies:
          - permit(principal in THVGroup::"mcp-developers", action, resource);
          - forbid(principal in THVGroup::"mcp-developers", action == Action::"call_tool", resource == Tool::"delete_namespace");
          - permit(principal in THVGroup::"mcp-platform", action, resource);
          - permit(principal in THVGroup::"mcp-admin", action, resource);`)
	path := filepath.Join(dir, "gateway.yaml")
	if err := os.WriteFile(path, []byte(docs.String()), 0o600); err != nil {
		return fail(err)
	}
	if l.Stack, err = stack.Start(ctx, stack.Config{
		Source: gatewayconfig.Source{Paths: []string{path}, Secrets: filepath.Join(dir, "secrets")}, EntraSim: tokens == own,
		Listen: listen, State: filepath.Join(dir, "state"),
		Bin: absBin, Tools: filepath.Join(filepath.Dir(absBin), ".tools"),
	}); err != nil {
		return fail(fmt.Errorf("the gateway did not start: %w", err))
	}
	if tokens == own {
		app, err := browser.NewApplication(ctx, l.URL, "bench")
		if err != nil {
			return fail(err)
		}
		got, err := app.SignIn(ctx, browser.New(), "dev@contoso.example")
		if err != nil {
			return fail(err)
		}
		l.token = got.Access
		return l, l.waitListed(ctx, n*tools)
	}
	l.token = l.issuer.Mint(map[string]any{"sub": "bench", "aud": origin, "client_id": "bench", "roles": []string{"mcp-developers"},
		"exp": time.Now().Add(8 * time.Hour).Unix()})
	return l, l.waitListed(ctx, n*tools)
}

const authServerConfig = `  authServerConfig:
    issuer: 'ORIGIN'
    upstreamProviders:
      - name: entra
        type: oidc
        oidcConfig:
          issuerUrl: 'https://login.microsoftonline.com/7e4a0000-0000-4000-8000-000000000001/v2.0'
          clientId: 'c11e4700-0000-4000-8000-000000000001'
          clientSecretRef: {name: idp-client-secret, key: client-secret}
          redirectUri: 'ORIGIN/oauth/callback'
          scopes: ['api://c11e4700-0000-4000-8000-000000000001/mcp.access', openid, profile, email, offline_access]`
