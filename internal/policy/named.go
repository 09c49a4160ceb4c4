package policy

import (
	"fmt"
	"slices"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// Unknown are remarks on policies that name a tool, prompt or resource that does not exist by either name. Each names
// file and line.
func (s *Set) Unknown(exists func(Kind, string) bool) []string {
	var remarks []string
	for _, p := range s.policies {
		remark := func(kind Kind, name string) {
			what := kindFeatures[kind]
			if kind == 0 {
				what = "tool, prompt or resource"
				kind = Tool
				for k := Prompt; k < numKinds && !exists(kind, name); k++ {
					kind = k
				}
			}
			if exists(kind, name) {
				return
			}
			text := fmt.Sprintf("%s:%d: policy %s: there is no %s %q", p.file, p.line, p.id, what, name)
			if !slices.Contains(remarks, text) {
				remarks = append(remarks, text)
			}
		}
		entity := func(uid types.EntityUID) {
			if k := slices.Index(kindTypes[:], uid.Type); k > 0 {
				remark(Kind(k), string(uid.ID))
			}
		}
		switch v := p.ast.Resource.(type) {
		case ast.ScopeTypeEq:
			entity(v.Entity)
		case ast.ScopeTypeIn:
			entity(v.Entity)
		case ast.ScopeTypeIsIn:
			entity(v.Entity)
		}
		for _, c := range p.ast.Conditions {
			facts(c.Body, func(f fact) {
				switch f.is {
				case literal:
					entity(f.uid)
				case calledIt:
					remark(0, f.name)
				}
			})
		}
	}
	return remarks
}
