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
			ast.Inspect(ast.NewNode(c.Body), func(n ast.IsNode) bool {
				switch v := n.(type) {
				case ast.NodeValue:
					if uid, ok := v.Value.(types.EntityUID); ok {
						entity(uid)
					}
				case ast.NodeTypeEquals:
					if name, ok := comparedName(v.BinaryNode); ok {
						remark(0, name)
					}
				case ast.NodeTypeNotEquals:
					if name, ok := comparedName(v.BinaryNode); ok {
						remark(0, name)
					}
				}
				return true
			})
		}
	}
	return remarks
}

// comparedName is "x" of resource.name == "x" and its kin.
func comparedName(n ast.BinaryNode) (string, bool) {
	for _, sides := range [][2]ast.IsNode{{n.Left, n.Right}, {n.Right, n.Left}} {
		of, isAttr := sides[0].(ast.NodeTypeAccess)
		v, isValue := sides[1].(ast.NodeValue)
		if isAttr && isValue && variable(of.Arg) == "resource" &&
			slices.Contains([]types.String{"name", "original_name", "uri"}, of.Value) {
			name, ok := v.Value.(types.String)
			return string(name), ok
		}
	}
	return "", false
}
