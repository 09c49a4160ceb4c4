// Package e2e tells stories about the whole gateway: built binaries, real Envoy, real MCP servers and clients.
package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmcp/internal/gatewayconfig"
	"vmcp/internal/stack"
	"vmcp/internal/token/tokentest"
)

var (
	root, _ = filepath.Abs("..")
	bin     string // directory of the built binaries
)

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "vmcp-e2e-")
	if err != nil {
		panic(err)
	}
	build := exec.Command("go", "build", "-o", dir, "./services/...", "./cmd/...", "./internal/mcptest/cmd/...")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building: %v\n%s", err, out)
		os.Exit(1)
	}
	bin = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// world is one running gateway with an issuer of tokens.
type world struct {
	*stack.Stack
	issuer *tokentest.Issuer
	aud    string
	seen   map[string]string // file in which a stdio backend records what was called, by backend
}

// start runs the gateway of a testdata file. ISSUER and PORT in it are replaced, and what edit returns is run.
func start(t *testing.T, file string, edit ...func(string) string) *world {
	t.Helper()
	issuer, err := tokentest.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issuer.Close)
	addr := freeAddress(t)
	_, port, _ := net.SplitHostPort(addr)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	docs := strings.NewReplacer("ISSUER", issuer.URL, "PORT", port).Replace(string(text))
	for _, f := range edit {
		docs = f(docs)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "gateway.yaml")
	if err := os.WriteFile(path, []byte(docs), 0o600); err != nil {
		t.Fatal(err)
	}
	w := &world{issuer: issuer, aud: "http://localhost:" + port, seen: map[string]string{}}
	var run []string
	for image, server := range map[string]string{
		"ghcr.io/github/github-mcp-server:latest":               "github",
		"ghcr.io/stackloklabs/yardstick/yardstick-server:1.1.1": "kubernetes",
	} {
		w.seen[server+"-backend"] = filepath.Join(dir, server+".calls")
		run = append(run, image+"="+filepath.Join(bin, server+"-mcp")+" --record "+w.seen[server+"-backend"])
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	ready := make(chan *stack.Stack, 1)
	var progress bytes.Buffer
	go func() {
		ended <- stack.Up(ctx, stack.Config{
			Source: gatewayconfig.Source{Paths: []string{path}}, Listen: addr, State: filepath.Join(dir, "state"),
			Bin: bin, Tools: filepath.Join(root, ".tools"), Run: run, Progress: &progress,
		}, func(s *stack.Stack) { ready <- s })
	}()
	select {
	case w.Stack = <-ready:
	case err := <-ended:
		t.Fatalf("the gateway did not start: %v\n%s", err, &progress)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the gateway ended with %v", err)
		}
		if t.Failed() {
			w.dump(t)
		}
	})
	return w
}

// dump shows the ends of all logs of a failed story.
func (w *world) dump(t *testing.T) {
	for _, name := range []string{"authz.log", "aggregator.log", "envoy.log", "access.jsonl", "audit.jsonl"} {
		text, _ := os.ReadFile(filepath.Join(w.State, name))
		t.Logf("%s:\n%s", name, text[max(0, len(text)-3000):])
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// token is an access token for a person with these roles.
func (w *world) token(person string, roles ...string) string {
	claims := map[string]any{"sub": person, "aud": w.aud, "client_id": "e2e"}
	if len(roles) > 0 {
		claims["roles"] = roles
	}
	return w.issuer.Mint(claims)
}

// calls are the tools that a stdio backend was asked to run.
func (w *world) calls(t *testing.T, backend string) []string {
	t.Helper()
	text, err := os.ReadFile(w.seen[backend])
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Fields(string(text))
}

// request is one HTTP request to the endpoint.
type request struct {
	method  string // POST where empty
	token   string
	session string
	body    string
	header  http.Header
	client  *http.Client // default: through Envoy
}

type answer struct {
	status int
	header http.Header
	body   string
}

func (w *world) send(t *testing.T, r request) answer {
	t.Helper()
	method := r.method
	if method == "" {
		method = "POST"
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, w.URL, strings.NewReader(r.body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = r.header.Clone()
	if req.Header == nil {
		req.Header = http.Header{}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	if r.token != "" {
		req.Header.Set("Authorization", "Bearer "+r.token)
	}
	if r.session != "" {
		req.Header.Set("Mcp-Session-Id", r.session)
	}
	client := r.client
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

const initialize = `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"e2e","version":"1"}}}`

// open initializes a legacy session and returns its id.
func (w *world) open(t *testing.T, token string) string {
	t.Helper()
	a := w.send(t, request{token: token, body: initialize})
	if a.status != 200 || a.header.Get("Mcp-Session-Id") == "" {
		t.Fatalf("initialize: %d %s", a.status, a.body)
	}
	return a.header.Get("Mcp-Session-Id")
}

func toolCall(name string) string {
	return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + name + `","arguments":{"namespace":"staging","name":"staging"}}}`
}
