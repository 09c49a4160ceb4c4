package policy

import (
	"maps"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"vmcp/internal/mcpwire"
)

// reads says what the conditions of policies look at. In doubt it says too much, never too little.
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

	scalarArgs   names             // arguments read as context.arg_<k> or resource.arg_<k>
	memberArgs   names             // arguments read as context.args.<k>
	equated      names             // those, and members, compared with what may be an integer
	whole        names             // those, and members, that are read with all within them
	equatesAll   bool              // context or context.args is compared
	inner        names             // members of what is read of arguments, at any depth, and of records that are written out
	foldedArgs   map[string]string // see fold
	foldedInner  map[string]string
	args         bool // whether context has args
	allArgs      bool // context.args as a whole
	resourceArgs bool // some arg_<k> is read of an entity
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

// byName reports whether an argument is read by its name.
func (r *reads) byName(name string) bool { return r.scalarArgs.has(name) || r.memberArgs.has(name) }

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

// fold gives the names of arguments, and of members of arguments, that are read, by their folded form. A server in Go
// would take another spelling for them (HV-14).
func (r *reads) fold() {
	if !r.readsArgs() {
		return
	}
	r.foldedArgs, r.foldedInner = map[string]string{}, map[string]string{}
	for _, from := range []names{r.scalarArgs, r.memberArgs} {
		for name := range from {
			r.foldedArgs[mcpwire.Fold(name)] = name
		}
	}
	for name := range r.inner {
		r.foldedInner[mcpwire.Fold(name)] = name
		if _, ok := r.foldedArgs[mcpwire.Fold(name)]; !ok && (r.allArgs || r.context) {
			r.foldedArgs[mcpwire.Fold(name)] = name
		}
	}
}

func (r *reads) merge(o *reads) {
	for _, b := range []struct{ to, from *bool }{
		{&r.caller, &o.caller}, {&r.principalID, &o.principalID}, {&r.item, &o.item}, {&r.name, &o.name}, {&r.self, &o.self}, {&r.ip, &o.ip}, {&r.era, &o.era},
		{&r.context, &o.context}, {&r.accesses, &o.accesses}, {&r.args, &o.args}, {&r.allArgs, &o.allArgs}, {&r.resourceArgs, &o.resourceArgs}, {&r.equatesAll, &o.equatesAll},
	} {
		*b.to = *b.to || *b.from
	}
	for _, n := range []struct{ to, from *names }{
		{&r.principalAttrs, &o.principalAttrs}, {&r.contextAttrs, &o.contextAttrs},
		{&r.scalarArgs, &o.scalarArgs}, {&r.memberArgs, &o.memberArgs}, {&r.equated, &o.equated}, {&r.whole, &o.whole}, {&r.inner, &o.inner},
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
	facts(body, func(f fact) {
		switch f.is {
		case attribute:
			r.accesses = true
			r.attribute(f)
		case tag:
			r.accesses = true
		case inGroup:
			r.caller = true
		case recordKey:
			r.inner.add(f.name)
		case equated:
			r.equatesAll = r.equatesAll || f.name == ""
			r.equated.add(f.name)
		case variable:
			switch f.name {
			case "principal":
				r.caller, r.principalID = true, true
			case "context":
				r.caller, r.context = true, true
			default:
				r.item = true
				r.self = r.self || f.name == "resource"
			}
		case literal:
			switch f.uid.Type { // may be this very caller or item, with attributes and parents of its own
			case typeClient:
				r.caller, r.principalID = true, true
			case typeTool, typePrompt, typeResource:
				r.item = true
			}
		}
	})
}

func (r *reads) attribute(f fact) {
	of, name := f.of, f.name
	if f.used && (of == ofArgs || of == inArgs) {
		r.whole.add(name)
	}
	argument, isArg := strings.CutPrefix(name, "arg_")
	if isArg && (of == "resource" || of == "action" || of == ofValue) {
		r.resourceArgs, r.item = true, true
		r.scalarArgs.add(argument)
	}
	switch of {
	case "context":
		switch {
		case name == "args":
			r.args = true
			r.allArgs = r.allArgs || !f.has
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
	case ofArgs:
		r.args = true
		r.memberArgs.add(name)
	case inArgs:
		r.inner.add(name)
	case "principal":
		r.caller = true
		r.principalAttrs.add(name)
	case "resource", "action":
		r.item = true
		r.name = r.name || name == "name" || name == "uri"
	case ofValue: // an entity, perhaps this caller or item
		r.principalAttrs.add(name)
		r.name = r.name || name == "name" || name == "uri"
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
