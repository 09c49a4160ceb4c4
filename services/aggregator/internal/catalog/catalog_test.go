package catalog

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"vmcp/internal/gatewayconfig"
	"vmcp/internal/mcpwire"
	gatewayv1 "vmcp/proto/gateway/v1"
)

// schemaOfTypes says the types of its properties in every way that is understood, and in some that are not.
const schemaOfTypes = `{"type":"object","properties":{
	"any":{"anyOf":[{"type":"boolean"},{"type":"null"}]}, "one":{"oneOf":[{"type":["string","null"]},{"$ref":"#/definitions/n"}]},
	"open":{"anyOf":[{"type":"string"},{}]}, "ref":{"$ref":"#/$defs/b"}, "all":{"allOf":[{"description":"x"},{"type":"array"}]},
	"far":{"$ref":"https://example.com/schema"}, "loop":{"$ref":"#/$defs/loop"}, "odd":{"type":5,"anyOf":{}}},
	"$defs":{"b":{"type":"boolean"},"loop":{"allOf":[{"$ref":"#/$defs/loop"},{"$ref":"#/$defs/loop"},{"$ref":"#/$defs/loop"}]}},
	"definitions":{"n":{"type":"integer"}}}`

func toolDef(name string) Definition {
	return Definition{name, fmt.Appendf(nil, `{"name":%s,"inputSchema":{"type":"object"}}`, mcpwire.Quote(name))}
}

// offering makes the listing of a backend: "tool x", "prompt x", "resource x", "template x", or "never".
func offering(backend string, items ...string) Listing {
	l := Listing{Backend: backend, Listed: true}
	for _, text := range items {
		kind, name, _ := strings.Cut(text, " ")
		switch kind {
		case "tool":
			l.Tools = append(l.Tools, toolDef(name))
		case "prompt":
			l.Prompts = append(l.Prompts, Definition{name, fmt.Appendf(nil, `{"name":%s}`, mcpwire.Quote(name))})
		case "resource":
			l.Resources = append(l.Resources, Definition{name, fmt.Appendf(nil, `{"uri":%s,"name":"r"}`, mcpwire.Quote(name))})
		case "template":
			l.Templates = append(l.Templates, Definition{name, fmt.Appendf(nil, `{"uriTemplate":%s,"name":"r"}`, mcpwire.Quote(name))})
		case "broken":
			l.Tools = append(l.Tools, Definition{name, fmt.Appendf(nil, `{"name":%s,"inputSchema":5}`, mcpwire.Quote(name))})
		case "never":
			l.Listed = false
		}
	}
	return l
}

// advertised lists a catalog as "kind name=backend/original".
func advertised(c *Catalog) []string {
	var all []string
	for kind := mcpwire.ItemTool; kind <= mcpwire.ItemTemplate; kind++ {
		for _, it := range c.Items(kind) {
			all = append(all, fmt.Sprintf("%s %s=%s/%s", kind, it.Name, it.Backend, it.Original))
		}
	}
	return all
}

func prefixes() gatewayconfig.Aggregator {
	return gatewayconfig.Aggregator{ConflictResolution: "prefix", PrefixFormat: "{workload}_"}
}

func priority(order ...string) gatewayconfig.Aggregator {
	return gatewayconfig.Aggregator{ConflictResolution: "priority", PrefixFormat: "{workload}_", PriorityOrder: order}
}

func manual() gatewayconfig.Aggregator {
	return gatewayconfig.Aggregator{ConflictResolution: "manual", PrefixFormat: "{workload}_"}
}

func with(cfg gatewayconfig.Aggregator, change func(*gatewayconfig.Aggregator)) gatewayconfig.Aggregator {
	change(&cfg)
	return cfg
}

func tools(backend string, wt gatewayconfig.WorkloadTools) func(*gatewayconfig.Aggregator) {
	return func(cfg *gatewayconfig.Aggregator) {
		cfg.Tools = map[string]gatewayconfig.WorkloadTools{backend: wt}
	}
}

func rename(from, to string) map[string]gatewayconfig.ToolOverride {
	return map[string]gatewayconfig.ToolOverride{from: {Name: to}}
}

func TestNames(t *testing.T) {
	ab := []Listing{offering("a", "tool x", "tool y", "prompt p"), offering("b", "tool x", "tool z", "prompt p")}
	tests := []struct {
		name     string
		cfg      gatewayconfig.Aggregator
		listings []Listing
		want     []string
		dropped  []string // backend/name
	}{
		{"prefix", prefixes(), ab, []string{"tool a_x=a/x", "tool a_y=a/y", "tool b_x=b/x", "tool b_z=b/z", "prompt a_p=a/p", "prompt b_p=b/p"}, nil},
		{"prefix of another format", with(prefixes(), func(c *gatewayconfig.Aggregator) { c.PrefixFormat = "{workload}." }),
			[]Listing{offering("a", "tool x")}, []string{"tool a.x=a/x"}, nil},
		{"prefixes that meet", with(prefixes(), func(c *gatewayconfig.Aggregator) { c.PrefixFormat = "{workload}-" }),
			[]Listing{offering("a", "tool b-c", "tool d"), offering("a-b", "tool c")}, []string{"tool a-d=a/d"}, []string{"a/a-b-c", "a-b/a-b-c"}},

		{"priority", priority("b", "a"), ab, []string{"tool x=b/x", "tool y=a/y", "tool z=b/z", "prompt p=b/p"}, []string{"a/x", "a/p"}},
		{"priority of one", priority("a"), ab, []string{"tool x=a/x", "tool y=a/y", "tool z=b/z", "prompt b_p=b/p", "prompt p=a/p"}, []string{"b/x"}},
		{"priority of neither", priority(), ab, []string{"tool y=a/y", "tool z=b/z", "prompt a_p=a/p", "prompt b_p=b/p"}, []string{"a/x", "b/x"}},
		{"priority of a backend that was never listed", priority("b", "a"), []Listing{offering("a", "tool x"), offering("b", "never")}, []string{"tool x=a/x"}, nil},

		{"manual", manual(), ab, []string{"tool y=a/y", "tool z=b/z", "prompt a_p=a/p", "prompt b_p=b/p"}, []string{"a/x", "b/x"}},
		{"manual, resolved", with(manual(), tools("b", gatewayconfig.WorkloadTools{Overrides: rename("x", "bx")})), ab,
			[]string{"tool bx=b/x", "tool x=a/x", "tool y=a/y", "tool z=b/z", "prompt a_p=a/p", "prompt b_p=b/p"}, nil},
		{"three claim a name", manual(), []Listing{offering("a", "tool x"), offering("b", "tool x"), offering("c", "tool x")}, nil, []string{"a/x", "b/x", "c/x"}},

		{"rename, then prefix", with(prefixes(), tools("a", gatewayconfig.WorkloadTools{Overrides: rename("x", "new")})), []Listing{offering("a", "tool x")},
			[]string{"tool a_new=a/x"}, nil},
		{"renamed onto another of its own", with(prefixes(), tools("a", gatewayconfig.WorkloadTools{Overrides: rename("x", "y")})), []Listing{offering("a", "tool x", "tool y", "tool z")},
			[]string{"tool a_z=a/z"}, []string{"a/a_y", "a/a_y"}},
		{"twice at the first in order, so nobody's", with(priority("a", "b"), tools("a", gatewayconfig.WorkloadTools{Overrides: rename("x", "y")})),
			[]Listing{offering("a", "tool x", "tool y"), offering("b", "tool y")}, nil, []string{"a/y", "a/y", "b/y"}},

		{"filter by original name", with(prefixes(), tools("a", gatewayconfig.WorkloadTools{Filter: []string{"x"}})), ab,
			[]string{"tool a_x=a/x", "tool b_x=b/x", "tool b_z=b/z", "prompt a_p=a/p", "prompt b_p=b/p"}, nil},
		{"filter by new name", with(prefixes(), tools("a", gatewayconfig.WorkloadTools{Filter: []string{"new"}, Overrides: rename("x", "new")})), []Listing{offering("a", "tool x", "tool y")},
			[]string{"tool a_new=a/x"}, nil},
		{"no filter by a name that an override replaced", with(prefixes(), tools("a", gatewayconfig.WorkloadTools{Filter: []string{"x"}, Overrides: rename("x", "new")})), []Listing{offering("a", "tool x", "tool y")}, nil, nil},
		{"no filter by advertised name", with(prefixes(), tools("a", gatewayconfig.WorkloadTools{Filter: []string{"a_x"}})), []Listing{offering("a", "tool x")}, nil, nil},
		{"exclude all of one", with(prefixes(), tools("a", gatewayconfig.WorkloadTools{ExcludeAll: true, Filter: []string{"x"}})), ab,
			[]string{"tool b_x=b/x", "tool b_z=b/z", "prompt a_p=a/p", "prompt b_p=b/p"}, nil},
		{"exclude all", with(prefixes(), func(c *gatewayconfig.Aggregator) { c.ExcludeAllTools = true }), ab, []string{"prompt a_p=a/p", "prompt b_p=b/p"}, nil},
		{"hide by default", with(with(prefixes(), tools("a", gatewayconfig.WorkloadTools{Filter: []string{"x"}})), func(c *gatewayconfig.Aggregator) { c.HideByDefault = true }), ab,
			[]string{"tool a_x=a/x", "prompt a_p=a/p", "prompt b_p=b/p"}, nil},
		{"a hidden tool keeps its name from others", with(manual(), tools("a", gatewayconfig.WorkloadTools{ExcludeAll: true})),
			[]Listing{offering("a", "tool x"), offering("b", "tool x", "tool y")}, []string{"tool y=b/y"}, []string{"a/x", "b/x"}},
		{"a hidden tool that has priority too", with(priority("a", "b"), tools("a", gatewayconfig.WorkloadTools{ExcludeAll: true})),
			[]Listing{offering("a", "tool x"), offering("b", "tool x", "tool y")}, []string{"tool y=b/y"}, []string{"b/x"}},
		{"a broken tool too", priority("a", "b"), []Listing{offering("a", "broken x"), offering("b", "tool x", "tool y")}, []string{"tool y=b/y"}, []string{"a/x", "b/x"}},

		{"resources: the first configured owns", prefixes(), []Listing{offering("b", "resource r://1", "template r://{x}"), offering("a", "resource r://1", "resource r://2", "template r://{x}")},
			[]string{"resource r://1=b/r://1", "resource r://2=a/r://2", "resource template r://{x}=b/r://{x}"}, []string{"a/r://1", "a/r://{x}"}},
		{"resources: twice at the first", prefixes(), []Listing{offering("b", "resource r://1", "resource r://1"), offering("a", "resource r://1")}, nil, []string{"b/r://1", "b/r://1", "a/r://1"}},
		{"a name twice in one backend", prefixes(), []Listing{offering("a", "tool x", "tool x", "prompt p", "prompt p", "tool y")}, []string{"tool a_y=a/y"}, []string{"a/a_x", "a/a_x", "a/a_p", "a/a_p"}},
		{"kinds do not meet", manual(), []Listing{offering("a", "tool x", "resource x", "template x"), offering("b", "resource y")},
			[]string{"tool x=a/x", "resource x=a/x", "resource y=b/y", "resource template x=a/x"}, nil},
		{"never listed", prefixes(), []Listing{offering("a", "never")}, nil, nil},
		{"bytewise order", manual(), []Listing{offering("a", "tool b", "tool B", "tool _", "tool é", "tool a-", "tool a")},
			[]string{"tool B=a/B", "tool _=a/_", "tool a=a/a", "tool a-=a/a-", "tool b=a/b", "tool é=a/é"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := Merge(&tt.cfg, tt.listings)
			if diff := cmp.Diff(tt.want, advertised(c)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			var dropped []string
			for _, d := range c.Dropped {
				dropped = append(dropped, d.Backend+"/"+d.Name)
			}
			slices.Sort(dropped)
			slices.Sort(tt.dropped)
			if tt.name == "a broken tool too" { // for two reasons
				dropped = slices.Compact(dropped)
			}
			if diff := cmp.Diff(tt.dropped, dropped); diff != "" {
				t.Errorf("dropped (-want +got):\n%s", diff)
			}
			check(t, c, tt.listings)
		})
	}
}

// check is what holds for every catalog.
func check(t testing.TB, c *Catalog, listings []Listing) {
	t.Helper()
	wire := map[mcpwire.ItemKind][]string{}
	if len(c.Backends) != len(listings) {
		t.Errorf("%d backends in the message, want %d", len(c.Backends), len(listings))
	}
	for i, b := range c.Backends {
		if b.Name != listings[i].Backend || (b.State == gatewayv1.BackendState_BACKEND_STATE_LISTED) != listings[i].Listed {
			t.Errorf("backend %d is %s %v", i, b.Name, b.State)
		}
		for kind, items := range map[mcpwire.ItemKind][]*gatewayv1.Item{mcpwire.ItemTool: b.Tools, mcpwire.ItemPrompt: b.Prompts, mcpwire.ItemResource: b.Resources, mcpwire.ItemTemplate: b.ResourceTemplates} {
			for _, it := range items {
				wire[kind] = append(wire[kind], it.Name+"="+b.Name+"/"+it.Original)
				if kind <= mcpwire.ItemPrompt && !strings.HasPrefix(it.Name, b.NamePrefix) {
					t.Errorf("%s does not begin with the prefix %q of %s", it.Name, b.NamePrefix, b.Name)
				}
			}
		}
	}
	for kind := mcpwire.ItemTool; kind <= mcpwire.ItemTemplate; kind++ {
		var items []string
		for i, it := range c.Items(kind) {
			if i > 0 && c.Items(kind)[i-1].Name >= it.Name {
				t.Errorf("%s %q comes after %q", kind, it.Name, c.Items(kind)[i-1].Name)
			}
			items = append(items, it.Name+"="+it.Backend+"/"+it.Original)
			if got, ok := c.Find(kind, it.Name); !ok || got.Backend != it.Backend || got.Original != it.Original {
				t.Errorf("Find(%s, %q) is %v, %v", kind, it.Name, got, ok)
			}
			if kind > mcpwire.ItemPrompt {
				continue
			}
			var def struct{ Name string }
			if err := json.Unmarshal(it.Raw, &def); err != nil || def.Name != it.Name {
				t.Errorf("the definition of %q says %s (%v)", it.Name, it.Raw, err)
			}
			if len(it.Name) > MaxName {
				t.Errorf("%q has %d bytes", it.Name, len(it.Name))
			}
		}
		slices.Sort(wire[kind])
		slices.Sort(items)
		if diff := cmp.Diff(items, wire[kind]); diff != "" {
			t.Errorf("%s: authz is told other items (-catalog +message):\n%s", kind, diff)
		}
		if _, ok := c.Find(kind, "no such name"); ok {
			t.Errorf("Find(%s) finds what is not there", kind)
		}
	}
}

func TestLongNames(t *testing.T) {
	long := strings.Repeat("n", 200)
	backend := strings.Repeat("b", 150)
	cfg := prefixes()
	for _, tt := range []struct {
		cfg     gatewayconfig.Aggregator
		backend string
		names   []string
	}{
		{cfg, "a", []string{long + "1", long + "2", strings.Repeat("n", 126), strings.Repeat("n", 127)}},
		{cfg, "a", []string{strings.Repeat("é", 100) + "1", "x" + strings.Repeat("é", 100)}},
		{cfg, backend, []string{"x", "y"}},
		{manual(), "a", []string{long + "1", long + "2"}},
	} {
		var items []string
		for _, n := range tt.names {
			items = append(items, "tool "+n, "prompt "+n)
		}
		listings := []Listing{offering(tt.backend, items...)}
		c := Merge(&tt.cfg, listings)
		check(t, c, listings)
		if got := len(c.Items(mcpwire.ItemTool)); got != len(tt.names) {
			t.Errorf("%d tools, want all %d: %q", got, len(tt.names), advertised(c))
		}
		for _, it := range c.Items(mcpwire.ItemTool) {
			if !utf8.ValidString(it.Name) {
				t.Errorf("%q is cut within a character", it.Name)
			}
			if full := tt.cfg.PrefixFormat; len("a_")+len(it.Original) <= MaxName && tt.backend == "a" && full != "" && it.Name != "a_"+it.Original && tt.cfg.ConflictResolution == "prefix" {
				t.Errorf("%q is shortened without need", it.Original)
			}
		}
	}
	// Two backends with one long tool keep two names.
	c := Merge(&gatewayconfig.Aggregator{ConflictResolution: "manual"}, []Listing{offering("a", "tool "+long), offering("b", "tool "+long)})
	if got := len(c.Items(mcpwire.ItemTool)); got != 2 {
		t.Errorf("%d tools, want 2: %q", got, advertised(c))
	}
}

// TestOutage: with prefixes that end in what no backend's name holds, an advertised name means one backend and one
// original name, whatever else is listed: neither an outage nor another backend's tools ever move it.
func TestOutage(t *testing.T) {
	cfg := prefixes()
	backends := []string{"a", "a-b", "b", "ab", strings.Repeat("l", 130)}
	names := []string{"x", "b_x", "-b_x", "_x", strings.Repeat("n", 140), strings.Repeat("n", 141), "é"}
	owner := map[string]string{}
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 2))
		var listings []Listing
		for _, b := range backends {
			var items []string
			for _, n := range names {
				if rng.IntN(2) == 0 {
					items = append(items, "tool "+n, "prompt "+n)
				}
			}
			if rng.IntN(4) == 0 {
				items = []string{"never"}
			}
			rng.Shuffle(len(items), func(i, j int) { items[i], items[j] = items[j], items[i] })
			if rng.IntN(5) > 0 {
				listings = append(listings, offering(b, items...))
			}
		}
		c := Merge(&cfg, listings)
		check(t, c, listings)
		for kind := mcpwire.ItemTool; kind <= mcpwire.ItemPrompt; kind++ {
			for _, it := range c.Items(kind) {
				key := kind.String() + " " + it.Name
				if was, ok := owner[key]; ok && was != it.Backend+"/"+it.Original {
					t.Fatalf("%s meant %s and now %s/%s", key, was, it.Backend, it.Original)
				}
				owner[key] = it.Backend + "/" + it.Original
			}
		}
	}
	if want := 2 * len(backends) * len(names); len(owner) != want {
		t.Errorf("%d names, want %d: %q", len(owner), want, slices.Sorted(maps.Keys(owner)))
	}
}

// FuzzMerge: whatever backends say, merging does not panic, and what it gives is consistent.
func FuzzMerge(f *testing.F) {
	f.Add(uint8(0), "a", "x", `{"name":"x","inputSchema":{"type":"object","properties":{"a":{"type":"string"}}}}`, "y", `{"name":"y"}`)
	f.Add(uint8(1), "b", "x", `{"name":"x","inputSchema":{},"annotations":{"readOnlyHint":true}}`, "x", `{"name":"x","inputSchema":{}}`)
	f.Add(uint8(6), "a", "x", `{"inputSchema":[],"name":null}`, "", `{}`)
	f.Add(uint8(31), "a", "x", `{"name":"x","inputSchema":{"properties":{"a":1,"a":2}}}`, "x", `{"name":"x","arguments":[{"name":5}]}`)
	f.Fuzz(func(t *testing.T, mode uint8, other, name1, raw1, name2, raw2 string) {
		for _, s := range []string{other, name1, name2} {
			if !utf8.ValidString(s) {
				return // names come out of a strict parser
			}
		}
		cfg := []gatewayconfig.Aggregator{prefixes(), manual(), priority("a", other)}[mode%3]
		defs := []Definition{{name1, []byte(raw1)}, {name2, []byte(raw2)}}
		cfg.Tools = map[string]gatewayconfig.WorkloadTools{"a": {Overrides: map[string]gatewayconfig.ToolOverride{
			name1: {Name: name2, Description: "d", Annotations: map[string]any{"title": name2, "readOnlyHint": true}}}}}
		if mode&8 != 0 {
			cfg.Tools = nil
		}
		if other == "a" {
			other = "a2"
		}
		listings := []Listing{{Backend: "a", Listed: true, Tools: defs, Prompts: defs, Resources: defs, Templates: defs[:1]},
			{Backend: other, Listed: true, Tools: defs[1:], Prompts: defs, Resources: defs[1:]}}
		for i := range listings { // the backend package takes the name out of the definition
			for _, list := range []*[]Definition{&listings[i].Tools, &listings[i].Prompts} {
				*list = slices.DeleteFunc(slices.Clone(*list), func(d Definition) bool {
					o, err := mcpwire.ParseObject(d.Raw, 0, len(d.Raw))
					if err != nil {
						return false
					}
					n, ok := o.String("name")
					return ok && n != d.Name
				})
			}
		}
		c := Merge(&cfg, listings)
		again := Merge(&cfg, listings)
		if c.Digest != again.Digest {
			t.Error("two digests of one content")
		}
		for kind := mcpwire.ItemTool; kind <= mcpwire.ItemTemplate; kind++ {
			for i, it := range c.Items(kind) {
				if i > 0 && c.Items(kind)[i-1].Name >= it.Name {
					t.Errorf("%s %q comes after %q", kind, it.Name, c.Items(kind)[i-1].Name)
				}
				if kind <= mcpwire.ItemPrompt {
					o, err := mcpwire.ParseObject(it.Raw, 0, len(it.Raw))
					if got, _ := o.String("name"); err != nil || got != it.Name {
						t.Errorf("the definition of %q is %s (%v)", it.Name, it.Raw, err)
					}
					if it.Wire.Original != it.Original {
						t.Errorf("%q is %q to authz and %q here", it.Name, it.Wire.Original, it.Original)
					}
				}
			}
		}
	})
}
