// Package catalog merges what the backends offer into what the gateway advertises: names, conflicts, filters,
// overrides. It is pure: the same configuration and lists always give the same catalog. Who may see an item is authz's
// to say; connecting and listing are the backend package's.
package catalog

import (
	"cmp"
	"encoding/json"
	"slices"

	"vmcp/internal/mcpwire"
	gatewayv1 "vmcp/proto/gateway/v1"
)

// MaxName is the longest advertised name of a tool or prompt (AG-1). A longer one keeps its head and ends in a hash.
const MaxName = 128

// Listing is what one backend offers, as last known.
type Listing struct {
	Backend string
	Listed  bool // false: never listed, the rest is empty
	Failed  bool `json:"-"` // not listed because that failed
	// Definitions byte for byte, by their original name or URI.
	Tools, Prompts, Resources, Templates []Definition
	LeftOut                              []Drop                   // what the backend has besides, under its original name
	Changed                              []*gatewayv1.ChangedTool `json:"-"`
	Capabilities                         []byte                   // JSON object, as the backend said
	Instructions                         string
}

// Keep takes over from an older listing the kinds that could not be listed this time.
func (l *Listing) Keep(old *Listing, failed map[mcpwire.ItemKind]error) {
	l.LeftOut = slices.DeleteFunc(l.LeftOut, func(d Drop) bool { return failed[d.Kind] != nil })
	for _, d := range old.LeftOut {
		if failed[d.Kind] != nil {
			l.LeftOut = append(l.LeftOut, d)
		}
	}
	for kind := range failed {
		*l.definitions(kind) = *old.definitions(kind)
	}
}

func (l *Listing) definitions(kind mcpwire.ItemKind) *[]Definition {
	switch kind {
	case mcpwire.ItemTool:
		return &l.Tools
	case mcpwire.ItemPrompt:
		return &l.Prompts
	case mcpwire.ItemResource:
		return &l.Resources
	}
	return &l.Templates
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
	Legacy   []byte // the same for legacy clients; nil where they get Raw
	Wire     *gatewayv1.Item
}

// Catalog is everything the gateway advertises. Immutable.
type Catalog struct {
	Digest   string
	Backends []*gatewayv1.BackendCatalog // for authz, in configured order
	Dropped  []Drop

	Offers       Offers
	Instructions []Instruction // of the listed backends, in configured order

	items   [5][]Item // by mcpwire.ItemKind, in bytewise order of Name
	digests [5]string // of items
}

// Offers are what at least one listed backend can do besides its lists.
type Offers struct{ Completions, Logging, Subscribe bool }

// add reads a backend's capabilities, a JSON object; what cannot be read offers nothing.
func (o *Offers) add(capabilities []byte) {
	var has struct {
		Completions, Logging json.RawMessage
		Resources            struct{ Subscribe bool }
	}
	if json.Unmarshal(capabilities, &has) != nil {
		return
	}
	o.Completions = o.Completions || has.Completions != nil
	o.Logging = o.Logging || has.Logging != nil
	o.Subscribe = o.Subscribe || has.Resources.Subscribe
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
