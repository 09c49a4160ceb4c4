package fleet

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"vmcp/internal/await"
	"vmcp/internal/gatewayconfig"
	"vmcp/internal/mcptest"
	"vmcp/internal/mcpwire"
	"vmcp/internal/secret"
	"vmcp/services/aggregator/internal/backend"
)

func entry(name, url string) gatewayconfig.Backend {
	return gatewayconfig.Backend{Name: name, Kind: "MCPServerEntry", Transport: gatewayconfig.TransportHTTP, URL: url, Timeout: time.Minute}
}

func spec(backends ...gatewayconfig.Backend) Spec {
	return Spec{Aggregator: &gatewayconfig.Aggregator{Backends: backends, ConflictResolution: "prefix", PrefixFormat: "{workload}_", HealthInterval: time.Hour}}
}

// run starts a fleet that lists until the end of the test.
func run(t *testing.T, first Spec) *Fleet {
	t.Helper()
	f := New(Config{Lists: t.TempDir()}, first)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { f.Inventory().Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
		f.Close()
	})
	return f
}

func (f *Fleet) advertised() string {
	var names []string
	for _, item := range f.Inventory().Catalog().Items(mcpwire.ItemTool) {
		names = append(names, item.Name)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

func awaitTools(t *testing.T, f *Fleet, want string) {
	t.Helper()
	await.That(t, "these are advertised: "+want, func() bool { return f.advertised() == want })
}

func one(t *testing.T, name string) *mcptest.HTTP {
	return mcptest.NewRaw(t, mcptest.Legacy, map[string]mcptest.Answer{
		"tools/list": mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"result":{"tools":[{"name":"` + name + `","inputSchema":{"type":"object"}}]}}`)})
}

// TestApply: each kind of change does what it must and no more. Backend a is changed, b is not.
func TestApply(t *testing.T) {
	a, other, b, c := one(t, "x"), one(t, "y"), one(t, "x"), one(t, "x")
	for _, tt := range []struct {
		name   string
		change func(s *Spec)
		kept   bool // a goes on as it was
		want   string
	}{
		{"nothing", func(*Spec) {}, true, "a_x b_x"},
		{"a prefix", func(s *Spec) { s.Aggregator.PrefixFormat = "{workload}." }, true, "a.x b.x"},
		{"the strategy", func(s *Spec) {
			s.Aggregator.ConflictResolution, s.Aggregator.PriorityOrder = "priority", []string{"b", "a"}
		}, true, "x"},
		{"a filter", func(s *Spec) {
			s.Aggregator.Tools = map[string]gatewayconfig.WorkloadTools{"a": {Filter: []string{"none"}}}
		}, true, "b_x"},
		{"an override", func(s *Spec) {
			s.Aggregator.Tools = map[string]gatewayconfig.WorkloadTools{"a": {Overrides: map[string]gatewayconfig.ToolOverride{"x": {Name: "z"}}}}
		}, true, "a_z b_x"},
		{"headers that pass", func(s *Spec) { s.Aggregator.PassHeaders = []string{"X-Team"} }, true, "a_x b_x"},
		{"the order", func(s *Spec) { slices.Reverse(s.Aggregator.Backends) }, true, "a_x b_x"},
		{"files to hide", func(s *Spec) { s.Hide = []string{"/etc/shadow"} }, true, "a_x b_x"},
		{"one added", func(s *Spec) { s.Aggregator.Backends = append(s.Aggregator.Backends, entry("c", c.URL)) }, true, "a_x b_x c_x"},
		{"its URL", func(s *Spec) { s.Aggregator.Backends[0].URL = other.URL }, false, "a_y b_x"},
		{"a header", func(s *Spec) { s.Aggregator.Backends[0].Headers = map[string]secret.Value{"x-key": "new"} }, false, "a_x b_x"},
		{"its timeout", func(s *Spec) { s.Aggregator.Backends[0].Timeout = time.Hour }, false, "a_x b_x"},
		{"its CA", func(s *Spec) { s.Aggregator.Backends[0].CABundle = []byte("-") }, false, "a_x b_x"},
		{"what it may ask", func(s *Spec) { s.Aggregator.Backends[0].Sampling = true }, false, "a_x b_x"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := run(t, spec(entry("a", a.URL), entry("b", b.URL)))
			awaitTools(t, f, "a_x b_x")
			before := f.State()
			_, changed := f.Next()
			next := spec(entry("a", a.URL), entry("b", b.URL))
			tt.change(&next)
			f.Apply(next)
			after := f.State()
			if after.Aggregator != next.Aggregator {
				t.Error("the State has another configuration")
			}
			if got := after.Backends["a"] == before.Backends["a"]; got != tt.kept {
				t.Errorf("a goes on as it was: %v, want %v", got, tt.kept)
			}
			if after.Backends["b"] != before.Backends["b"] {
				t.Error("b was replaced")
			}
			select {
			case <-changed:
			default:
				t.Error("nobody is told of the new State")
			}
			awaitTools(t, f, tt.want)
		})
	}
}

// TestReplaced: a call in progress finishes at the backend that was replaced, which then ends its sessions; new ones go
// to the other.
func TestReplaced(t *testing.T) {
	t.Parallel()
	was, is := mcptest.NewHTTP(t, mcptest.Options{Era: mcptest.Legacy}), mcptest.NewHTTP(t, mcptest.Options{Era: mcptest.Legacy})
	f := run(t, spec(entry("a", was.URL)))
	old := f.State().Backends["a"]
	answers := make(chan error, 1)
	go func() { answers <- call(t.Context(), old, "wait") }()
	await.That(t, "the call runs", func() bool { return was.Saw("wait") })

	f.Apply(spec(entry("a", is.URL)))
	select {
	case <-old.Retired():
	default:
		t.Error("it is not told that another stands in its place")
	}
	if err := call(t.Context(), f.State().Backends["a"], "echo"); err != nil || !is.Saw("echo") {
		t.Errorf("a new call: %v, reached the new server: %v", err, is.Saw("echo"))
	}
	if err := call(t.Context(), old, "echo"); err != nil || !was.Saw("echo") { // by whoever took the State before
		t.Errorf("a call of an older exchange: %v", err)
	}
	was.Release()
	if err := <-answers; err != nil {
		t.Errorf("the call in progress: %v", err)
	}
	await.That(t, "the old backend is closed", func() bool { return call(t.Context(), old, "echo") != nil })
}

func call(ctx context.Context, b *backend.Backend, tool string) error {
	body := []byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + tool + `","arguments":{"text":"x"}}}`)
	m, perr := mcpwire.Parse(mcpwire.Request{Method: "POST", Body: body, Header: func(name string) []string {
		if name == "Content-Type" {
			return []string{"application/json"}
		}
		return nil
	}})
	if perr != nil {
		return perr
	}
	s := b.Session(backend.SessionOptions{Era: mcpwire.EraLegacy, Key: "session", Version: "2025-11-25"})
	defer s.Close()
	return s.Do(ctx, backend.Request{Message: &m, Name: tool}, func(backend.Message) error { return nil })
}

// TestRemoved: a backend that leaves is not advertised from then on, and can be called while seals for it are good. One
// that comes back by then was never away.
func TestRemoved(t *testing.T) {
	t.Parallel()
	a, b := one(t, "x"), one(t, "x")
	both, alone := spec(entry("a", a.URL), entry("b", b.URL)), spec(entry("b", b.URL))
	f := run(t, both)
	awaitTools(t, f, "a_x b_x")
	was := f.State().Backends["a"]

	f.Apply(alone)
	if got := f.advertised(); got != "b_x" {
		t.Errorf("advertised: %s", got)
	}
	if got := f.State().Backends["a"]; got != was {
		t.Errorf("those who hold a seal find %v", got)
	}
	f.Apply(both)
	if f.State().Backends["a"] != was {
		t.Error("it came back as another one")
	}
	awaitTools(t, f, "a_x b_x")

	f.Apply(alone)
	f.Apply(alone)
	f.mu.Lock()
	m := f.members["a"]
	m.leaving.Stop()
	f.mu.Unlock()
	f.leave(m) // what its timer does
	if got := f.State(); got.Backends["a"] != nil || got.Backends["b"] == nil || got.Aggregator != alone.Aggregator {
		t.Errorf("after that: %v", got)
	}
	select {
	case <-was.Retired():
	default:
		t.Error("it does not end")
	}
	for _, s := range f.Inventory().Status() {
		if s.Backend == "a" {
			t.Error("the status still names it")
		}
	}
}
