package policy

import (
	"maps"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// reads says what the conditions of policies look at. Cedar has no computed attribute names on records and entities, so
// the literal names in the text are all there are. In doubt it says too much, never too little.
type reads struct {
	caller      bool // principal, its groups or claims
	principalID bool // who the principal is, beyond groups and claims
	item        bool // resource or action
	name        bool // resource.name or resource.uri
	self        bool // resource by itself: which it is, and what it is in
	ip, era     bool // context.client_ip…, context.protocol_era
	context     bool // context as a whole
	accesses    bool // any attribute or tag

	principalAttrs names // attributes of principal, or of an entity that may be it
	contextAttrs   names // claim_… of context

	scalarArgs   names // arguments read as context.arg_<k> or resource.arg_<k>
	memberArgs   names // arguments read as context.args.<k>
	args         bool  // whether context has args
	allArgs      bool  // context.args as a whole
	resourceArgs bool  // some arg_<k> is read of an entity
}

type names map[string]struct{}

func (n *names) add(s string) {
	if *n == nil {
		*n = names{}
	}
	(*n)[s] = struct{}{}
}

func (n names) has(s string) bool { _, ok := n[s]; return ok }

func (r *reads) readsArgs() bool {
	return r.args || r.context || len(r.scalarArgs) > 0 || len(r.memberArgs) > 0
}

func (r *reads) request() bool { return r.ip || r.era || r.context || r.readsArgs() }

// anyOf gives the reason of the first of these attributes that is read as the caller's.
func (r *reads) anyOf(unread map[string]error) error {
	for _, attr := range slices.Sorted(maps.Keys(unread)) {
		claim := strings.HasPrefix(attr, "claim_") // typed ones are of the principal only
		if r.principalAttrs.has(attr) || claim && (r.context || r.contextAttrs.has(attr)) {
			return unread[attr]
		}
	}
	return nil
}

func (r *reads) merge(o *reads) {
	for _, b := range []struct{ to, from *bool }{
		{&r.caller, &o.caller}, {&r.principalID, &o.principalID}, {&r.item, &o.item}, {&r.name, &o.name}, {&r.self, &o.self}, {&r.ip, &o.ip}, {&r.era, &o.era},
		{&r.context, &o.context}, {&r.accesses, &o.accesses}, {&r.args, &o.args}, {&r.allArgs, &o.allArgs}, {&r.resourceArgs, &o.resourceArgs},
	} {
		*b.to = *b.to || *b.from
	}
	for _, n := range []struct{ to, from *names }{
		{&r.principalAttrs, &o.principalAttrs}, {&r.contextAttrs, &o.contextAttrs},
		{&r.scalarArgs, &o.scalarArgs}, {&r.memberArgs, &o.memberArgs},
	} {
		for s := range *n.from {
			n.to.add(s)
		}
	}
}

// scope notes whether the principal scope tells one person from another.
func (r *reads) scope(p *ast.Policy) {
	switch s := p.Principal.(type) {
	case ast.ScopeTypeEq:
		r.principalID = true
	case ast.ScopeTypeIn:
		r.principalID = r.principalID || s.Entity.Type == typeClient
	case ast.ScopeTypeIsIn:
		r.principalID = r.principalID || s.Entity.Type == typeClient
	}
}

// condition adds what the body of one when or unless clause reads.
func (r *reads) condition(body ast.IsNode) {
	ast.Inspect(ast.NewNode(body), func(n ast.IsNode) bool {
		switch v := n.(type) {
		case ast.NodeTypeAccess:
			r.accesses = true
			return r.attribute(v.Arg, string(v.Value), false)
		case ast.NodeTypeHas:
			r.accesses = true
			return r.attribute(v.Arg, string(v.Value), true)
		case ast.NodeTypeGetTag, ast.NodeTypeHasTag:
			r.accesses = true
		case ast.NodeTypeIn:
			return r.membership(v.Left, v.Right)
		case ast.NodeTypeIsIn:
			return r.membership(v.Left, v.Entity)
		case ast.NodeTypeIs:
			if variable(v.Left) == "principal" { // always a Client
				r.caller = true
				return false
			}
		case ast.NodeTypeVariable:
			switch v.Name {
			case "principal":
				r.caller, r.principalID = true, true
			case "context":
				r.caller, r.context = true, true
			default:
				r.item = true
				r.self = r.self || v.Name == "resource"
			}
		case ast.NodeValue:
			if uid, ok := v.Value.(types.EntityUID); ok {
				switch uid.Type { // may be this very caller or item, with attributes and parents of its own
				case typeClient:
					r.caller, r.principalID = true, true
				case typeTool, typePrompt, typeResource:
					r.item = true
				}
			}
		}
		return true
	})
}

// attribute notes arg.name or arg has name; it reports whether arg is still to be looked at.
func (r *reads) attribute(arg ast.IsNode, name string, has bool) bool {
	argument, isArg := strings.CutPrefix(name, "arg_")
	switch variable(arg) {
	case "context":
		switch {
		case name == "args":
			r.args = true
			r.allArgs = r.allArgs || !has
		case isArg:
			r.scalarArgs.add(argument)
		case name == "client_ip" || name == "client_ip_string":
			r.ip = true
		case name == "protocol_era":
			r.era = true
		default:
			r.caller = true
			r.contextAttrs.add(name)
		}
		return false
	case "principal":
		r.caller = true
		r.principalAttrs.add(name)
		return false
	case "resource", "action":
		r.item = true
		r.name = r.name || name == "name" || name == "uri"
		if isArg {
			r.resourceArgs = true
			r.scalarArgs.add(argument)
		}
		return false
	}
	if in, ok := arg.(ast.NodeTypeAccess); ok && in.Value == "args" && variable(in.Arg) == "context" {
		r.args = true
		r.memberArgs.add(name)
		return false
	}
	if !rootedInContext(arg) { // an entity, perhaps this caller or item
		r.principalAttrs.add(name)
		r.name = r.name || name == "name" || name == "uri"
		if isArg {
			r.resourceArgs, r.item = true, true
			r.scalarArgs.add(argument)
		}
	}
	return true
}

// membership notes left in right. principal in THVGroup::"x" reads groups, not who the principal is.
func (r *reads) membership(left, right ast.IsNode) bool {
	if variable(left) != "principal" {
		return true
	}
	elements := []ast.IsNode{right}
	if set, ok := right.(ast.NodeTypeSet); ok {
		elements = set.Elements
	}
	for _, e := range elements {
		v, ok := e.(ast.NodeValue)
		if !ok {
			return true
		}
		if uid, ok := v.Value.(types.EntityUID); !ok || uid.Type == typeClient {
			return true
		}
	}
	r.caller = true
	return false
}

func variable(n ast.IsNode) string {
	if v, ok := n.(ast.NodeTypeVariable); ok {
		return string(v.Name)
	}
	return ""
}

// rootedInContext: such a value holds no entities.
func rootedInContext(n ast.IsNode) bool {
	for {
		a, ok := n.(ast.NodeTypeAccess)
		if !ok {
			return variable(n) == "context"
		}
		n = a.Arg
	}
}

// Reads says what the policies of a set look at.
type Reads struct {
	Claims      []string // names of claims; sorted; typed attributes such as email under their own name
	AllClaims   bool     // context is used as a whole
	PrincipalID bool     // who the caller is, beyond groups and claims
	ClientIP    bool
	Era         bool
	Arguments   bool
}

// Reads says what decisions of this set can depend on, besides the caller's groups and the item.
func (s *Set) Reads() Reads {
	claims := names{}
	for _, attrs := range []names{s.reads.principalAttrs, s.reads.contextAttrs} {
		for a := range attrs {
			if c, ok := strings.CutPrefix(a, "claim_"); ok {
				claims.add(c)
			} else if slices.Contains(typedClaims, a) {
				claims.add(a)
			}
		}
	}
	return Reads{
		Claims:      slices.Sorted(maps.Keys(claims)),
		AllClaims:   s.reads.context,
		PrincipalID: s.reads.principalID,
		ClientIP:    s.reads.ip || s.reads.context,
		Era:         s.reads.era || s.reads.context,
		Arguments:   s.reads.readsArgs(),
	}
}
