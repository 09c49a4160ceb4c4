package catalog

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmcp/internal/mcpwire"
)

// TestDigest: it changes with everything that clients or authz get, and with nothing else.
func TestDigest(t *testing.T) {
	cfg := prefixes()
	base := func() []Listing {
		return []Listing{
			{Backend: "a", Listed: true, Capabilities: []byte(`{"tools":{}}`), Instructions: "use a",
				Tools: []Definition{toolDef("x"), toolDef("y")}, Prompts: []Definition{{"p", []byte(`{"name":"p"}`)}}, Resources: []Definition{{"r://1", []byte(`{"uri":"r://1"}`)}}},
			{Backend: "b", Listed: true, Tools: []Definition{toolDef("x")}},
			{Backend: "c"},
		}
	}
	digest := func(change func([]Listing)) (string, []string) {
		l := base()
		change(l)
		c := Merge(&cfg, l)
		var parts []string
		for _, b := range c.Backends {
			parts = append(parts, b.Digest)
		}
		return c.Digest, parts
	}
	want, wantParts := digest(func([]Listing) {})
	for name, change := range map[string]func([]Listing){
		"nothing":                func([]Listing) {},
		"the order of listing":   func(l []Listing) { slices.Reverse(l[0].Tools) },
		"fresh copies":           func(l []Listing) { l[0].Tools[0].Raw = slices.Clone(l[0].Tools[0].Raw) },
		"other empty lists":      func(l []Listing) { l[1].Prompts = []Definition{} },
		"no capabilities at all": func(l []Listing) { l[1].Capabilities = []byte{} },
	} {
		if got, _ := digest(change); got != want {
			t.Errorf("the digest changes with %s", name)
		}
	}
	seen := map[string]string{want: "nothing"}
	for name, tt := range map[string]struct {
		change func([]Listing)
		part   int // index of the backend whose own digest changes, -1 for none
	}{
		"a tool less":   {func(l []Listing) { l[0].Tools = l[0].Tools[:1] }, 0},
		"a tool's name": {func(l []Listing) { l[0].Tools[0] = toolDef("x2") }, 0},
		"a description": {func(l []Listing) {
			l[0].Tools[0].Raw = []byte(`{"name":"x","description":"d","inputSchema":{"type":"object"}}`)
		}, 0},
		"white space": {func(l []Listing) { l[0].Tools[0].Raw = []byte(`{"name":"x", "inputSchema":{"type":"object"}}`) }, 0},
		"an argument": {func(l []Listing) { l[0].Tools[0].Raw = []byte(`{"name":"x","inputSchema":{"properties":{"a":{}}}}`) }, 0},
		"a hint": {func(l []Listing) {
			l[0].Tools[0].Raw = []byte(`{"name":"x","inputSchema":{},"annotations":{"readOnlyHint":true}}`)
		}, 0},
		"a prompt":           {func(l []Listing) { l[0].Prompts = nil }, 0},
		"a resource's bytes": {func(l []Listing) { l[0].Resources[0].Raw = []byte(`{"uri":"r://1","name":"n"}`) }, 0},
		"capabilities":       {func(l []Listing) { l[0].Capabilities = []byte(`{"tools":{},"logging":{}}`) }, -1},
		"instructions":       {func(l []Listing) { l[0].Instructions = "use b" }, -1},
		"listed, but empty":  {func(l []Listing) { l[2].Listed = true }, 2},
	} {
		got, parts := digest(tt.change)
		if seen[got] != "" {
			t.Errorf("the digest is the same with %s as with %s", name, seen[got])
		}
		seen[got] = name
		for i := range parts {
			if (parts[i] != wantParts[i]) != (i == tt.part) {
				t.Errorf("%s: the digest of backend %d changed: %v", name, i, parts[i] != wantParts[i])
			}
		}
	}
}

func TestDiffer(t *testing.T) {
	cfg := prefixes()
	merge := func(items ...string) *Catalog { return Merge(&cfg, []Listing{offering("a", items...)}) }
	base := merge("tool x", "prompt p", "resource r", "template t")
	for _, tt := range []struct {
		items []string
		want  []mcpwire.ItemKind
	}{
		{[]string{"tool x", "prompt p", "resource r", "template t"}, nil},
		{[]string{"tool x", "tool y", "prompt p", "resource r", "template t"}, []mcpwire.ItemKind{mcpwire.ItemTool}},
		{[]string{"tool x", "resource r", "template t"}, []mcpwire.ItemKind{mcpwire.ItemPrompt}},
		{[]string{"tool x", "prompt p", "resource r2", "template t"}, []mcpwire.ItemKind{mcpwire.ItemResource}},
		{[]string{"tool x", "prompt p", "resource r"}, []mcpwire.ItemKind{mcpwire.ItemResource, mcpwire.ItemTemplate}},
	} {
		var got []mcpwire.ItemKind
		for kind := mcpwire.ItemTool; kind <= mcpwire.ItemTemplate; kind++ {
			if Differ(base, merge(tt.items...), kind) {
				got = append(got, kind)
			}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.items, diff)
		}
	}
}
