package policy

import (
	"slices"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// Kind is what an item is. The zero Kind is none; such an item is always denied.
type Kind uint8

const (
	Tool Kind = iota + 1
	Prompt
	Resource
	numKinds
)

var (
	kindTypes    = [numKinds]types.EntityType{Tool: typeTool, Prompt: typePrompt, Resource: typeResource}
	kindActions  = [numKinds]Action{Tool: "call_tool", Prompt: "get_prompt", Resource: "read_resource"}
	kindFeatures = [numKinds]types.String{Tool: "tool", Prompt: "prompt", Resource: "resource"}
	kindOps      = [numKinds]types.String{Tool: "call", Prompt: "get", Resource: "read"}
)

// Item is one tool, prompt or resource of the catalog.
type Item struct {
	Kind       Kind
	Backend    string
	Original   string // name or URI as the backend says it
	Advertised string // as clients see it
	// OriginalShadowed: another item is advertised under this one's original name. Permits by that name mean the other.
	OriginalShadowed bool

	ReadOnlyHint, DestructiveHint, IdempotentHint, OpenWorldHint *bool // as declared; nil: not

	Args *Schema // of the object of all arguments; its own types say nothing
}

// Prepared is an item with its entities and the policies that may apply to it, for one Set. Immutable; build it once
// for each catalog and Set.
type Prepared struct {
	Item Item

	set        *Set
	advertised types.Entity
	original   types.Entity
	forbidden  types.Entity // the original as forbids see it
	oneName    bool
	candidates []candidate // by policy
}

// candidate is a policy whose resource scope matches an item under one of its names.
type candidate struct {
	policy               int32
	original, advertised verdict
}

// Prepare builds the entities of an item and matches the resource scopes.
func (s *Set) Prepare(item Item) *Prepared {
	p := &Prepared{Item: item, set: s, oneName: item.Original == item.Advertised}
	if item.Kind == 0 || item.Kind >= numKinds {
		p.Item.Kind = 0
		return p
	}
	adv := types.NewEntityUID(kindTypes[item.Kind], types.String(item.Advertised))
	orig := types.NewEntityUID(kindTypes[item.Kind], types.String(item.Original))
	parents := types.NewEntityUIDSet(types.NewEntityUID(typeMCP, types.String(item.Backend)), s.server)
	attrs := item.attributes()
	build := func(uid types.EntityUID, static ...types.EntityUID) types.Entity {
		return s.merge(types.Entity{UID: uid, Parents: parents, Attributes: types.NewRecord(attrs)}, static...)
	}
	if p.oneName || item.OriginalShadowed {
		p.advertised = build(adv, adv)
	} else {
		p.advertised = build(adv, adv, orig)
	}
	p.original, p.forbidden = p.advertised, p.advertised
	if !p.oneName {
		p.original = build(orig, orig, adv)
		attrs["name"] = types.String(item.Original)
		if item.Kind == Resource {
			attrs["uri"] = types.String(item.Original)
		}
		p.forbidden = build(orig, orig, adv)
	}
	p.collect()
	return p
}

// attributes of an item; name and uri are as advertised. operation and feature are ToolHive's.
func (i Item) attributes() types.RecordMap {
	m := types.RecordMap{
		"name":          types.String(i.Advertised),
		"original_name": types.String(i.Original),
		"backend":       types.String(i.Backend),
		"operation":     kindOps[i.Kind],
		"feature":       kindFeatures[i.Kind],
	}
	if i.Kind == Resource {
		m["uri"] = types.String(i.Advertised)
	}
	for name, hint := range map[types.String]*bool{
		"readOnlyHint": i.ReadOnlyHint, "destructiveHint": i.DestructiveHint,
		"idempotentHint": i.IdempotentHint, "openWorldHint": i.OpenWorldHint,
	} {
		if hint != nil {
			m[name] = types.Boolean(*hint)
		}
	}
	return m
}

// collect finds the candidates: policies that name the item or something it is in, and those that apply to any item
// with a condition by the item alone. All others that apply to any item are in Caller.generic.
func (p *Prepared) collect() {
	s, ki := p.set, &p.set.kinds[p.Item.Kind]
	found := slices.Clone(ki.genericItem)
	advUp, origUp := map[types.EntityUID]struct{}{}, map[types.EntityUID]struct{}{}
	for _, n := range []struct {
		entity types.Entity
		up     map[types.EntityUID]struct{}
	}{{p.advertised, advUp}, {p.original, origUp}} {
		s.ancestors(n.up, n.entity.Parents)
		found = append(found, ki.eq[n.entity.UID]...)
		found = append(found, ki.in[n.entity.UID]...)
		for uid := range n.up {
			found = append(found, ki.in[uid]...)
		}
	}
	slices.Sort(found)
	r := &request{set: s, item: p}
	for _, i := range slices.Compact(found) {
		pol := s.policies[i]
		judge := func(e *types.Entity, up map[types.EntityUID]struct{}) verdict {
			switch {
			case !matches(pol.ast.Resource, e.UID, up):
				return no
			case pol.lead.by == byItem:
				return r.begin(pol, e)
			}
			return yes
		}
		c := candidate{policy: i, advertised: judge(&p.advertised, advUp)}
		if c.original = c.advertised; !p.oneName {
			c.original = judge(p.originalFor(pol), origUp)
		}
		if c.original != no || c.advertised != no {
			p.candidates = append(p.candidates, c)
		}
	}
}

func (p *Prepared) originalFor(pol *policy) *types.Entity {
	if pol.permit {
		return &p.original
	}
	return &p.forbidden
}

// Reached is a policy whose scope names one item (resource == Tool::"x"), and the items that it reaches: for a permit,
// those it may allow.
type Reached struct {
	Policy string // id
	File   string
	Line   int
	Permit bool
	Name   string // as written: Tool::"x"
	Items  []Item
}

// Reach lists what each policy with a named resource reaches. None: it can never match. More than one: an original name
// is in use at several backends. Policies on the virtual server itself are left out.
func (s *Set) Reach(items []*Prepared) []Reached {
	var all []Reached
	for i, p := range s.policies {
		eq, ok := p.ast.Resource.(ast.ScopeTypeEq)
		if !ok || eq.Entity == s.server {
			continue
		}
		r := Reached{Policy: p.id, File: p.file, Line: p.line, Permit: p.permit, Name: eq.Entity.String()}
		for _, item := range items {
			if item.set != s {
				continue
			}
			if slices.ContainsFunc(item.candidates, func(c candidate) bool {
				if c.policy != int32(i) {
					return false
				}
				byOriginal := c.original != no && (!p.permit || !item.Item.OriginalShadowed)
				return c.advertised != no || byOriginal
			}) {
				r.Items = append(r.Items, item.Item)
			}
		}
		all = append(all, r)
	}
	return all
}
