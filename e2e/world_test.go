// Package e2e tells stories about the whole gateway: built binaries, real Envoy, real MCP servers and clients.
//
// The simple stories are scripts in testdata (see script_test.go); the others are tests. All of them look at two things:
// what a client was answered, and what a backend saw.
package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"vmcp/internal/freeport"
	"vmcp/internal/gatewayconfig"
	"vmcp/internal/mcptest"
	"vmcp/internal/stack"
	"vmcp/internal/token/tokentest"
)

const guide = "testdata/guide.yaml"

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
	http.DefaultTransport = witness{http.DefaultTransport}
	plain.Transport = witness{plain.Transport}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// world is one running gateway with an issuer of tokens.
type world struct {
	*stack.Stack
	stop   func() // tells the gateway to end
	issuer *tokentest.Issuer
	cfg    stack.Config
	aud    string
	docs   string            // path of the gateway's documents
	seen   map[string]string // file in which a stdio backend records what was called, by backend
}

// edit changes the documents of a gateway before they are used.
type edit func(docs string) string

// start runs the gateway of a testdata file. ISSUER and PORT in it are replaced.
func start(t *testing.T, file string, edits ...edit) *world {
	t.Helper()
	return startWith(t, file, nil, edits...)
}

// startWith is start with changes to how the gateway is run.
func startWith(t *testing.T, file string, change func(*stack.Config), edits ...edit) *world {
	t.Helper()
	issuer, err := tokentest.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issuer.Close)
	named := func(docs string) string { return strings.ReplaceAll(docs, "ISSUER", issuer.URL) }
	w := newWorld(t, freeAddress(t), file, append([]edit{named}, edits...)...)
	w.issuer = issuer
	w.up(t, change)
	return w
}

// newWorld makes the documents of a gateway on that address. Its port replaces PORT in them, and the port of the example.
func newWorld(t *testing.T, addr, file string, edits ...edit) *world {
	t.Helper()
	_, port, _ := net.SplitHostPort(addr)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	docs := strings.NewReplacer("PORT", port, "localhost:4483", "localhost:"+port).Replace(string(text))
	for _, f := range edits {
		docs = f(docs)
	}
	dir := t.TempDir()
	w := &world{aud: "http://localhost:" + port, docs: filepath.Join(dir, "gateway.yaml"), seen: map[string]string{}}
	w.cfg = stack.Config{
		Source: gatewayconfig.Source{Paths: []string{w.docs}}, Listen: addr, State: filepath.Join(dir, "state"),
		Bin: bin, Tools: filepath.Join(root, ".tools"),
	}
	w.writeDocs(t, docs)
	calls := filepath.Join(dir, "calls") // beside the state, which servers cannot reach
	if err := os.Mkdir(calls, 0o700); err != nil {
		t.Fatal(err)
	}
	for image, server := range map[string]string{
		"ghcr.io/github/github-mcp-server:latest":               "github",
		"ghcr.io/stackloklabs/yardstick/yardstick-server:1.1.1": "kubernetes",
	} {
		w.seen[server+"-backend"] = filepath.Join(calls, server)
		w.cfg.Run = append(w.cfg.Run, image+"="+filepath.Join(bin, server+"-mcp")+" --record "+w.seen[server+"-backend"])
	}
	return w
}

// up runs the gateway until the end of the story.
func (w *world) up(t *testing.T, change func(*stack.Config)) {
	t.Helper()
	var progress bytes.Buffer
	w.cfg.Progress = &progress
	if change != nil {
		change(&w.cfg)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.stop = cancel
	var err error
	if w.Stack, err = stack.Start(ctx, w.cfg); err != nil {
		cancel()
		t.Fatalf("the gateway did not start: %v\n%s", err, &progress)
	}
	t.Cleanup(func() {
		cancel()
		if err := w.Wait(); err != nil {
			t.Errorf("the gateway ended with %v", err)
		}
		w.silent(t)
		if t.Failed() {
			w.dump(t)
		}
	})
}

// writeDocs replaces the documents at once, as an editor does.
func (w *world) writeDocs(t *testing.T, docs string) {
	t.Helper()
	if err := os.WriteFile(w.docs+".new", []byte(docs), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(w.docs+".new", w.docs); err != nil {
		t.Fatal(err)
	}
}

func (w *world) readDocs(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(w.docs)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// dump shows the ends of all logs of a failed story, and keeps everything that its gateway wrote.
func (w *world) dump(t *testing.T) {
	kept := filepath.Join(root, ".run", "failed", strings.ReplaceAll(t.Name(), "/", "_"))
	os.RemoveAll(kept)
	err := os.CopyFS(kept, os.DirFS(w.State))
	t.Logf("what the gateway wrote is in %s (%v)", kept, err)
	for _, name := range []string{"authz.log", "authserver.log", "aggregator.log", "envoy.log", "access.jsonl", "audit.jsonl"} {
		text, _ := os.ReadFile(filepath.Join(w.State, name))
		t.Logf("%s:\n%s", name, text[max(0, len(text)-3000):])
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	address, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// policies replaces the guide's policies by Cedar text.
func policies(cedar string) edit {
	return func(docs string) string {
		head, rest, ok := strings.Cut(docs, "        policies:\n")
		_, tail, ok2 := strings.Cut(rest, "  outgoingAuth:")
		if !ok || !ok2 {
			panic("the documents have no policies to replace")
		}
		return head + "        policies:\n          - |\n" + indent(cedar, "            ") + "  outgoingAuth:" + tail
	}
}

// config adds lines to spec.config of the VirtualMCPServer, which is the last document.
func config(yaml string) edit {
	return func(docs string) string {
		if !strings.Contains(docs, "\n  config:\n") {
			docs += "  config:\n"
		}
		return docs + indent(yaml, "    ")
	}
}

// behind puts an MCP server with this URL into the group, in place of a backend of that name where there is one.
func behind(name, url string) edit {
	return func(docs string) string {
		all := strings.Split(docs, "\n---\n")
		entry := strings.NewReplacer("NAME", name, "URL", url).Replace(entryDocument)
		for i, d := range all {
			if strings.Contains(d, "\n  name: "+name+"\n") {
				all[i] = entry
				return strings.Join(all, "\n---\n")
			}
		}
		return entry + "\n---\n" + docs
	}
}

const entryDocument = `apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServerEntry
metadata:
  name: NAME
spec:
  groupRef:
    name: engineering-tools
  transport: streamable-http
  allowPrivateEndpoint: true
  remoteUrl: URL`

// annotated gives the document of that name an annotation, a line of YAML. It had none before.
func annotated(name, line string) edit {
	return func(docs string) string {
		return strings.Replace(docs, "\n  name: "+name+"\n", "\n  name: "+name+"\n  annotations:\n    "+line+"\n", 1)
	}
}

// without takes a backend out of the group.
func without(name string) edit {
	return func(docs string) string {
		var kept []string
		for d := range strings.SplitSeq(docs, "\n---\n") {
			if !strings.Contains(d, "\n  name: "+name+"\n") {
				kept = append(kept, d)
			}
		}
		return strings.Join(kept, "\n---\n")
	}
}

func indent(text, by string) string {
	var b strings.Builder
	for line := range strings.Lines(strings.Trim(text, "\n") + "\n") {
		b.WriteString(by + line)
	}
	return b.String()
}

// token is an access token for a person with these roles.
func (w *world) token(person string, roles ...string) string {
	return w.tokenFor(person, roles, nil)
}

// tokenFor is token with further claims.
func (w *world) tokenFor(person string, roles []string, more map[string]any) string {
	claims := map[string]any{"sub": person, "aud": w.aud, "client_id": "e2e"}
	if len(roles) > 0 {
		claims["roles"] = roles
	}
	for k, v := range more {
		claims[k] = v
	}
	token := w.issuer.Mint(claims)
	secrets.add("access_token", token)
	return token
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

// quiet are the requests that the gateway makes by itself, to learn what a backend offers.
var quiet = map[string]bool{
	"initialize": true, "notifications/initialized": true, "server/discover": true, "ping": true,
	"tools/list": true, "prompts/list": true, "resources/list": true, "resources/templates/list": true,
	"subscriptions/listen": true, "": true, // GET and DELETE
}

// asked are the requests that reached an HTTP backend on behalf of a client, as "method name".
func asked(h *mcptest.HTTP) []string {
	var out []string
	for _, r := range h.Requests() {
		if !quiet[r.Method] {
			out = append(out, strings.TrimSpace(r.Method+" "+r.Name))
		}
	}
	return out
}
