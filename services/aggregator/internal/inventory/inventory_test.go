package inventory

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"vmcp/internal/gatewayconfig"
	"vmcp/internal/mcpwire"
	gatewayv1 "vmcp/proto/gateway/v1"
	"vmcp/services/aggregator/internal/backend"
	"vmcp/services/aggregator/internal/catalog"
)

// server is a backend as List sees it.
type server struct {
	src     Source
	changed chan struct{}

	mu      sync.Mutex
	listing backend.Listing
	err     error
	takes   time.Duration
	calls   int
}

func newServer(name string, stdio bool, tools ...string) *server {
	s := &server{changed: make(chan struct{}, 1)}
	s.src = Source{Name: name, Stdio: stdio, List: s.list, Changed: s.changed}
	s.offer(tools...)
	return s
}

func (s *server) list(ctx context.Context) (*backend.Listing, error) {
	s.mu.Lock()
	s.calls++
	takes := s.takes
	s.mu.Unlock()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(takes):
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	l := s.listing
	l.Tools = slices.Clone(l.Tools)
	return &l, nil
}

func (s *server) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *server) offer(tools ...string) {
	s.set(func() {
		s.listing.Tools = nil
		for _, name := range tools {
			s.listing.Tools = append(s.listing.Tools, backend.Item{Name: name, Raw: fmt.Appendf(nil, `{ "name":%q,"inputSchema":{}}`, name)})
		}
	})
}

// announce says that the lists changed.
func (s *server) announce() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *server) fail(err error) { s.set(func() { s.err = err }) }

func (s *server) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

var config = gatewayconfig.Aggregator{ConflictResolution: "prefix", PrefixFormat: "{workload}_",
	HealthInterval: 30 * time.Second}

func newInventory(dir string, log *zap.Logger, servers ...*server) *Inventory {
	var sources []Source
	for _, s := range servers {
		sources = append(sources, s.src)
	}
	return New(&config, sources, dir, log)
}

// inBubble runs f beside a running inventory.
func inBubble(t *testing.T, dir string, log *zap.Logger, servers func() []*server, f func(t *testing.T, inv *Inventory, s []*server)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := servers()
		inv := newInventory(dir, log, s...)
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() {
			if err := inv.Run(ctx); err != nil {
				t.Errorf("Run: %v", err)
			}
		})
		defer running.Wait()
		defer cancel()
		synctest.Wait()
		f(t, inv, s)
	})
}

func toolNames(c *catalog.Catalog) string {
	var names []string
	for _, it := range c.Items(mcpwire.ItemTool) {
		names = append(names, it.Name)
	}
	return strings.Join(names, " ")
}

func states(inv *Inventory) string {
	var all []string
	for _, s := range inv.Status() {
		all = append(all, s.Backend+" "+s.State)
	}
	return strings.Join(all, ", ")
}

func expect(t *testing.T, inv *Inventory, tools, state string) {
	t.Helper()
	if got := toolNames(inv.Catalog()); got != tools {
		t.Errorf("tools %q, want %q", got, tools)
	}
	if got := states(inv); got != state {
		t.Errorf("states %q, want %q", got, state)
	}
}

// TestHang: a backend that does not answer holds up nothing of the others.
func TestHang(t *testing.T) {
	inBubble(t, "", zap.NewNop(), func() []*server {
		a, b := newServer("a", false, "x"), newServer("b", false, "y")
		b.takes = time.Hour
		return []*server{a, b}
	}, func(t *testing.T, inv *Inventory, s []*server) {
		expect(t, inv, "a_x", "a listed, b starting")
		if got := inv.Catalog().Backends[1].State; got != gatewayv1.BackendState_BACKEND_STATE_NEVER_LISTED {
			t.Errorf("b is %v", got)
		}
		s[0].offer("x", "z")
		time.Sleep(time.Minute)
		expect(t, inv, "a_x a_z", "a listed, b starting")
	})
}

// TestSlowStarts: however many children start slowly, other servers are listed.
func TestSlowStarts(t *testing.T) {
	inBubble(t, "", zap.NewNop(), func() []*server {
		servers := []*server{}
		for i := range 2 * parallel {
			slow := newServer(fmt.Sprint("slow", i), true, "x")
			slow.takes = time.Hour
			servers = append(servers, slow)
		}
		return append(servers, newServer("a", false, "x"))
	}, func(t *testing.T, inv *Inventory, _ []*server) {
		if got := toolNames(inv.Catalog()); got != "a_x" {
			t.Errorf("tools %q, want those of a", got)
		}
	})
}

// TestFailure: what fails keeps its last lists, is tried again ever more slowly, and comes back.
func TestFailure(t *testing.T) {
	core, logs := observer.New(zapcore.WarnLevel)
	inBubble(t, "", zap.New(core), func() []*server {
		b := newServer("b", true, "y")
		b.err = errors.New("refused")
		return []*server{newServer("a", false, "x"), b}
	}, func(t *testing.T, inv *Inventory, s []*server) {
		_, changed := inv.Next()
		expect(t, inv, "a_x", "a listed, b failing")
		if got := inv.Status()[1]; got.LastFailure != "refused" || !got.LastListed.IsZero() || !got.NextTry.After(time.Now()) {
			t.Errorf("status of b %+v", got)
		}
		if got := inv.Catalog().Backends[1].State; got != gatewayv1.BackendState_BACKEND_STATE_FAILED {
			t.Errorf("b is %v", got)
		}
		time.Sleep(time.Second)
		if got := s[1].count(); got < 2 || got > 6 { // each wait is spread from half to one and a half times
			t.Errorf("tried %d times in the first second, want 2 to 6", got)
		}
		before := s[1].count()
		time.Sleep(time.Hour)
		if got := s[1].count() - before; got < 60 || got > 260 {
			t.Errorf("tried %d times in an hour, want one in 15 to 45 s", got)
		}
		s[1].fail(errors.New("refused after 17 ms"))
		time.Sleep(time.Minute)
		s[1].fail(errors.New("refused after 4 ms"))
		time.Sleep(time.Minute)
		if got := logs.FilterMessage("cannot list").Len(); got != 2 {
			t.Errorf("%d lines about two failures, want 2", got)
		}
		select {
		case <-changed:
			t.Error("published without a change")
		default:
		}

		s[1].fail(nil)
		s[0].fail(errors.New("gone"))
		time.Sleep(2 * time.Minute)
		expect(t, inv, "a_x b_y", "a failing, b listed")
		if got := inv.Status()[0]; got.LastFailure != "gone" || got.Tools != 1 || got.LastListed.IsZero() {
			t.Errorf("status of a %+v", got)
		}
		select {
		case <-changed:
		default:
			t.Error("not published although b came")
		}
		s[0].fail(nil)
		s[0].offer("new")
		time.Sleep(2 * time.Minute)
		expect(t, inv, "a_new b_y", "a listed, b listed")
		if got := inv.Status()[0]; got.LastFailure != "" {
			t.Errorf("a still says %q", got.LastFailure)
		}
	})
}

// TestSomeLists: a list that fails keeps what it last was, and the others go on; what is left out is logged once.
func TestSomeLists(t *testing.T) {
	core, logs := observer.New(zap.WarnLevel)
	inBubble(t, "", zap.New(core), func() []*server {
		s := []*server{newServer("a", false, "x"), newServer("child", true, "x")}
		for _, s := range s {
			s.listing.Prompts = []backend.Item{{Name: "p", Raw: []byte(`{"name":"p"}`)}}
			s.listing.LeftOut = []backend.LeftOut{{Kind: mcpwire.ItemPrompt, Name: "q", Reason: "it is odd"}}
		}
		return s
	}, func(t *testing.T, inv *Inventory, s []*server) {
		time.Sleep(time.Second)
		for _, s := range s {
			s.set(func() {
				s.listing.Prompts, s.listing.LeftOut = nil, nil
				s.listing.Failed = map[mcpwire.ItemKind]error{mcpwire.ItemPrompt: errors.New("no database")}
			})
			s.offer("y")
			s.announce()
		}
		time.Sleep(time.Minute)
		before := s[1].count()
		time.Sleep(time.Hour)
		expect(t, inv, "a_y child_y", "a listed, child listed")
		for _, st := range inv.Status() {
			if st.Prompts != 1 || !strings.HasSuffix(st.LastFailure, "prompts/list: no database") || len(st.LeftOut) != 1 || st.LeftOut[0] != (LeftOut{"prompt", "q", "it is odd"}) {
				t.Errorf("got %+v", st)
			}
		}
		if got := s[1].count() - before; got > 16 {
			t.Errorf("a child was started %d times in an hour for a list that fails", got)
		}
		if a, b := logs.FilterMessage("not advertised").Len(), logs.FilterMessage("cannot list").Len(); a != 2 || b != 2 {
			t.Errorf("%d lines about items, %d about lists, want 2", a, b)
		}
	})
}

// TestReady: each backend gets a chance to be listed first, but no more than some seconds.
func TestReady(t *testing.T) {
	inBubble(t, "", zap.NewNop(), func() []*server {
		bad, slow, hung := newServer("bad", false, "x"), newServer("slow", false, "x"), newServer("hung", false, "x")
		bad.err, slow.takes, hung.takes = errors.New("refused"), time.Second, time.Hour
		return []*server{newServer("a", false, "x"), bad, slow, hung}
	}, func(t *testing.T, inv *Inventory, s []*server) {
		if err := inv.Ready(); err == nil || err.Error() != "not listed yet: slow, hung" {
			t.Errorf("at once: %v", err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if err := inv.Ready(); err == nil || err.Error() != "not listed yet: hung" {
			t.Errorf("after a second: %v", err)
		}
		time.Sleep(patience)
		if err := inv.Ready(); err != nil {
			t.Errorf("in the end: %v", err)
		}
	})
}

// TestPublication: a catalog is published when something in it changed, whatever it is, and only then.
func TestPublication(t *testing.T) {
	inBubble(t, "", zap.NewNop(), func() []*server { return []*server{newServer("b", true, "x", "y")} },
		func(t *testing.T, inv *Inventory, s []*server) {
			published := func(change func()) bool {
				t.Helper()
				before, changed := inv.Next()
				s[0].set(change)
				s[0].announce()
				time.Sleep(time.Second)
				select {
				case <-changed:
					if inv.Catalog().Digest == before.Digest {
						t.Error("published under the same digest")
					}
					return true
				default:
					if inv.Catalog() != before {
						t.Error("another catalog without a word")
					}
					return false
				}
			}
			l := &s[0].listing
			for name, tt := range map[string]struct {
				change func()
				want   bool
			}{
				"nothing":                             {func() {}, false},
				"order":                               {func() { l.Tools = []backend.Item{l.Tools[1], l.Tools[0]} }, false},
				"a definition":                        {func() { l.Tools[0].Raw = append(slices.Clone(l.Tools[0].Raw), ' ') }, true},
				"instructions":                        {func() { l.Instructions += "more" }, true},
				"capabilities":                        {func() { l.Capabilities = []byte(`{"logging":{}}`) }, true},
				"capabilities that we do not pass on": {func() { l.Capabilities = append(slices.Clone(l.Capabilities), ' ') }, false},
				"a resource":                          {func() { l.Resources = append(l.Resources, backend.Item{Name: "r://1", Raw: []byte(`{"uri":"r://1"}`)}) }, true},
			} {
				if got := published(tt.change); got != tt.want {
					t.Errorf("%s changed: published %v, want %v", name, got, tt.want)
				}
			}
		})
}

// TestRestart: the last good lists survive on disk, byte for byte, and are in force before any backend answers.
func TestRestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lists")
	var want *catalog.Catalog
	both := func() []*server { return []*server{newServer("a", false, "x"), newServer("b", true, "y")} }
	inBubble(t, dir, zap.NewNop(), both, func(t *testing.T, inv *Inventory, s []*server) {
		s[0].set(func() {
			l := &s[0].listing
			l.Capabilities, l.Instructions = []byte(`{ "tools":{} }`), "é"
			l.Prompts = []backend.Item{{Name: "p", Raw: []byte("{\"name\":\"p\",\n \"x\":1e400,\"y\":\"\\u00e9\"}")}}
			l.Resources = []backend.Item{{Name: "r", Raw: []byte(`{"uri":"r"}`)}}
			l.Templates = []backend.Item{{Name: "t", Raw: []byte(`{"uriTemplate":"t"}`)}}
		})
		s[0].announce()
		time.Sleep(time.Second)
		want = inv.Catalog()
	})

	inv := newInventory(dir, zap.NewNop(), both()...)
	expect(t, inv, "a_x b_y", "a failing, b failing")
	if diff := cmp.Diff(want, inv.Catalog(), cmp.AllowUnexported(catalog.Catalog{}), cmpopts.IgnoreUnexported(gatewayv1.BackendCatalog{}, gatewayv1.Item{})); diff != "" {
		t.Errorf("(-before +after the restart):\n%s", diff)
	}
	if info, err := os.Stat(filepath.Join(dir, "a.json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("a.json: %v, %v, want mode 0600", info, err)
	}

	// What is not readable, or another backend's, is as if it was not there.
	good, err := os.ReadFile(filepath.Join(dir, "a.json"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"cut": string(good[:len(good)/2]), "empty": "", "another's": strings.Replace(string(good), `"a"`, `"b"`, 1)} {
		if err := os.WriteFile(filepath.Join(dir, "a.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		core, logs := observer.New(zapcore.WarnLevel)
		inv := newInventory(dir, zap.New(core), both()...)
		expect(t, inv, "b_y", "a starting, b failing")
		if logs.Len() != 1 {
			t.Errorf("%s: %d warnings, want 1", name, logs.Len())
		}
	}
}
