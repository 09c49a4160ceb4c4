// Package catalog merges what the backends offer into what the gateway advertises: names, conflicts, filters,
// overrides. It is pure: the same configuration and lists always give the same catalog. Who may see an item is authz's
// to say; connecting and listing are the backend package's.
package catalog

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"vmcp/internal/gatewayconfig"
	"vmcp/internal/mcpwire"
	gatewayv1 "vmcp/proto/gateway/v1"
)

// MaxName is the longest advertised name of a tool or prompt (AG-1). A longer one keeps its head and ends in a hash.
const MaxName = 128

// Listing is what one backend offers, as last known.
type Listing struct {
	Backend string
	Listed  bool // false: never listed, the rest is empty
	// Definitions byte for byte, by their original name or URI.
	Tools, Prompts, Resources, Templates []Definition
	Capabilities                         []byte // JSON object, as the backend said
	Instructions                         string
}

// Definition is one item as its backend describes it.
type Definition struct {
	Name string
	Raw  []byte
}

// Item is one advertised item.
type Item struct {
	Name     string // advertised
	Backend  string
	Original string
	Raw      []byte // the definition with the advertised name in it
	Wire     *gatewayv1.Item
}

// Catalog is everything the gateway advertises. Immutable.
type Catalog struct {
	Digest   string
	Backends []*gatewayv1.BackendCatalog // for authz, in configured order
	Dropped  []Drop

	Capabilities [][]byte      // of the listed backends
	Instructions []Instruction // of the listed backends, in configured order

	items [5][]Item // by mcpwire.ItemKind, in bytewise order of Name
}

// Instruction is what a backend tells a model about itself: untrusted text, for those who may use the backend.
type Instruction struct{ Backend, Text string }

// Drop is an item that is not advertised because its name is another's too, or because it cannot be advertised.
type Drop struct {
	Kind    mcpwire.ItemKind
	Name    string
	Backend string
	Reason  string
}

// Items returns the items of a kind in bytewise order of their names.
func (c *Catalog) Items(kind mcpwire.ItemKind) []Item { return c.items[kind] }

// Find returns the item with an advertised name.
func (c *Catalog) Find(kind mcpwire.ItemKind, name string) (Item, bool) {
	i, ok := slices.BinarySearchFunc(c.items[kind], name, func(it Item, n string) int { return cmp.Compare(it.Name, n) })
	if !ok {
		return Item{}, false
	}
	return c.items[kind][i], true
}

// Merge makes the catalog of cfg from listings, which are in configured order.
func Merge(cfg *gatewayconfig.Aggregator, listings []Listing) *Catalog {
	c := &Catalog{}
	m := merger{cfg: cfg, c: c}
	for _, l := range listings {
		m.tools(l)
		m.prompts(l)
		m.resources(l)
		if l.Listed {
			c.Capabilities = append(c.Capabilities, l.Capabilities)
			if l.Instructions != "" {
				c.Instructions = append(c.Instructions, Instruction{l.Backend, l.Instructions})
			}
		}
	}
	for kind := mcpwire.ItemTool; kind <= mcpwire.ItemTemplate; kind++ {
		c.items[kind] = m.settle(kind)
	}
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
		if m.advertised(wt, d.Name, own) {
			var err error
			if it.Raw, it.Wire, err = tool(d.Raw, name, over); err != nil {
				m.drop(mcpwire.ItemTool, it, err.Error())
			}
		}
		m.claim(mcpwire.ItemTool, it)
	}
}

func (m *merger) advertised(wt gatewayconfig.WorkloadTools, original, own string) bool {
	switch {
	case m.cfg.ExcludeAllTools, wt.ExcludeAll:
		return false
	case len(wt.Filter) > 0:
		return slices.Contains(wt.Filter, original) || slices.Contains(wt.Filter, own)
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
			m.claim(part.kind, Item{Name: d.Name, Backend: l.Backend, Original: d.Name, Raw: d.Raw,
				Wire: &gatewayv1.Item{Name: d.Name, Original: d.Name}})
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
	if len(full) <= MaxName {
		return full
	}
	sum := sha256.Sum256([]byte(backend + "\x00" + own))
	return head(full) + "_" + hex.EncodeToString(sum[:4])
}

// head is what a long name keeps.
func head(s string) string { return strings.ToValidUTF8(s[:min(len(s), MaxName-9)], "") }

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

// describe makes the messages for authz and the digest over all of them.
func (m *merger) describe(listings []Listing) {
	c := m.c
	by := map[string]*gatewayv1.BackendCatalog{}
	for _, l := range listings {
		b := &gatewayv1.BackendCatalog{Name: l.Backend, State: gatewayv1.BackendState_BACKEND_STATE_NEVER_LISTED}
		if l.Listed {
			b.State = gatewayv1.BackendState_BACKEND_STATE_LISTED
		}
		// Only with prefixes are names known to be a backend's before it is listed; a long one may end in a hash, but
		// begins with the prefix all the same.
		if m.cfg.ConflictResolution == "prefix" {
			b.NamePrefix = head(m.prefix(l.Backend))
		}
		by[l.Backend] = b
		c.Backends = append(c.Backends, b)
	}
	for kind := mcpwire.ItemTool; kind <= mcpwire.ItemTemplate; kind++ {
		for _, it := range c.items[kind] {
			b := by[it.Backend]
			switch kind {
			case mcpwire.ItemTool:
				b.Tools = append(b.Tools, it.Wire)
			case mcpwire.ItemPrompt:
				b.Prompts = append(b.Prompts, it.Wire)
			case mcpwire.ItemResource:
				b.Resources = append(b.Resources, it.Wire)
			case mcpwire.ItemTemplate:
				b.ResourceTemplates = append(b.ResourceTemplates, it.Wire)
			}
		}
	}
	all := sha256.New()
	for _, b := range c.Backends {
		h := sha256.New()
		text, err := proto.MarshalOptions{Deterministic: true}.Marshal(b)
		if err != nil {
			panic(err) // names are valid UTF-8: they come from a strict parser
		}
		write(h, text)
		b.Digest = sum(h)
		write(all, []byte(b.Digest))
	}
	// All that clients get counts: cached lists are keyed by the digest, and a catalog is published when it changes.
	for _, caps := range c.Capabilities {
		write(all, caps)
	}
	for _, in := range c.Instructions {
		write(all, []byte(in.Backend))
		write(all, []byte(in.Text))
	}
	for kind := range c.items {
		for _, it := range c.items[kind] {
			write(all, it.Raw)
		}
	}
	c.Digest = sum(all)
}

func write(h hash.Hash, b []byte) {
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(b))))
	h.Write(b)
}

func sum(h hash.Hash) string { return base64.RawURLEncoding.EncodeToString(h.Sum(nil))[:22] }

// Differ reports whether two catalogs advertise different items of a kind. Templates count as resources: clients know
// one notification for both.
func Differ(a, b *Catalog, kind mcpwire.ItemKind) bool {
	same := slices.EqualFunc(a.items[kind], b.items[kind], func(x, y Item) bool {
		return x.Name == y.Name && x.Backend == y.Backend && bytes.Equal(x.Raw, y.Raw)
	})
	if same && kind == mcpwire.ItemResource {
		return Differ(a, b, mcpwire.ItemTemplate)
	}
	return !same
}
