package catalog

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"vmcp/internal/gatewayconfig"
	"vmcp/internal/mcpwire"
	gatewayv1 "vmcp/proto/gateway/v1"
)

// Merge makes the catalog of cfg from listings, which are in configured order.
func Merge(cfg *gatewayconfig.Aggregator, listings []Listing) *Catalog {
	c := &Catalog{}
	m := merger{cfg: cfg, c: c}
	for _, l := range listings {
		m.tools(l)
		m.prompts(l)
		m.resources(l)
		c.Dropped = append(c.Dropped, l.LeftOut...)
		if l.Listed {
			c.Offers.add(l.Capabilities)
			if l.Instructions != "" {
				c.Instructions = append(c.Instructions, Instruction{l.Backend, l.Instructions})
			}
		}
	}
	for kind := mcpwire.ItemTool; kind <= mcpwire.ItemTemplate; kind++ {
		c.items[kind] = m.settle(kind)
	}
	titled(c.items[mcpwire.ItemTool])
	titled(c.items[mcpwire.ItemPrompt])
	m.describe(listings)
	return c
}

// merger collects candidates, several of which may claim one name. One without Raw is hidden or cannot be advertised,
// but claims its name all the same, so that this never gives the name to another.
type merger struct {
	cfg    *gatewayconfig.Aggregator
	c      *Catalog
	claims [5][]Item
}

func (m *merger) claim(kind mcpwire.ItemKind, it Item) { m.claims[kind] = append(m.claims[kind], it) }

func (m *merger) drop(kind mcpwire.ItemKind, it Item, reason string) {
	m.c.Dropped = append(m.c.Dropped, Drop{kind, it.Name, it.Backend, reason})
}

func (m *merger) tools(l Listing) {
	wt := m.cfg.Tools[l.Backend]
	for _, d := range l.Tools {
		over := wt.Overrides[d.Name]
		own := cmp.Or(over.Name, d.Name)
		name := m.name(l.Backend, own, m.cfg.ConflictResolution == "prefix")
		it := Item{Name: name, Backend: l.Backend, Original: d.Name}
		if m.advertised(wt, own) {
			var err error
			if it.Raw, it.Wire, err = tool(d.Raw, name, over); err != nil {
				m.drop(mcpwire.ItemTool, it, err.Error())
			} else {
				it.Legacy, it.Wire.Definition = forLegacy(it.Raw), Digest(d.Raw)
			}
		}
		m.claim(mcpwire.ItemTool, it)
	}
}

// advertised goes by the name that clients know, before the prefix.
func (m *merger) advertised(wt gatewayconfig.WorkloadTools, own string) bool {
	switch {
	case m.cfg.ExcludeAllTools, wt.ExcludeAll:
		return false
	case len(wt.Filter) > 0:
		return slices.Contains(wt.Filter, own)
	}
	return !m.cfg.HideByDefault
}

func (m *merger) prompts(l Listing) {
	for _, d := range l.Prompts {
		// Only tools can be renamed one by one, so manual prefixes prompts; priority prefixes what it does not rank.
		ranked := m.cfg.ConflictResolution == "priority" && slices.Contains(m.cfg.PriorityOrder, l.Backend)
		name := m.name(l.Backend, d.Name, !ranked)
		it := Item{Name: name, Backend: l.Backend, Original: d.Name}
		var err error
		if it.Raw, it.Wire, err = prompt(d.Raw, name); err != nil {
			m.drop(mcpwire.ItemPrompt, it, err.Error())
		} else {
			it.Wire.Definition = Digest(d.Raw)
		}
		m.claim(mcpwire.ItemPrompt, it)
	}
}

// resources keep their URIs; of several backends with one URI the first in configured order owns it (AG-9).
func (m *merger) resources(l Listing) {
	for _, part := range []struct {
		kind mcpwire.ItemKind
		defs []Definition
	}{{mcpwire.ItemResource, l.Resources}, {mcpwire.ItemTemplate, l.Templates}} {
		for _, d := range part.defs {
			it := Item{Name: d.Name, Backend: l.Backend, Original: d.Name, Wire: &gatewayv1.Item{Name: d.Name, Original: d.Name, Definition: Digest(d.Raw)}}
			var err error
			if it.Raw, err = conform(part.kind, d.Raw); err != nil {
				m.drop(part.kind, it, err.Error())
			}
			m.claim(part.kind, it)
		}
	}
}

func (m *merger) prefix(backend string) string {
	return strings.ReplaceAll(m.cfg.PrefixFormat, "{workload}", backend)
}

// name is the advertised name of a backend's tool or prompt.
func (m *merger) name(backend, own string, prefixed bool) string {
	full := own
	if prefixed {
		full = m.prefix(backend) + own
	}
	if len(full) <= m.limit() {
		return full
	}
	sum := sha256.Sum256([]byte(backend + "\x00" + own))
	return m.head(full) + "_" + hex.EncodeToString(sum[:4])
}

func (m *merger) limit() int { return cmp.Or(m.cfg.NameLimit, MaxName) }

// head is what a long name keeps.
func (m *merger) head(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), m.limit()-9)], "")
}

// settle decides who gets each claimed name: with priority the first in the order that ranks it, for resources the
// first configured, else nobody where there is more than one claimant (AG-4).
func (m *merger) settle(kind mcpwire.ItemKind) []Item {
	claims := m.claims[kind]
	slices.SortStableFunc(claims, func(a, b Item) int { return cmp.Compare(a.Name, b.Name) })
	var out []Item
	for start := 0; start < len(claims); {
		end := start + 1
		for end < len(claims) && claims[end].Name == claims[start].Name {
			end++
		}
		group := claims[start:end]
		start = end
		winner := 0
		if len(group) > 1 {
			winner = m.winner(kind, group)
			for i, it := range group {
				if i != winner {
					m.drop(kind, it, "the name is claimed more than once")
				}
			}
		}
		if winner >= 0 && group[winner].Raw != nil {
			out = append(out, group[winner])
		}
	}
	return out
}

// winner is the index of the claim that gets the name, -1 where none does. A backend that claims a name twice does not
// get it, and neither does the next in order.
func (m *merger) winner(kind mcpwire.ItemKind, group []Item) int {
	best := -1
	switch {
	case kind == mcpwire.ItemResource || kind == mcpwire.ItemTemplate:
		best = 0 // claims are in configured order
	case m.cfg.ConflictResolution == "priority":
		rank := len(m.cfg.PriorityOrder)
		for i, it := range group {
			if r := slices.Index(m.cfg.PriorityOrder, it.Backend); r >= 0 && r < rank {
				best, rank = i, r
			}
		}
	}
	for i, it := range group {
		if best >= 0 && i != best && it.Backend == group[best].Backend {
			return -1
		}
	}
	return best
}
