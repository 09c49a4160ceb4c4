package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// The checks below are our own and not cedar-go's schema validation: a Cedar schema has to give every attribute one
// type, and neither claims nor arguments have one that is known here.

var (
	contextAttrs  = []string{"args", "client_ip", "client_ip_string", "protocol_era"} // and claim_…, arg_…
	resourceAttrs = []string{
		"name", "original_name", "backend", "operation", "feature", "uri",
		"readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint",
	}
	// everyResource is what a forbid on every action may read of its resource without failing for families.
	everyResource = []string{"name"}
)

// check finds what can never match or does more than its author may think. What can never match is an error in a forbid,
// which would be dead and nobody the wiser, and a warning in a permit, whose author soon sees that it permits nothing.
func (s *Set) check(backends []string) (warnings []string, problems error) {
	c := &checker{set: s, types: map[types.EntityType]bool{}, attrs: names{}, parents: names{}}
	for _, t := range []types.EntityType{
		typeClient, typeTool, typePrompt, typeResource, typeMCP, typeAction, types.EntityType(s.config.GroupEntityType),
		"FeatureType",
	} {
		c.types[t] = true
	}
	c.mcp = append([]string{string(s.server.ID)}, backends...)
	for uid, e := range s.static {
		c.types[uid.Type] = true
		for p := range e.Parents.All() {
			c.types[p.Type] = true
			c.parents.add(p.String())
		}
		for a := range e.Attributes.Keys() {
			c.attrs.add(string(a))
		}
	}
	for _, c.policy = range s.policies {
		c.scope()
		for _, cond := range c.policy.ast.Conditions {
			c.condition(cond.Body)
		}
		c.wide()
	}
	return c.warnings, errors.Join(c.problems...)
}

type checker struct {
	set      *Set
	types    map[types.EntityType]bool
	attrs    names // of static entities
	parents  names // of static entities
	mcp      []string
	policy   *policy
	warnings []string
	problems []error
}

func (c *checker) warn(format string, args ...any) {
	w := fmt.Sprintf("%s:%d: policy %s: ", c.policy.file, c.policy.line, c.policy.id) + fmt.Sprintf(format, args...)
	if !slices.Contains(c.warnings, w) {
		c.warnings = append(c.warnings, w)
	}
}

// never reports what cannot match.
func (c *checker) never(format string, args ...any) {
	if c.policy.permit {
		c.warn(format, args...)
		return
	}
	err := &SyntaxError{c.policy.file, c.policy.line, "policy " + c.policy.id + ": " + fmt.Sprintf(format, args...) +
		"; a forbid that cannot do what it says is not loaded"}
	if !slices.ContainsFunc(c.problems, func(e error) bool { return e.Error() == err.Error() }) {
		c.problems = append(c.problems, err)
	}
}

func (c *checker) scope() {
	p := c.policy.ast
	switch v := p.Principal.(type) {
	case ast.ScopeTypeEq:
		if v.Entity.Type != typeClient {
			c.never("principal == %s can never match: a principal is a Client; for a group write principal in", v.Entity)
		}
	case ast.ScopeTypeIn:
		c.entity(v.Entity)
	case ast.ScopeTypeIs:
		c.principalType(v.Type)
	case ast.ScopeTypeIsIn:
		c.principalType(v.Type)
		c.entity(v.Entity)
	}

	var scoped []types.EntityUID
	switch v := p.Action.(type) {
	case ast.ScopeTypeEq:
		scoped = []types.EntityUID{v.Entity}
	case ast.ScopeTypeIn:
		scoped = []types.EntityUID{v.Entity}
	case ast.ScopeTypeInSet:
		scoped = v.Entities
	}
	for _, a := range scoped {
		c.entity(a)
	}

	switch v := p.Resource.(type) {
	case ast.ScopeTypeEq:
		c.entity(v.Entity)
		if v.Entity.Type == typeMCP && (c.policy.permit || v.Entity != c.set.server) {
			c.never("resource == %s matches no tool, prompt or resource: write resource in %s", v.Entity, v.Entity)
			return
		}
	case ast.ScopeTypeIn:
		c.entity(v.Entity)
	case ast.ScopeTypeIs:
		c.typeName(v.Type)
	case ast.ScopeTypeIsIn:
		c.typeName(v.Type)
		c.entity(v.Entity)
	}
	if !c.applies() && slices.IndexFunc(scoped, func(a types.EntityUID) bool { return !c.knownAction(a) }) < 0 {
		if c.policy.permit && c.onFamilies() {
			c.warn("permits what needs no permit: lists, initialize and their kin are only ever forbidden")
		} else {
			c.never("can never match: none of its actions applies to such a resource")
		}
	}
}

// applies reports whether the scope fits any item that may exist.
func (c *checker) applies() bool {
	p := c.policy.ast
	for kind := Tool; kind < numKinds; kind++ {
		action := actionUID(kindActions[kind])
		if !matches(p.Action, action, c.set.ancestorsOf(action)) {
			continue
		}
		switch v := p.Resource.(type) {
		case ast.ScopeTypeEq:
			if v.Entity.Type == kindTypes[kind] {
				return true
			}
		case ast.ScopeTypeIs:
			if v.Type == kindTypes[kind] {
				return true
			}
		case ast.ScopeTypeIsIn:
			if v.Type == kindTypes[kind] {
				return true
			}
		case ast.ScopeTypeIn:
			if !slices.Contains(leafTypes, v.Entity.Type) || v.Entity.Type == kindTypes[kind] {
				return true
			}
		default:
			return true
		}
	}
	for _, f := range c.set.families {
		if !c.policy.permit && slices.ContainsFunc(f, func(i int32) bool { return c.set.policies[i] == c.policy }) {
			return true
		}
	}
	return false
}

func (c *checker) onFamilies() bool {
	return slices.ContainsFunc(Families, func(a Action) bool {
		return matches(c.policy.ast.Action, actionUID(a), c.set.ancestorsOf(actionUID(a)))
	})
}

func (c *checker) condition(body ast.IsNode) {
	facts(body, func(f fact) {
		switch f.is {
		case literal:
			c.entity(f.uid)
		case entityType:
			c.typeName(types.EntityType(f.name))
		case attribute:
			c.attribute(f.of, f.name)
		}
	})
}

func (c *checker) attribute(of, name string) {
	known := true
	switch of {
	case "context":
		known = slices.Contains(contextAttrs, name) || strings.HasPrefix(name, "claim_") || strings.HasPrefix(name, "arg_")
	case "principal":
		known = slices.Contains(typedClaims, name) || strings.HasPrefix(name, "claim_") || c.attrs.has(name)
	case "resource":
		known = slices.Contains(resourceAttrs, name) || strings.HasPrefix(name, "arg_") || c.attrs.has(name)
	case "action":
		known = c.attrs.has(name)
	}
	if !known {
		c.never("%s has no attribute %q", of, name)
	}
}

func (c *checker) knownAction(a types.EntityUID) bool {
	return a.Type == typeAction && (slices.Contains(Families, Action(a.ID)) ||
		slices.Contains(kindActions[Tool:], Action(a.ID)) || c.parents.has(a.String()))
}

func (c *checker) entity(uid types.EntityUID) {
	switch {
	case uid.Type == typeAction && !c.knownAction(uid):
		c.never("unknown action %s", uid)
	case uid.Type == typeMCP && !slices.Contains(c.mcp, string(uid.ID)) && !c.parents.has(uid.String()):
		c.warn("%s is neither this virtual server nor a backend of it", uid)
	default:
		c.typeName(uid.Type)
	}
}

func (c *checker) typeName(t types.EntityType) {
	if !c.types[t] {
		c.never("unknown entity type %s: groups are %s here, others come from entitiesJson", t, c.set.config.GroupEntityType)
	}
}

func (c *checker) principalType(t types.EntityType) {
	if t != typeClient {
		c.never("principal is %s can never match: a principal is a Client", t)
	}
}

// wide warns of a forbid on every action whose condition fails where there is no item: it would deny initialize.
func (c *checker) wide() {
	if c.policy.permit || !slices.Contains(c.set.families["initialize"], c.indexOf()) {
		return
	}
	guarded := names{}
	var read []string
	for _, cond := range c.policy.ast.Conditions {
		facts(cond.Body, func(f fact) {
			switch {
			case f.is != attribute:
			case f.has:
				guarded.add(f.name)
			case f.of == ofArgs || f.of == "resource" && !slices.Contains(everyResource, f.name) ||
				f.of == "context" && strings.HasPrefix(f.name, "arg_"):
				read = append(read, f.name)
			}
		})
	}
	for _, name := range read {
		if !guarded.has(name) {
			c.warn("forbids on every action, also initialize and lists, and fails there for want of %q: "+
				"name the actions in its scope, or test it with has", name)
			return
		}
	}
}

func (c *checker) indexOf() int32 {
	return int32(slices.Index(c.set.policies, c.policy))
}
