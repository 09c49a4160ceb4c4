package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"vmcp/internal/await"
	"vmcp/internal/stack"
)

// npm installs the pinned packages of a directory once, and skips the story, loudly, where Node is missing.
func npm(t *testing.T, dir string) string {
	t.Helper()
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			fmt.Fprintf(os.Stderr, "\n*** SKIPPED: %s needs Node (%s is not on PATH). Nothing was shown about npm servers and clients.\n\n", t.Name(), tool)
			t.Skipf("%s is not on PATH", tool)
		}
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	npmOnce.Lock()
	defer npmOnce.Unlock()
	lock, err := os.Stat(filepath.Join(dir, "package-lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	if done, err := os.Stat(filepath.Join(dir, "node_modules", ".package-lock.json")); err == nil && done.ModTime().After(lock.ModTime()) {
		return dir
	}
	cmd := exec.CommandContext(t.Context(), "npm", "ci", "--no-audit", "--no-fund")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("npm ci in %s: %v\n%s", dir, err, out)
	}
	return dir
}

var npmOnce sync.Mutex

// serve runs a server program until the end of the story and waits until it answers at url.
func serve(t *testing.T, url string, env []string, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	var log strings.Builder
	var mu sync.Mutex
	cmd.Stdout = lockedWriter{&mu, &log}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
		if t.Failed() {
			t.Logf("%s:\n%s", name, log.String())
		}
	})
	await.That(t, name+" serves "+url, func() bool {
		select {
		case <-ended:
			t.Fatalf("%s ended:\n%s", name, log.String())
		default:
		}
		resp, err := plain.Get(url)
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	})
}

type lockedWriter struct {
	mu *sync.Mutex
	b  *strings.Builder
}

func (w lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

// session is what one client saw and got.
type session struct {
	Version, Session string
	Tools, Prompts   []string
	Resources, Calls []string
	Denied, After    string
	Read, Prompt     string
	Refreshed        int // how often a client that signed in got new tokens by itself
}

// plan is what a client is to do.
type plan struct {
	Calls     []string       `json:"calls"`
	Arguments map[string]any `json:"arguments"` // of every call
	Denied    string         `json:"denied"`
	Read      string         `json:"read,omitempty"`
	Prompt    string         `json:"prompt,omitempty"`
}

// TestNPM: the reference server of the MCP project, over HTTP and over stdio, and the clients that people have.
func TestNPM(t *testing.T) {
	dir := npm(t, "node")
	everything := filepath.Join(dir, "node_modules", "@modelcontextprotocol", "server-everything", "dist", "index.js")
	addr := freeAddress(t)
	_, port, _ := strings.Cut(addr, ":")
	serve(t, "http://"+addr+"/mcp", []string{"PORT=" + port}, "node", everything, "streamableHttp")
	w := startWith(t, guide, func(cfg *stack.Config) {
		cfg.Run = append(cfg.Run, "npm/server-everything=node "+everything+" stdio")
	}, behind("everything-http", "http://"+addr+"/mcp"), stdioServer("everything-stdio", "npm/server-everything"))
	token := w.token("ann", "mcp-developers")
	scout := &caller{w: w, token: token}
	backends := []string{"everything-http", "everything-stdio"}
	p := plan{Denied: forbiddenTool, Arguments: map[string]any{"message": "hello"}}
	for _, b := range backends {
		p.Calls = append(p.Calls, b+"_echo")
		await.That(t, b+" is listed", func() bool { return slices.Contains(scout.list(t, "tools"), b+"_echo") })
	}
	resources, prompts := scout.list(t, "resources"), scout.list(t, "prompts")
	for _, uri := range resources {
		if strings.HasPrefix(uri, "demo://") {
			p.Read = uri
		}
	}
	for _, name := range prompts {
		if strings.HasPrefix(name, "everything-stdio_simple") {
			p.Prompt = name
		}
	}
	if p.Read == "" || p.Prompt == "" {
		t.Fatalf("resources %q, prompts %q", resources, prompts)
	}
	tools := scout.list(t, "tools")
	slices.Sort(tools)

	for _, c := range []struct {
		name    string
		version string
		run     func(t *testing.T) session
	}{
		{"Go SDK", "2026-07-28", func(t *testing.T) session { return goClient(t, w, token, p, nil) }},
		{"Go SDK, legacy", "2025-11-25", func(t *testing.T) session {
			return goClient(t, w, token, p, &mcp.ClientSessionOptions{ProtocolVersion: "2025-11-25"})
		}},
		{"npm sdk", "2025-11-25", func(t *testing.T) session { return nodeClient(t, w, token, p, dir, "sdk") }},
		{"npm client", "2026-07-28", func(t *testing.T) session { return nodeClient(t, w, token, p, dir, "client") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := c.run(t)
			if s.Version != c.version || (s.Session != "") != (c.version < "2026") {
				t.Errorf("speaks %s, session %q, want %s", s.Version, s.Session, c.version)
			}
			slices.Sort(s.Tools)
			if !slices.Equal(s.Tools, tools) || !slices.Contains(s.Prompts, p.Prompt) || !slices.Contains(s.Resources, p.Read) {
				t.Errorf("lists tools %q, prompts %q, resources %q", s.Tools, s.Prompts, s.Resources)
			}
			if slices.Contains(s.Tools, forbiddenTool) {
				t.Error("lists the forbidden tool")
			}
			if want := []string{"Echo: hello", "Echo: hello"}; !slices.Equal(s.Calls, want) {
				t.Errorf("calls gave %q, want %q", s.Calls, want)
			}
			if !strings.Contains(s.Denied, "-32602") || !strings.Contains(s.Denied, "unknown tool, or not permitted: "+forbiddenTool) {
				t.Errorf("the forbidden tool: %s", s.Denied)
			}
			if s.After != "Echo: hello" {
				t.Errorf("after the denial: %q", s.After)
			}
			if s.Read != p.Read+" true" || s.Prompt != "user" {
				t.Errorf("read %q, prompt %q", s.Read, s.Prompt)
			}
		})
	}
	if got := w.calls(t, "kubernetes-backend"); len(got) > 0 {
		t.Errorf("the Kubernetes server was asked for %q", got)
	}
}

// nodeClient runs e2e/node/client.mjs.
func nodeClient(t *testing.T, w *world, token string, p plan, dir, kind string) session {
	t.Helper()
	todo, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), await.Limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "client.mjs", kind)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "URL="+w.URL, "TOKEN="+token, "PLAN="+string(todo))
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, complaint.String())
	}
	var s session
	if err := json.Unmarshal(out, &s); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return s
}

type bearer struct{ token string }

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	return plain.Transport.RoundTrip(r)
}

func goClient(t *testing.T, w *world, token string, p plan, opts *mcp.ClientSessionOptions) session {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), await.Limit)
	defer cancel()
	return goSession(t, ctx, &mcp.StreamableClientTransport{Endpoint: w.URL, HTTPClient: &http.Client{Transport: bearer{token}}}, p, opts)
}

func goSession(t *testing.T, ctx context.Context, transport *mcp.StreamableClientTransport, p plan, opts *mcp.ClientSessionOptions) session {
	t.Helper()
	client := mcp.NewClient(&mcp.Implementation{Name: "e2e-go", Version: "1.0.0"}, nil)
	cs, err := client.Connect(ctx, transport, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer cs.Close()
	s := session{Session: cs.ID()}
	if r := cs.InitializeResult(); r != nil {
		s.Version = r.ProtocolVersion
	}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for tool, err := range cs.Tools(ctx, nil) {
		check(err)
		s.Tools = append(s.Tools, tool.Name)
	}
	for prompt, err := range cs.Prompts(ctx, nil) {
		check(err)
		s.Prompts = append(s.Prompts, prompt.Name)
	}
	for resource, err := range cs.Resources(ctx, nil) {
		check(err)
		s.Resources = append(s.Resources, resource.URI)
	}
	call := func(name string) (string, error) {
		r, err := cs.CallTool(ctx, &mcp.CallToolParams{Name: name, Arguments: p.Arguments})
		if err != nil {
			return "", err
		}
		return r.Content[0].(*mcp.TextContent).Text, nil
	}
	for _, name := range p.Calls {
		text, err := call(name)
		check(err)
		s.Calls = append(s.Calls, text)
	}
	_, err = call(p.Denied)
	if wire := (*jsonrpc.Error)(nil); errors.As(err, &wire) {
		s.Denied = fmt.Sprint(wire.Code, " ", wire.Message)
	} else {
		s.Denied = fmt.Sprint(err)
	}
	s.After, err = call(p.Calls[0])
	check(err)
	if p.Read != "" {
		read, err := cs.ReadResource(ctx, &mcp.ReadResourceParams{URI: p.Read})
		check(err)
		s.Read = fmt.Sprint(read.Contents[0].URI, " ", read.Contents[0].Text != "")
	}
	if p.Prompt != "" {
		prompt, err := cs.GetPrompt(ctx, &mcp.GetPromptParams{Name: p.Prompt})
		check(err)
		s.Prompt = string(prompt.Messages[0].Role)
	}
	return s
}
