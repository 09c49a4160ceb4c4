package policy

import (
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// fact is one thing that a condition mentions. Cedar has no computed attribute names on records and entities, so the
// literal names in the text are all there are.
type fact struct {
	is   factKind
	of   string // of an attribute
	name string
	has  bool // the attribute is tested, not read
	used bool // the attribute is read for itself and all within it, not for a member only
	uid  types.EntityUID
}

type factKind uint8

const (
	attribute  factKind = iota // name of something
	variable                   // principal, resource, action or context by itself
	literal                    // uid
	entityType                 // name, in an is
	tag                        // any tag
	inGroup                    // principal in literals, none of them a caller, or is a type: who the principal is stays unread
	calledIt                   // resource.name (or its kin) is compared with the text name
	equated                    // the argument or member name is compared with what may be an integer; all of them if it has no name
	recordKey                  // name in a record that is written out
)

// What attributes are of, besides the variables.
const (
	ofArgs    = "context.args"
	inArgs    = "context.args.*"
	inContext = "context.*" // something else within context, which holds no entities
	ofValue   = "*"         // anything else, perhaps this caller or item
)

// facts calls f for everything that the body of a when or unless clause mentions.
func facts(body ast.IsNode, f func(fact)) {
	chain := false // the node before was an attribute of this one
	ast.Inspect(ast.NewNode(body), func(n ast.IsNode) bool {
		used := !chain
		chain = false
		switch v := n.(type) {
		case ast.NodeTypeAccess:
			chain = attributeFact(v.StrOpNode, fact{used: used}, f)
			return chain
		case ast.NodeTypeHas:
			chain = attributeFact(v.StrOpNode, fact{has: true}, f)
			return chain
		case ast.NodeTypeGetTag, ast.NodeTypeHasTag:
			f(fact{is: tag})
		case ast.NodeTypeIn:
			return !groupFact(v.Left, v.Right, f)
		case ast.NodeTypeIsIn:
			f(fact{is: entityType, name: string(v.EntityType)})
			return !groupFact(v.Left, v.Entity, f)
		case ast.NodeTypeIs:
			f(fact{is: entityType, name: string(v.EntityType)})
			if variableName(v.Left) == "principal" { // always a Client
				f(fact{is: inGroup})
				return false
			}
		case ast.NodeTypeEquals:
			comparison(v.BinaryNode, f)
		case ast.NodeTypeNotEquals:
			comparison(v.BinaryNode, f)
		case ast.NodeTypeContains:
			equatedFacts(v.BinaryNode, f)
		case ast.NodeTypeContainsAll:
			equatedFacts(v.BinaryNode, f)
		case ast.NodeTypeContainsAny:
			equatedFacts(v.BinaryNode, f)
		case ast.NodeTypeRecord:
			for _, e := range v.Elements {
				f(fact{is: recordKey, name: string(e.Key)})
			}
		case ast.NodeTypeVariable:
			f(fact{is: variable, name: string(v.Name)})
		case ast.NodeValue:
			if uid, ok := v.Value.(types.EntityUID); ok {
				f(fact{is: literal, uid: uid})
			}
		}
		return true
	})
}

// attributeFact completes a and reports whether what the attribute is of is still to be looked at.
func attributeFact(n ast.StrOpNode, a fact, f func(fact)) bool {
	a.is, a.of, a.name = attribute, variableName(n.Arg), string(n.Value)
	within := false
	if a.of == "" {
		in, ok := n.Arg.(ast.NodeTypeAccess)
		switch {
		case ok && in.Value == "args" && variableName(in.Arg) == "context":
			a.of = ofArgs
		default:
			a.of, within = root(n.Arg), true
		}
	}
	f(a)
	return within
}

// groupFact reports whether left in right is principal in THVGroup::"x" or its kin.
func groupFact(left, right ast.IsNode, f func(fact)) bool {
	if variableName(left) != "principal" {
		return false
	}
	elements := []ast.IsNode{right}
	if set, ok := right.(ast.NodeTypeSet); ok {
		elements = set.Elements
	}
	var groups []fact
	for _, e := range elements {
		v, ok := e.(ast.NodeValue)
		if !ok {
			return false
		}
		uid, ok := v.Value.(types.EntityUID)
		if !ok || uid.Type == typeClient {
			return false
		}
		groups = append(groups, fact{is: literal, uid: uid})
	}
	f(fact{is: inGroup})
	for _, g := range groups {
		f(g)
	}
	return true
}

// comparison finds resource.name == "x" and context.arg_n == 5.
func comparison(n ast.BinaryNode, f func(fact)) {
	equatedFacts(n, f)
	for _, sides := range [][2]ast.IsNode{{n.Left, n.Right}, {n.Right, n.Left}} {
		of, isAttr := sides[0].(ast.NodeTypeAccess)
		v, isValue := sides[1].(ast.NodeValue)
		if !isAttr || !isValue || variableName(of.Arg) != "resource" ||
			!slices.Contains([]types.String{"name", "original_name", "uri"}, of.Value) {
			continue
		}
		if name, ok := v.Value.(types.String); ok {
			f(fact{is: calledIt, name: string(name)})
		}
	}
}

// equatedFacts notes arguments, and members of arguments, that two values to compare are made of.
func equatedFacts(n ast.BinaryNode, f func(fact)) {
	for _, sides := range [][2]ast.IsNode{{n.Left, n.Right}, {n.Right, n.Left}} {
		elements := []ast.IsNode{sides[1]}
		if set, ok := sides[1].(ast.NodeTypeSet); ok {
			elements = set.Elements
		}
		if slices.ContainsFunc(elements, func(e ast.IsNode) bool {
			call, ok := e.(ast.NodeTypeExtensionCall)
			return !ok || call.Name != "decimal"
		}) {
			equatedIn(sides[0], f)
		}
	}
}

func equatedIn(n ast.IsNode, f func(fact)) {
	chain := false
	ast.Inspect(ast.NewNode(n), func(n ast.IsNode) bool {
		used := !chain
		chain = false
		switch v := n.(type) {
		case ast.NodeTypeAccess:
			chain = attributeFact(v.StrOpNode, fact{used: used}, func(a fact) {
				name, isArg := strings.CutPrefix(a.name, "arg_")
				switch {
				case !a.used:
				case isArg || a.of == ofArgs || a.of == inArgs:
					f(fact{is: equated, name: name})
				case a.of == "context" && a.name == "args":
					f(fact{is: equated})
				}
			})
			return chain
		case ast.NodeTypeVariable:
			if v.Name == "context" {
				f(fact{is: equated})
			}
		}
		return true
	})
}

func variableName(n ast.IsNode) string {
	if v, ok := n.(ast.NodeTypeVariable); ok {
		return string(v.Name)
	}
	return ""
}

// root says where a chain of attributes begins.
func root(n ast.IsNode) string {
	first := ""
	for {
		a, ok := n.(ast.NodeTypeAccess)
		switch {
		case ok:
			first, n = string(a.Value), a.Arg
		case variableName(n) != "context":
			return ofValue
		case first == "args":
			return inArgs
		default:
			return inContext
		}
	}
}
