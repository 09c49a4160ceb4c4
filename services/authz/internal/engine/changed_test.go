package engine

import (
	"slices"
	"strings"
	"testing"

	"vmcp/internal/mcpwire"
	gatewayv1 "vmcp/proto/gateway/v1"
)

// TestChanged: what is not as it was approved is told once, whichever replica says so, and so is its end.
func TestChanged(t *testing.T) {
	var told []ChangedTool
	e := New(func(mcpwire.ItemKind, string) {}, func([]string) {}, func(c ChangedTool) { told = append(told, c) })
	with := func(definitions ...string) *Catalog {
		b := &gatewayv1.BackendCatalog{Name: "b"}
		for _, d := range definitions {
			b.Changed = append(b.Changed, &gatewayv1.ChangedTool{Original: "t", Definition: d, Hidden: true})
		}
		return catalogOf(strings.Join(definitions, "+"), b)
	}
	is := func(definition string, settled bool) ChangedTool {
		return ChangedTool{Backend: "b", Original: "t", Definition: definition, Hidden: true, Settled: settled}
	}
	for _, step := range []struct {
		replica string
		catalog *Catalog
		want    []ChangedTool
	}{
		{"1", with(), nil},
		{"1", with("x"), []ChangedTool{is("x", false)}},
		{"2", with("x"), nil},
		{"1", nil, nil}, // a replica that is away has approved nothing
		{"2", with("y"), []ChangedTool{is("y", false)}},
		{"1", with(), nil},
		{"2", with(), []ChangedTool{is("y", true)}},
	} {
		told = nil
		e.SetReplica(step.replica, step.catalog)
		if !slices.Equal(told, step.want) {
			t.Errorf("told %v, want %v", told, step.want)
		}
	}
}
