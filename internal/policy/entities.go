package policy

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

const (
	typeClient   types.EntityType = "Client"
	typeTool     types.EntityType = "Tool"
	typePrompt   types.EntityType = "Prompt"
	typeResource types.EntityType = "Resource"
	typeMCP      types.EntityType = "MCP"
	typeAction   types.EntityType = "Action"
)

// leafTypes are callers and items: never the parent of anything, which lets ancestors be computed beforehand.
var leafTypes = []types.EntityType{typeClient, typeTool, typePrompt, typeResource}

// loadEntities reads entitiesJson and adds the virtual server and its backends.
func (s *Set) loadEntities(virtualServer string, backends []string) error {
	if _, err := types.NewEntityType(s.config.GroupEntityType); err != nil ||
		slices.Contains(append(leafTypes, typeMCP, typeAction), types.EntityType(s.config.GroupEntityType)) {
		return fmt.Errorf("groupEntityType %q: not the name of a type of its own, such as THVGroup", s.config.GroupEntityType)
	}
	s.static = types.EntityMap{}
	if text := strings.TrimSpace(s.config.EntitiesJSON); text != "" {
		if err := json.Unmarshal([]byte(text), &s.static); err != nil {
			return fmt.Errorf("entitiesJson: not a list of Cedar entities (uid, attrs, parents): %w", err)
		}
	}
	s.entities = types.EntityMap{}
	for uid, e := range s.static {
		s.entities[uid] = e
		for p := range e.Parents.All() {
			if slices.Contains(leafTypes, p.Type) {
				return fmt.Errorf("entitiesJson: %s has parent %s: a %s has no members", uid, p, p.Type)
			}
		}
		for _, r := range []types.Record{e.Attributes, e.Tags} {
			s.leafRefs = s.leafRefs || refersToLeaf(r)
		}
	}
	s.entities[s.server] = s.merge(types.Entity{UID: s.server, Attributes: nameRecord(s.server)}, s.server)
	for _, b := range backends {
		if b == virtualServer {
			return fmt.Errorf(`backend %q has the name of the virtual server: MCP::%q would mean both, rename one`, b, b)
		}
		uid := types.NewEntityUID(typeMCP, types.String(b))
		s.entities[uid] = s.merge(types.Entity{
			UID: uid, Parents: types.NewEntityUIDSet(s.server), Attributes: nameRecord(uid),
		}, uid)
	}
	return nil
}

func nameRecord(uid types.EntityUID) types.Record {
	return types.NewRecord(types.RecordMap{"name": uid.ID})
}

// refersToLeaf reports whether a static value names a caller or an item.
func refersToLeaf(v types.Value) bool {
	switch v := v.(type) {
	case types.EntityUID:
		return slices.Contains(leafTypes, v.Type)
	case types.Set:
		for e := range v.All() {
			if refersToLeaf(e) {
				return true
			}
		}
	case types.Record:
		for e := range v.Values() {
			if refersToLeaf(e) {
				return true
			}
		}
	}
	return false
}

// merge puts the static entities of uids under e: e's attributes win, then those of the first uid.
func (s *Set) merge(e types.Entity, uids ...types.EntityUID) types.Entity {
	var parents []types.EntityUID
	var attrs, tags types.RecordMap
	for i := len(uids) - 1; i >= 0; i-- {
		static, ok := s.static[uids[i]]
		if !ok {
			continue
		}
		parents = slices.AppendSeq(parents, static.Parents.All())
		attrs, tags = overlay(attrs, static.Attributes), overlay(tags, static.Tags)
	}
	if parents != nil {
		e.Parents = types.NewEntityUIDSet(slices.AppendSeq(parents, e.Parents.All())...)
	}
	if attrs != nil {
		e.Attributes = types.NewRecord(overlay(attrs, e.Attributes))
	}
	if tags != nil {
		e.Tags = types.NewRecord(tags)
	}
	return e
}

func overlay(m types.RecordMap, r types.Record) types.RecordMap {
	if m == nil && r.Len() > 0 {
		m = types.RecordMap{}
	}
	for k, v := range r.All() {
		m[k] = v
	}
	return m
}

// ancestors adds everything that parents are in, themselves included.
func (s *Set) ancestors(up map[types.EntityUID]struct{}, parents types.EntityUIDSet) {
	for p := range parents.All() {
		if _, seen := up[p]; !seen {
			up[p] = struct{}{}
			s.ancestors(up, s.entities[p].Parents)
		}
	}
}

func (s *Set) ancestorsOf(uid types.EntityUID) map[types.EntityUID]struct{} {
	up := map[types.EntityUID]struct{}{}
	s.ancestors(up, s.entities[uid].Parents)
	return up
}

// matches evaluates one part of a scope, given the ancestors of uid.
func matches(scope ast.IsScopeNode, uid types.EntityUID, up map[types.EntityUID]struct{}) bool {
	in := func(e types.EntityUID) bool { _, ok := up[e]; return ok || e == uid }
	switch v := scope.(type) {
	case ast.ScopeTypeAll:
		return true
	case ast.ScopeTypeEq:
		return v.Entity == uid
	case ast.ScopeTypeIn:
		return in(v.Entity)
	case ast.ScopeTypeInSet:
		return slices.ContainsFunc(v.Entities, in)
	case ast.ScopeTypeIs:
		return v.Type == uid.Type
	case ast.ScopeTypeIsIn:
		return v.Type == uid.Type && in(v.Entity)
	}
	return false
}

// view is the entities of one request: static ones, this caller, this item under one of its names.
type view struct {
	caller, resource *types.Entity
	rest             types.EntityMap
}

func (v *view) Get(uid types.EntityUID) (types.Entity, bool) {
	if v.caller != nil && uid == v.caller.UID {
		return *v.caller, true
	}
	if v.resource != nil && uid == v.resource.UID {
		return *v.resource, true
	}
	e, ok := v.rest[uid]
	return e, ok
}
