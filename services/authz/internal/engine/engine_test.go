package engine

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"vmcp/internal/gatewayconfig"
	"vmcp/internal/mcpwire"
	"vmcp/internal/policy"
	gatewayv1 "vmcp/proto/gateway/v1"
)

func loadPolicies(t testing.TB, text string) *policy.Set {
	t.Helper()
	set, err := policy.Load("team", []string{"a", "b"}, gatewayconfig.Policies{EntitiesJSON: "[]",
		Texts: []gatewayconfig.PolicyText{{File: "p", Line: 1, Text: text}}})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// backendOf makes a backend's message. items are "tool NAME=ORIGINAL", "resource URI" and so on.
func backendOf(name string, items ...string) *gatewayv1.BackendCatalog {
	b := &gatewayv1.BackendCatalog{Name: name, State: gatewayv1.BackendState_BACKEND_STATE_LISTED, NamePrefix: name + "_"}
	for _, text := range items {
		kind, rest, _ := strings.Cut(text, " ")
		it := &gatewayv1.Item{Name: rest, Original: rest}
		if adv, orig, ok := strings.Cut(rest, "="); ok {
			it.Name, it.Original = adv, orig
		}
		switch kind {
		case "tool":
			b.Tools = append(b.Tools, it)
		case "prompt":
			b.Prompts = append(b.Prompts, it)
		case "resource":
			b.Resources = append(b.Resources, it)
		case "template":
			b.ResourceTemplates = append(b.ResourceTemplates, it)
		case "failed":
			b.State = gatewayv1.BackendState_BACKEND_STATE_FAILED
		default:
			b.State = gatewayv1.BackendState_BACKEND_STATE_NEVER_LISTED
		}
	}
	return b
}

func catalogOf(digest string, backends ...*gatewayv1.BackendCatalog) *Catalog {
	return &Catalog{Digest: digest, Backends: backends}
}

// newEngine has one replica for each catalog; it notes disputed names.
func newEngine(t testing.TB, policies string, catalogs ...*Catalog) (*Engine, *[]string) {
	t.Helper()
	var disputed []string
	e := New(func(kind mcpwire.ItemKind, name string) { disputed = append(disputed, kind.String()+" "+name) }, func([]string) {}, func(ChangedTool) {})
	e.SetPolicies(loadPolicies(t, policies))
	for i, c := range catalogs {
		disputed = nil
		e.SetReplica(fmt.Sprintf("replica-%d", i), c)
	}
	return e, &disputed
}

const permitAll = `permit(principal, action, resource);`

func TestResolve(t *testing.T) {
	tests := []struct {
		name     string
		catalogs []*Catalog
		kind     mcpwire.ItemKind
		item     string
		want     string // backend/original, starting, failed, or empty
		disputed []string
	}{
		{"known", []*Catalog{catalogOf("1", backendOf("a", "tool a_x=x"))}, mcpwire.ItemTool, "a_x", "a/x", nil},
		{"by original name", []*Catalog{catalogOf("1", backendOf("a", "tool a_x=x"))}, mcpwire.ItemTool, "x", "", nil},
		{"other kind", []*Catalog{catalogOf("1", backendOf("a", "tool a_x=x"))}, mcpwire.ItemPrompt, "a_x", "", nil},

		{"same digest", []*Catalog{catalogOf("1", backendOf("a", "tool a_x=x")), catalogOf("1", backendOf("a", "tool a_x=x"))},
			mcpwire.ItemTool, "a_x", "a/x", nil},
		{"agreed by two", []*Catalog{catalogOf("1", backendOf("a", "tool a_x=x")), catalogOf("2", backendOf("a", "tool a_x=x", "tool a_y=y"))},
			mcpwire.ItemTool, "a_x", "a/x", nil},
		{"known to the second", []*Catalog{catalogOf("1", backendOf("a", "tool a_x=x")), catalogOf("2", backendOf("a", "tool a_x=x", "tool a_y=y"))},
			mcpwire.ItemTool, "a_y", "a/y", nil},
		{"other original", []*Catalog{catalogOf("1", backendOf("a", "tool n=x")), catalogOf("2", backendOf("a", "tool n=y"))},
			mcpwire.ItemTool, "n", "", []string{"tool n"}},
		{"other backend", []*Catalog{catalogOf("1", backendOf("a", "prompt n=x")), catalogOf("2", backendOf("b", "prompt n=x"))},
			mcpwire.ItemPrompt, "n", "", []string{"prompt n"}},
		{"two of three agree", []*Catalog{catalogOf("1", backendOf("a", "tool n=x")), catalogOf("2", backendOf("b", "tool n=x")), catalogOf("3", backendOf("a", "tool n=x", "tool m=m"))},
			mcpwire.ItemTool, "n", "", []string{"tool n"}},
		{"no template serves a disputed resource", []*Catalog{
			catalogOf("1", backendOf("a", "resource r://1")), catalogOf("2", backendOf("b", "resource r://1", "template r://{id}"))},
			mcpwire.ItemResource, "r://1", "", []string{"resource r://1"}},
		{"disputed is not starting", []*Catalog{catalogOf("1", backendOf("a", "tool n=x"), backendOf("n", "never")), catalogOf("2", backendOf("a", "tool n=y"))},
			mcpwire.ItemTool, "n", "", []string{"tool n"}},

		{"template", []*Catalog{catalogOf("1", backendOf("a", "template r://{id}"))}, mcpwire.ItemResource, "r://5", "a/r://5", nil},
		{"template does not match", []*Catalog{catalogOf("1", backendOf("a", "template r://{id}"))}, mcpwire.ItemResource, "r://5/6", "", nil},
		{"dot segments", []*Catalog{catalogOf("1", backendOf("a", "template r://{+path}"))}, mcpwire.ItemResource, "r://5/../6", "", nil},
		{"escapes of letters", []*Catalog{catalogOf("1", backendOf("a", "template r://{+path}"))}, mcpwire.ItemResource, "r://5/%61", "", nil},
		{"as the backend lists it", []*Catalog{catalogOf("1", backendOf("a", "resource r://5/../%61"))}, mcpwire.ItemResource, "r://5/../%61", "a/r://5/../%61", nil},
		{"reserved expansion", []*Catalog{catalogOf("1", backendOf("a", "template r://{+path}"))}, mcpwire.ItemResource, "r://5/6", "a/r://5/6", nil},
		{"query expansion", []*Catalog{catalogOf("1", backendOf("a", "template r://x{?a,b}"))}, mcpwire.ItemResource, "r://x?a=1&b=2", "a/r://x?a=1&b=2", nil},
		{"two templates of one owner", []*Catalog{catalogOf("1", backendOf("a", "template r://{id}", "template r://{+id}"))}, mcpwire.ItemResource, "r://5", "a/r://5", nil},
		{"two owners", []*Catalog{catalogOf("1", backendOf("a", "template r://{id}"), backendOf("b", "template r://{+id}"))}, mcpwire.ItemResource, "r://5", "", nil},
		{"two owners on two replicas", []*Catalog{catalogOf("1", backendOf("a", "template r://{id}")), catalogOf("2", backendOf("b", "template r://{+id}"))}, mcpwire.ItemResource, "r://5", "", nil},
		{"listed before template", []*Catalog{catalogOf("1", backendOf("a", "template r://{id}"), backendOf("b", "resource r://5"))}, mcpwire.ItemResource, "r://5", "b/r://5", nil},
		{"the template itself", []*Catalog{catalogOf("1", backendOf("a", "template r://{id}"))}, mcpwire.ItemResource, "r://{id}", "a/r://{id}", nil},
		{"an unreadable template owns nothing", []*Catalog{catalogOf("1", backendOf("a", "template r://{id"))}, mcpwire.ItemResource, "r://5", "", nil},
		{"a template is for resources only", []*Catalog{catalogOf("1", backendOf("a", "template r://{id}"))}, mcpwire.ItemTool, "r://5", "", nil},
		{"an endless URI", []*Catalog{catalogOf("1", backendOf("a", "template r://{id}"))}, mcpwire.ItemResource, "r://" + strings.Repeat("x", 8<<10), "", nil},

		{"may be of a backend never listed", []*Catalog{catalogOf("1", backendOf("b", "never"))}, mcpwire.ItemTool, "b_x", "starting", nil},
		{"may be of a backend that failed", []*Catalog{catalogOf("1", backendOf("b", "failed"), backendOf("c", "never"))}, mcpwire.ItemTool, "b_x", "failed", nil},
		{"is of no backend that failed", []*Catalog{catalogOf("1", backendOf("b", "failed"))}, mcpwire.ItemTool, "a_x", "", nil},
		{"one failed, another starts", []*Catalog{catalogOf("1", backendOf("b", "failed"), backendOf("c", "never"))}, mcpwire.ItemResource, "r://x", "starting", nil},
		{"cannot be", []*Catalog{catalogOf("1", backendOf("b", "never"))}, mcpwire.ItemTool, "a_x", "", nil},
		{"any resource may be", []*Catalog{catalogOf("1", backendOf("b", "never"))}, mcpwire.ItemResource, "r://x", "starting", nil},
		{"without prefixes any name may be", []*Catalog{catalogOf("1", &gatewayv1.BackendCatalog{Name: "b", State: gatewayv1.BackendState_BACKEND_STATE_NEVER_LISTED})},
			mcpwire.ItemTool, "x", "starting", nil},
		{"known although another is missing", []*Catalog{catalogOf("1", backendOf("a", "resource r://1"), backendOf("b", "never"))}, mcpwire.ItemResource, "r://1", "a/r://1", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, disputed := newEngine(t, permitAll, tt.catalogs...)
			entry, absence := e.Snapshot().Resolve(tt.kind, tt.item)
			got := ""
			switch {
			case absence != None:
				got = map[Absence]string{Starting: "starting", Failed: "failed"}[absence]
			case entry != nil:
				got = entry.Target.Backend + "/" + entry.Target.Name
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if diff := cmp.Diff(tt.disputed, *disputed); diff != "" {
				t.Errorf("disputed (-want +got):\n%s", diff)
			}
		})
	}
}

// TestShadowed: an original name that another item advertises, on whatever replica, serves no permit.
func TestShadowed(t *testing.T) {
	const byName = `permit(principal, action, resource == Tool::"x");`
	for _, tt := range []struct {
		name     string
		catalogs []*Catalog
		permits  bool
	}{
		{"its own", []*Catalog{catalogOf("1", backendOf("a", "tool a_x=x"))}, true},
		{"another's", []*Catalog{catalogOf("1", backendOf("a", "tool a_x=x"), backendOf("b", "tool x=y"))}, false},
		{"another's on the first replica", []*Catalog{
			catalogOf("1", backendOf("a", "tool a_x=x"), backendOf("b", "tool x=y")), catalogOf("2", backendOf("a", "tool a_x=x"))}, false},
		{"another's on the second replica", []*Catalog{
			catalogOf("1", backendOf("a", "tool a_x=x")), catalogOf("2", backendOf("a", "tool a_x=x"), backendOf("b", "tool x=y"))}, false},
		{"a prompt's", []*Catalog{catalogOf("1", backendOf("a", "tool a_x=x"), backendOf("b", "prompt x=y"))}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, _ := newEngine(t, byName, tt.catalogs...)
			s := e.Snapshot()
			entry, _ := s.Resolve(mcpwire.ItemTool, "a_x")
			if got := s.Policies.Decide(s.Policies.Anonymous(), entry.Prepared, nil, policy.Context{}).Allow; got != tt.permits {
				t.Errorf("permitted: %v, want %v", got, tt.permits)
			}
		})
	}
}

// TestSnapshot: none without policies or without a catalog, and a new one with each of either.
func TestSnapshot(t *testing.T) {
	e := New(func(mcpwire.ItemKind, string) {}, func([]string) {}, func(ChangedTool) {})
	one := catalogOf("1", backendOf("a", "tool a_x=x"))
	e.SetReplica("r", one)
	if e.Snapshot() != nil {
		t.Error("a snapshot without policies")
	}
	e.SetPolicies(loadPolicies(t, permitAll))
	first := e.Snapshot()
	if first == nil || first.Digest != "1" {
		t.Fatalf("got %v, want a snapshot of catalog 1", first)
	}
	allowed := func(s *Snapshot) bool {
		entry, _ := s.Resolve(mcpwire.ItemTool, "a_x")
		return s.Policies.Decide(s.Policies.Anonymous(), entry.Prepared, nil, policy.Context{}).Allow
	}
	e.SetPolicies(loadPolicies(t, `forbid(principal, action, resource);`))
	if !allowed(first) || allowed(e.Snapshot()) {
		t.Error("new policies: want the items prepared for them, and the old snapshot as it was")
	}
	view := func() string {
		c, err := e.Snapshot().Caller(nil)
		if err != nil {
			t.Fatal(err)
		}
		return c.View(policy.Context{})
	}
	before := view()
	e.SetReplica("s", catalogOf("2", backendOf("a", "tool a_x=x")))
	merged := e.Snapshot().Digest
	if merged == "1" || merged == "2" || view() == before {
		t.Errorf("digest of two catalogs is %q, view unchanged %v", merged, view() == before)
	}
	e.SetReplica("r", nil)
	if got := e.Snapshot().Digest; got != "2" {
		t.Errorf("digest %q after a replica was forgotten, want 2", got)
	}
	e.SetReplica("s", nil)
	if e.Snapshot() != nil {
		t.Error("a snapshot without a catalog")
	}
}

// TestUnknown: names in policies that exist nowhere are told of where the whole catalog is known, once for each change.
func TestUnknown(t *testing.T) {
	var told [][]string
	e := New(nil, func(remarks []string) { told = append(told, remarks) }, nil)
	e.SetPolicies(loadPolicies(t, `forbid(principal, action == Action::"call_tool", resource == Tool::"delete");
permit(principal, action, resource == Tool::"a_get");
permit(principal, action, resource in Tool::"get") unless { resource == Prompt::"plan" || resource in [Tool::"x", Resource::"doc://1"] };
permit(principal, action, resource) unless { resource.name == "drop" || "get" != resource.original_name || resource.uri == "doc://2" };
permit(principal, action == Action::"callTool", resource is Resource in Resource::"item://7");`))
	want := func(when string, changes int, remarks ...string) {
		t.Helper()
		last := []string(nil)
		if len(told) > 0 {
			last = told[len(told)-1]
		}
		if len(told) != changes || !slices.Equal(last, remarks) {
			t.Errorf("%s: told %d times, the last %q; want %d, %q", when, len(told), last, changes, remarks)
		}
		if got := e.Warnings(); len(got) != 1+len(remarks) || !strings.Contains(got[0], "callTool") {
			t.Errorf("%s: warnings %q, want one of its own and the remarks", when, got)
		}
	}
	want("no catalog", 0)
	listed := backendOf("a", "tool a_get=get", "prompt a_x=x", "template item://{id}", "resource doc://1")
	e.SetReplica("1", catalogOf("1", listed, backendOf("b", "pending")))
	want("one was never listed", 0)
	missing := []string{`p:1: policy p#1: there is no tool "delete"`, `p:3: policy p#3: there is no prompt "plan"`, `p:3: policy p#3: there is no tool "x"`,
		`p:4: policy p#4: there is no tool, prompt or resource "drop"`, `p:4: policy p#4: there is no tool, prompt or resource "doc://2"`}
	e.SetReplica("1", catalogOf("2", listed, backendOf("b")))
	want("all listed", 1, missing...)
	e.SetReplica("1", catalogOf("3", listed, backendOf("b", "tool b_y=y")))
	want("something else came", 1, missing...)
	e.SetReplica("1", catalogOf("4", listed, backendOf("b", "tool b_delete=delete", "tool drop=d", "tool x", "prompt plan", "resource doc://2")))
	want("all came", 2)
}

// TestDigestOrder: which replica is which does not matter.
func TestDigestOrder(t *testing.T) {
	one, two := catalogOf("1", backendOf("a", "tool x")), catalogOf("2", backendOf("b", "tool y"))
	ab, _ := newEngine(t, permitAll, one, two)
	ba, _ := newEngine(t, permitAll, two, one)
	if a, b := ab.Snapshot().Digest, ba.Snapshot().Digest; a != b {
		t.Errorf("digests %s and %s", a, b)
	}
}

func TestEntry(t *testing.T) {
	yes := true
	b := &gatewayv1.BackendCatalog{Name: "a", Tools: []*gatewayv1.Item{{Name: "a_x", Original: "x",
		Annotations: &gatewayv1.Annotations{DestructiveHint: &yes},
		Arguments: []*gatewayv1.Argument{{Name: "Count", Types: []string{"integer"}}, {Name: "ſ",
			Properties: []*gatewayv1.Argument{{Name: "in", Types: []string{"null"}}}, Items: &gatewayv1.Argument{Types: []string{"string"}}}},
		Additional: &gatewayv1.Argument{Types: []string{"array"}}}}}
	e, _ := newEngine(t, permitAll+`forbid(principal, action, resource) when { context has arg_x };`, catalogOf("1", b))
	entry, _ := e.Snapshot().Resolve(mcpwire.ItemTool, "a_x")
	if diff := cmp.Diff(&gatewayv1.Target{Backend: "a", Name: "x"}, entry.Target, protocmp.Transform()); diff != "" {
		t.Errorf("target (-want +got):\n%s", diff)
	}
	want := policy.Item{Kind: policy.Tool, Backend: "a", Original: "x", Advertised: "a_x", DestructiveHint: &yes,
		Args: &policy.Schema{Additional: &policy.Schema{Types: []string{"array"}}, Properties: map[string]*policy.Schema{
			"Count": {Types: []string{"integer"}},
			"ſ":     {Properties: map[string]*policy.Schema{"in": {Types: []string{"null"}}}, Items: &policy.Schema{Types: []string{"string"}}}}}}
	if diff := cmp.Diff(want, entry.Prepared.Item); diff != "" {
		t.Errorf("item (-want +got):\n%s", diff)
	}
	e, _ = newEngine(t, permitAll, catalogOf("1", b))
	if without, _ := e.Snapshot().Resolve(mcpwire.ItemTool, "a_x"); without.Prepared.Item.Args != nil {
		t.Error("kept what no policy reads")
	}
	if diff := cmp.Diff(map[string]string{"COUNT": "Count", "Count": "Count", "S": "ſ", "ſ": "ſ"}, entry.Declared); diff != "" {
		t.Errorf("declared (-want +got):\n%s", diff)
	}
}

// TestListOrder: the list of a catalog is all its items of a kind in bytewise order of their names, which is how the
// aggregator counts them; and each is judged as Resolve finds it. Names are drawn so that they collide and fold.
func TestListOrder(t *testing.T) {
	kinds := map[mcpwire.ItemKind]string{mcpwire.ItemTool: "tool", mcpwire.ItemPrompt: "prompt", mcpwire.ItemResource: "resource", mcpwire.ItemTemplate: "template"}
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 0))
		var catalogs []*Catalog
		for n := range 1 + rng.IntN(3) {
			c := catalogOf(fmt.Sprint(n))
			taken := map[string]bool{} // unique in its kind over all backends, as the aggregator promises
			for _, backend := range []string{"b", "a", "c"} {
				var items []string
				for range rng.IntN(6) {
					for _, kind := range kinds {
						name := string([]rune("aZé_\u00ff\u4e00z-")[rng.IntN(8)]) + string([]rune("aB\u0101")[rng.IntN(3)])
						if text := kind + " " + name; !taken[text] {
							taken[text] = true
							items = append(items, text+"="+backend+"-"+name)
						}
					}
				}
				c.Backends = append(c.Backends, backendOf(backend, items...))
			}
			catalogs = append(catalogs, c)
		}
		e, disputed := newEngine(t, permitAll, catalogs...)
		s := e.Snapshot()
		for _, c := range catalogs {
			for kind, word := range kinds {
				var want []string
				for _, b := range c.Backends {
					for _, it := range map[string][]*gatewayv1.Item{"tool": b.Tools, "prompt": b.Prompts, "resource": b.Resources, "template": b.ResourceTemplates}[word] {
						want = append(want, it.Name)
					}
				}
				slices.Sort(want)
				list, ok := s.List(c.Digest, kind)
				if !ok || len(list) != len(want) {
					t.Fatalf("seed %d: %d items of %v, want %d", seed, len(list), kind, len(want))
				}
				permitted := s.Policies.Permitted(s.Policies.Anonymous(), list, policy.Context{})
				for i, name := range want {
					isDisputed := slices.Contains(*disputed, kind.String()+" "+name)
					if got := slices.Contains(permitted, uint32(i)); got == isDisputed {
						t.Errorf("seed %d: %v %s: permitted %v, disputed %v", seed, kind, name, got, isDisputed)
					}
					if !isDisputed && list[i].Item.Advertised != name {
						t.Errorf("seed %d: item %d of %v is %s, want %s", seed, i, kind, list[i].Item.Advertised, name)
					}
				}
			}
		}
		if _, ok := s.List("unknown", mcpwire.ItemTool); ok {
			t.Error("a list of an unknown digest")
		}
	}
}

func TestCaller(t *testing.T) {
	e, _ := newEngine(t, permitAll, catalogOf("1"))
	s := e.Snapshot()
	if c, err := s.Caller(nil); err != nil || c == nil {
		t.Errorf("anonymous: %v, %v", c, err)
	}
	if _, err := s.Caller([]byte(`{"sub":"x","groups":5}`)); err == nil {
		t.Error("unreadable groups make a caller")
	}
	for i := range mostCallers + 2 { // never more, and those in use are made again
		payload := fmt.Appendf(nil, `{"sub":"%d","groups":["g"]}`, i%(mostCallers+1))
		c, err := s.Caller(payload)
		again, _ := s.Caller(payload)
		if err != nil || c != again || c.View(policy.Context{}) != again.View(policy.Context{}) || len(s.callers.byPayload) > mostCallers {
			t.Fatalf("caller %d: %v; made again: %v; %d are kept", i, err, c != again, len(s.callers.byPayload))
		}
	}
	e.SetPolicies(loadPolicies(t, `permit(principal, action, resource) when { context.client_ip == ip("192.0.2.1") || principal == Client::"a" };`))
	views := map[string]bool{}
	for _, sub := range []string{"a", "b"} {
		c, err := e.Snapshot().Caller([]byte(`{"sub":"` + sub + `"}`))
		if err != nil {
			t.Fatal(err)
		}
		views[c.View(Context("192.0.2.1", mcpwire.EraModern))] = true
		views[c.View(Context("192.0.2.2", mcpwire.EraModern))] = true
	}
	if len(views) != 4 {
		t.Errorf("%d views of two callers at two addresses, want 4", len(views))
	}
	if got := Context("::ffff:192.0.2.1", mcpwire.EraModern); got.ClientIP.String() != "192.0.2.1" || got.Era != "modern" {
		t.Errorf("context %v", got)
	}
	if got := Context("/run/x.sock", mcpwire.EraLegacy); got.ClientIP.IsValid() {
		t.Errorf("context %v, want no address", got)
	}
}
