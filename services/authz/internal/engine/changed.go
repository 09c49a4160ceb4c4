package engine

import (
	"cmp"
	"maps"
	"slices"
)

// ChangedTool is a tool that is not as it was approved, or is again: annotation vmcp/pin.
type ChangedTool struct {
	Backend, Original, Definition string
	Hidden, Settled               bool // Settled: it is as approved again, or gone
}

// tellChanged tells of the changed tools that were not among them before, and of those that are not any more. Callers hold
// mu.
func (e *Engine) tellChanged() {
	type tool struct{ backend, original string }
	now, still := map[ChangedTool]bool{}, map[tool]bool{}
	for _, c := range e.replicas {
		for _, b := range c.Backends {
			for _, t := range b.Changed {
				now[ChangedTool{Backend: b.Name, Original: t.Original, Definition: t.Definition, Hidden: t.Hidden}] = true
				still[tool{b.Name, t.Original}] = true
			}
		}
	}
	order := func(a, b ChangedTool) int {
		return cmp.Or(cmp.Compare(a.Backend, b.Backend), cmp.Compare(a.Original, b.Original))
	}
	for _, t := range slices.SortedFunc(maps.Keys(now), order) {
		if !e.known[t] {
			e.changed(t)
		}
	}
	for _, t := range slices.SortedFunc(maps.Keys(e.known), order) {
		if !still[tool{t.Backend, t.Original}] {
			t.Settled = true
			e.changed(t)
		}
	}
	e.known = now
}
