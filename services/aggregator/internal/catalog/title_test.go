package catalog

import (
	"strings"
	"testing"

	"vmcp/internal/gatewayconfig"
	"vmcp/internal/mcpwire"
)

// TestTitles: a title that several backends use says whose it is, to clients of both eras; all others stay.
func TestTitles(t *testing.T) {
	def := func(name, rest string) Definition {
		return Definition{name, []byte(`{"name":"` + name + `","inputSchema":{"type":"object"}` + rest + `}`)}
	}
	a := Listing{Backend: "a", Listed: true, Tools: []Definition{
		def("search", `,"title":"Search"`), def("own", `,"title":"Own"`), def("twice", `,"title":"Twice"`), def("again", `,"title":"Twice"`), def("none", ""),
		def("output", `,"title":"Output","outputSchema":{"type":"array"}`)}}
	b := Listing{Backend: "b", Listed: true, Tools: []Definition{
		def("search", `,"annotations":{"title":"search"}`), def("none", ""), def("output", `,"title":"Output"`)}}
	c := Merge(&gatewayconfig.Aggregator{ConflictResolution: "prefix", PrefixFormat: "{workload}_"}, []Listing{a, b})
	for name, want := range map[string]string{"a_search": "Search (a)", "b_search": "search (b)", "a_own": "Own", "a_twice": "Twice", "a_again": "Twice",
		"a_none": "", "b_none": "", "a_output": "Output (a)", "b_output": "Output (b)"} {
		it, ok := c.Find(mcpwire.ItemTool, name)
		if got := title(it.Raw); !ok || got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
		if it.Legacy != nil && title(it.Legacy) != want {
			t.Errorf("%s for legacy clients: %s", name, it.Legacy)
		}
	}
	if it, _ := c.Find(mcpwire.ItemTool, "b_search"); !strings.Contains(string(it.Raw), `"annotations":{"title":"search"}`) {
		t.Errorf("its annotations changed: %s", it.Raw)
	}
}

// TestNameLimit: names above the limit are shortened to it, by a hash that keeps them apart.
func TestNameLimit(t *testing.T) {
	long := strings.Repeat("x", 70)
	l := offering("a", "tool "+long+"1", "tool "+long+"2", "tool short")
	for limit, want := range map[int]int{0: 73, 64: 64, 32: 32, 128: 73} {
		c := Merge(&gatewayconfig.Aggregator{ConflictResolution: "prefix", PrefixFormat: "{workload}_", NameLimit: limit}, []Listing{l})
		longest := 0
		for _, it := range c.Items(mcpwire.ItemTool) {
			longest = max(longest, len(it.Name))
		}
		if longest != want || len(c.Items(mcpwire.ItemTool)) != 3 {
			t.Errorf("limit %d: the longest of %d has %d, want %d", limit, len(c.Items(mcpwire.ItemTool)), longest, want)
		}
		if _, ok := c.Find(mcpwire.ItemTool, "a_short"); !ok {
			t.Errorf("limit %d: a short name changed", limit)
		}
	}
}
