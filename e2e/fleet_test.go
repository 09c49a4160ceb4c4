package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"vmcp/internal/await"
	"vmcp/internal/mcptest"
	"vmcp/internal/stack"
)

// screen is what the terminal of `vmcp up` shows.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *screen) shows(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Contains(s.text.String(), text)
}

// stdioDocument is an MCPServer that is complete in itself.
const stdioDocument = `apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServer
metadata:
  name: child
  annotations: {vmcp/command: COMMAND}
spec:
  groupRef: {name: engineering-tools}
  image: none/at-all
  transport: stdio`

// TestFleet: servers come, change and go in the documents while people work, and nothing is started anew: open sessions
// are told, calls in progress finish, and what does not work leaves everything as it was.
func TestFleet(t *testing.T) {
	t.Parallel()
	secrets := t.TempDir()
	key := func(value string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(secrets, "key"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(secrets, "key", "value"), []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	key("first-value-of-it")
	kept, was, is, added := mcptest.NewHTTP(t, mcptest.Options{}), mcptest.NewHTTP(t, mcptest.Options{}), mcptest.NewHTTP(t, mcptest.Options{}), mcptest.NewHTTP(t, mcptest.Options{})
	terminal := &screen{}
	w := startWith(t, guide, func(cfg *stack.Config) { cfg.Source.Secrets, cfg.Progress = secrets, terminal },
		behind("kept", kept.URL), behind("moves", was.URL), config("operational:\n  timeouts: {default: 5m}"))
	const withKey = "\n  headerForward:\n    addHeadersFromSecret:\n    - headerName: x-key\n      valueSecretRef: {name: key, key: value}"
	docs := strings.Replace(w.readDocs(t), "remoteUrl: "+was.URL, "remoteUrl: "+was.URL+withKey, 1)
	w.writeDocs(t, docs)
	parts := []string{"envoy", "authz", "aggregator"}
	pids := func() (all []int) {
		for _, p := range parts {
			all = append(all, w.PID(p))
		}
		return all
	}
	before := pids()

	legacy, modern := w.developers()
	has := func(name string, want bool) func() bool {
		return func() bool {
			return slices.Contains(legacy.list(t, "tools"), name) == want && slices.Contains(modern.list(t, "tools"), name) == want
		}
	}
	sent := func(h *mcptest.HTTP, value string) func() bool {
		return func() bool {
			modern.call(t, "moves_echo", `{"text":"x"}`)
			return slices.ContainsFunc(h.Requests(), func(r mcptest.Request) bool {
				return r.Method == "tools/call" && r.Header.Get("X-Key") == value
			})
		}
	}
	await.That(t, "the header is sent", sent(was, "first-value-of-it"))
	get, listen := legacy.follow(t), modern.follow(t)
	listen.expect(t, "acknowledged")
	running := make(chan answer, 1)
	r := legacy.message("tools/call", `"name":"moves_wait","arguments":{}`, "moves_wait")
	go func() { a, _ := w.try(r); running <- a }()
	await.That(t, "a call is in progress", func() bool { return was.Saw("wait") })

	// One more, over HTTP and as a child.
	docs = behind("added", added.URL)(docs)
	w.writeDocs(t, docs)
	get.expect(t, "notifications/tools/list_changed")
	listen.expect(t, "notifications/tools/list_changed")
	await.That(t, "it is listed", has("added_echo", true))
	if a := legacy.call(t, "added_echo", `{"text":"x"}`); !a.ok() {
		t.Errorf("a tool of the new server: %d %s", a.status, a.body)
	}
	docs = strings.Replace(stdioDocument, "COMMAND", filepath.Join(bin, "echo-mcp"), 1) + "\n---\n" + docs
	w.writeDocs(t, docs)
	await.That(t, "the child is listed", has("child_echo", true))
	if a := modern.call(t, "child_echo", `{"text":"x"}`); !a.ok() {
		t.Errorf("a tool of the new child: %d %s", a.status, a.body)
	}
	await.That(t, "its command is shown", func() bool { return terminal.shows("MCPServer child runs: ") })

	// A secret, then the URL.
	key("second-value-of-it")
	await.That(t, "the changed header is sent", sent(was, "second-value-of-it"))
	docs = strings.Replace(docs, was.URL, is.URL, 1)
	w.writeDocs(t, docs)
	await.That(t, "the other server is called", sent(is, "second-value-of-it"))

	// A filter, and other names for all.
	filtered := config("aggregation:\n  tools:\n  - workload: kept\n    filter: [huge]")(docs)
	w.writeDocs(t, filtered)
	await.That(t, "the filter holds", has("kept_echo", false))
	if a := modern.call(t, "kept_echo", `{"text":"x"}`); a.ok() {
		t.Error("a tool that is filtered can be called")
	}
	w.writeDocs(t, config("aggregation:\n  conflictResolutionConfig: {prefixFormat: '{workload}.'}")(docs))
	await.That(t, "the names are others", has("kept.echo", true))
	if a := modern.call(t, "kept.echo", `{"text":"x"}`); !a.ok() {
		t.Errorf("by its new name: %d %s", a.status, a.body)
	}
	if a := modern.call(t, "kept_echo", `{"text":"x"}`); a.ok() {
		t.Error("the old name can be called")
	}

	// What cannot be in force changes nothing, and is told where people look.
	w.writeDocs(t, strings.Replace(docs, "streamable-http", "carrier-pigeon", 1))
	await.That(t, "the terminal tells", func() bool { return terminal.shows("not in force") && terminal.shows("spec.transport") })
	if a := modern.call(t, "kept.echo", `{"text":"x"}`); !a.ok() {
		t.Errorf("with the last good documents: %d %s", a.status, a.body)
	}

	// Two go. Of one a call is still in progress, which began three servers ago.
	w.writeDocs(t, without("added")(without("moves")(docs)))
	await.That(t, "it is not listed", has("added_echo", false))
	await.That(t, "nor is the other", has("moves_echo", false))
	if a := legacy.call(t, "added_echo", `{"text":"x"}`); a.ok() {
		t.Error("a tool of the removed server can be called")
	}
	was.Release()
	if a := <-running; !a.ok() {
		t.Errorf("the call in progress: %d %s", a.status, a.body)
	}
	if now := pids(); !slices.Equal(before, now) {
		t.Errorf("processes %v were %v, and are %v", parts, before, now)
	}
}
