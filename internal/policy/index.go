package policy

import (
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// kindIndex finds the policies that may apply to an item of one kind, without looking at all of them.
type kindIndex struct {
	generic     []int32                     // any item, conditions do not begin with the item
	genericItem []int32                     // any item, conditions begin with the item
	eq          map[types.EntityUID][]int32 // resource == key
	in          map[types.EntityUID][]int32 // resource in key
}

// index sorts the policies by action and resource scope.
func (s *Set) index() {
	everything := map[types.EntityUID]struct{}{s.server: {}}
	s.ancestors(everything, s.entities[s.server].Parents)
	for kind := range s.kinds {
		ki := &s.kinds[kind]
		ki.eq, ki.in = map[types.EntityUID][]int32{}, map[types.EntityUID][]int32{}
		if Kind(kind) == 0 {
			continue
		}
		action := actionUID(kindActions[kind])
		actionUp := s.ancestorsOf(action)
		for i, p := range s.policies {
			if !matches(p.ast.Action, action, actionUp) {
				continue
			}
			any := false
			switch r := p.ast.Resource.(type) {
			case ast.ScopeTypeAll:
				any = true
			case ast.ScopeTypeIs:
				if any = r.Type == kindTypes[kind]; !any {
					continue
				}
			case ast.ScopeTypeEq:
				ki.eq[r.Entity] = append(ki.eq[r.Entity], int32(i))
			case ast.ScopeTypeIn:
				if _, any = everything[r.Entity]; !any {
					ki.in[r.Entity] = append(ki.in[r.Entity], int32(i))
				}
			case ast.ScopeTypeIsIn:
				if r.Type != kindTypes[kind] {
					continue
				}
				if _, any = everything[r.Entity]; !any {
					ki.in[r.Entity] = append(ki.in[r.Entity], int32(i))
				}
			}
			switch {
			case any && p.lead.by == byItem:
				ki.genericItem = append(ki.genericItem, int32(i))
			case any:
				ki.generic = append(ki.generic, int32(i))
			}
		}
	}
	serverUp := s.ancestorsOf(s.server)
	s.families = map[Action][]int32{}
	for _, a := range Families {
		actionUp := s.ancestorsOf(actionUID(a))
		for i, p := range s.policies {
			if !p.permit && matches(p.ast.Action, actionUID(a), actionUp) && matches(p.ast.Resource, s.server, serverUp) {
				s.families[a] = append(s.families[a], int32(i))
			}
		}
	}
}
