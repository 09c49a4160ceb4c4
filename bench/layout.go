package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"vmcp/internal/browser"
	"vmcp/internal/child"
	"vmcp/internal/durable"
	"vmcp/internal/freeport"
	"vmcp/internal/gatewayconfig"
	"vmcp/internal/stack"
	"vmcp/internal/token/tokentest"
)

// plan says what stands in a layout.
type plan struct {
	servers, tools int // processes, and tools of each
	more           []entry
	tokens         whose
	via            func(server int, url string) string // the way to a server; nil: its URL
	ready          func(servers []entry)               // is told before the gateway starts
}

// entry is an MCPServerEntry of the gateway.
type entry struct {
	name, url string
	spec      string // further lines, indented by two
}

// whose are the tokens of a layout.
type whose int

const (
	given whose = iota // of a test issuer
	own                // of our authorization server, which signs in at a simulated Entra tenant
)

// layout is a gateway in front of backends.
type layout struct {
	*stack.Stack
	issuer  *tokentest.Issuer
	origin  string
	token   string
	entries []entry // those of the plan's servers first
	config  string  // lines of spec.config of the VirtualMCPServer, indented by two
	pids    []int   // of the plan's servers
	end     func()

	dir    string
	tokens whose
}

const document = `apiVersion: toolhive.stacklok.dev/v1beta1
kind: %s
metadata: {name: %s}
spec:
%s
---
`

// newLayout starts issuer, backends and gateway, and returns when the tools of the plan's servers are listed. A further
// entry may have nobody behind it.
func newLayout(ctx context.Context, p plan) (*layout, error) {
	dir, err := os.MkdirTemp("", "vmcp-bench-")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	l := &layout{dir: dir, tokens: p.tokens}
	ended := make(chan error, p.servers)
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
	for i := range p.servers {
		addr, err := freeport.Address()
		if err != nil {
			return fail(err)
		}
		started := make(chan int, 1)
		running++
		go func() {
			ended <- child.Run(ctx, child.Config{Name: "backend", Path: filepath.Join(absBin, "echo-mcp"), Log: filepath.Join(dir, "backend.log"),
				Args: []string{"--http", addr, "--tools", fmt.Sprint(p.tools)}, Started: func(pid int) { started <- pid }})
		}()
		l.pids = append(l.pids, <-started)
		url := "http://" + addr + "/mcp"
		if p.via != nil {
			url = p.via(i, url)
		}
		l.entries = append(l.entries, entry{name: fmt.Sprintf("backend-%02d", i), url: url})
	}
	if p.ready != nil {
		p.ready(l.entries)
	}
	l.entries = append(l.entries, p.more...)
	listen, err := freeport.Address()
	if err != nil {
		return fail(err)
	}
	_, port, _ := net.SplitHostPort(listen)
	l.origin = "http://localhost:" + port
	secret := filepath.Join(dir, "secrets", "idp-client-secret")
	if err := os.MkdirAll(secret, 0o700); err != nil {
		return fail(err)
	}
	if err := os.WriteFile(filepath.Join(secret, "client-secret"), []byte("bench"), 0o600); err != nil {
		return fail(err)
	}
	if err := l.write(); err != nil {
		return fail(err)
	}
	if l.Stack, err = stack.Start(ctx, stack.Config{
		Source: gatewayconfig.Source{Paths: []string{l.path()}, Secrets: filepath.Join(dir, "secrets")}, EntraSim: p.tokens == own,
		Listen: listen, State: filepath.Join(dir, "state"),
		Bin: absBin, Tools: filepath.Join(filepath.Dir(absBin), ".tools"),
	}); err != nil {
		return fail(fmt.Errorf("the gateway did not start: %w", err))
	}
	if l.token, err = l.signIn(ctx); err != nil {
		return fail(err)
	}
	if err := l.waitListed(ctx, func(names map[string]bool) bool { return len(names) >= p.servers*p.tools }); err != nil {
		return fail(err)
	}
	return l, nil
}

func (l *layout) path() string { return filepath.Join(l.dir, "gateway.yaml") }

func (l *layout) signIn(ctx context.Context) (string, error) {
	if l.tokens == given {
		return l.person("bench"), nil
	}
	app, err := browser.NewApplication(ctx, l.URL, "bench")
	if err != nil {
		return "", err
	}
	got, err := app.SignIn(ctx, browser.New(), "dev@contoso.example")
	if err != nil {
		return "", err
	}
	return got.Access, nil
}

// person is a token of the test issuer.
func (l *layout) person(subject string) string {
	return l.issuer.Mint(map[string]any{"sub": subject, "aud": l.origin, "client_id": "bench", "roles": []string{"mcp-developers"},
		"exp": time.Now().Add(8 * time.Hour).Unix()})
}

// write writes the documents, anew when entries or config have changed.
func (l *layout) write() error {
	var docs strings.Builder
	add := func(kind, name, spec string) { fmt.Fprintf(&docs, document, kind, name, spec) }
	add("MCPGroup", "bench", "  description: bench")
	for _, e := range l.entries {
		add("MCPServerEntry", e.name, "  groupRef: {name: bench}\n  transport: streamable-http\n  remoteUrl: "+e.url+"\n"+e.spec)
	}
	issuer, authServer := l.issuer.URL, ""
	if l.tokens == own {
		issuer, authServer = l.origin, strings.ReplaceAll(authServerConfig, "ORIGIN", l.origin)
	}
	add("MCPOIDCConfig", "issuer", "  type: inline\n  inline: {issuer: '"+issuer+"', insecureAllowHTTP: true, jwksAllowPrivateIP: true}")
	add("VirtualMCPServer", "bench-server", `  groupRef: {name: bench}
`+authServer+l.config+`
  incomingAuth:
    type: oidc
    oidcConfigRef: {name: issuer, audience: '`+l.origin+`', resourceUrl: '`+l.origin+`'}
    authzConfig:
      type: inline
      inline:
        policies:
          - permit(principal in THVGroup::"mcp-developers", action, resource);
          - forbid(principal in THVGroup::"mcp-developers", action == Action::"call_tool", resource == Tool::"delete_namespace");
          - permit(principal in THVGroup::"mcp-platform", action, resource);
          - permit(principal in THVGroup::"mcp-admin", action, resource);`)
	return durable.Write(l.path(), []byte(docs.String()))
}

// waitListed returns when the first page of tools (1,000) is what enough says is enough.
func (l *layout) waitListed(ctx context.Context, enough func(names map[string]bool) bool) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	t := newTarget(l.URL, l.token, "", true)
	for {
		body, err := t.list(ctx, "", 1)
		if err == nil {
			var got struct {
				Result struct{ Tools []struct{ Name string } }
			}
			if err := json.Unmarshal(body, &got); err != nil {
				return err
			}
			names := map[string]bool{}
			for _, tool := range got.Result.Tools {
				names[tool.Name] = true
			}
			if enough(names) {
				return nil
			}
			err = fmt.Errorf("%d tools are listed", len(names))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for tools: %w; %v", ctx.Err(), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
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
