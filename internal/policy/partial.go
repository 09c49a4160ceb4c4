package policy

import (
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// Much of a policy is known before a request: what its scope and first conjuncts say of the caller alone is computed once
// for each Caller, and what they say of the item alone once for each Prepared. Here both are brought together.

// lead are the first conjuncts of a policy's conditions that depend on the caller alone, or on the item alone.
type lead struct {
	by    leadBy
	cond  single
	parts int  // how many
	whole bool // there are no others
}

type leadBy uint8

const (
	byNeither leadBy = iota
	byCaller
	byItem
)

// conjuncts takes when { a && b } unless { c } for a, b, not c.
func conjuncts(conditions []ast.ConditionType) []ast.IsNode {
	var all []ast.IsNode
	var flatten func(n ast.IsNode)
	flatten = func(n ast.IsNode) {
		if and, ok := n.(ast.NodeTypeAnd); ok {
			flatten(and.Left)
			flatten(and.Right)
			return
		}
		all = append(all, n)
	}
	for _, c := range conditions {
		if c.Condition == ast.ConditionUnless {
			all = append(all, ast.Not(ast.NewNode(c.Body)).AsIsNode())
		} else {
			flatten(c.Body)
		}
	}
	return all
}

func (s *Set) leading(parts []ast.IsNode) lead {
	var l lead
	var first []ast.ConditionType
	for _, n := range parts {
		var r reads
		r.condition(n)
		s.widen(&r)
		by := byCaller // also what depends on nothing
		switch {
		case r.request() || r.caller && r.item:
			by = byNeither
		case r.item:
			by = byItem
		}
		if by == byNeither || first != nil && by != l.by {
			break
		}
		l.by = by
		first = append(first, ast.ConditionType{Condition: ast.ConditionWhen, Body: n})
	}
	if first != nil {
		l.cond, l.parts, l.whole = conditionPolicy(first), len(first), len(first) == len(parts)
	}
	return l
}

// verdict is what is known of a policy before a request.
type verdict uint8

const (
	no     verdict = iota // does not match
	yes                   // matches
	failed                // evaluation fails
	open                  // to be evaluated
)

// both joins what a caller and what an item say about one policy.
func both(a, b verdict) verdict {
	switch {
	case a == no || b == no:
		return no
	case a == failed || b == failed:
		return failed
	case a == open || b == open:
		return open
	}
	return yes
}

// settle is the outcome of a policy of which v is known, under the name of e.
func (r *request) settle(pol *policy, v verdict, e *types.Entity) outcome {
	switch v {
	case no:
		return canBeFalse
	case yes:
		return canBeTrue
	case failed:
		if r.listing {
			return canFail
		}
	}
	if !r.listing || pol.reads.item {
		return r.evaluate(pol, e)
	}
	o, known := r.memo[pol]
	if !known {
		if r.memo == nil {
			r.memo = map[*policy]outcome{}
		}
		o = r.evaluate(pol, e)
		r.memo[pol] = o
	}
	return o
}

// begin is what the first conjuncts of a policy leave to be known.
func (r *request) begin(pol *policy, e *types.Entity) verdict {
	var o outcome
	if pol.excepts && pol.lead.by == byItem {
		o = r.allOf(pol, pol.parts[:pol.lead.parts], e)
	} else {
		o, _ = r.run(pol.lead.cond, &reads{}, e)
	}
	switch {
	case o == canBeFalse:
		return no
	case o == canFail:
		return failed
	case pol.lead.whole:
		return yes
	}
	return open
}

// each calls f with every policy that may apply to the item, in configured order, and its outcome under both names,
// until f returns false; it reports whether none did.
func (r *request) each(f func(pol *policy, original, advertised outcome) bool) bool {
	c, p := r.caller, r.item
	generic, named := c.generic[p.Item.Kind], p.candidates
	for len(generic) > 0 || len(named) > 0 {
		k := candidate{original: yes, advertised: yes}
		if len(named) == 0 || len(generic) > 0 && generic[0] < named[0].policy {
			k.policy, generic = generic[0], generic[1:]
		} else {
			k, named = named[0], named[1:]
		}
		v := c.verdicts[k.policy]
		if v == no {
			continue
		}
		pol := r.set.policies[k.policy]
		adv := both(v, k.advertised)
		advertised := r.settle(pol, adv, &p.advertised)
		original := advertised
		if orig := both(v, k.original); !p.oneName && (orig != adv || orig == open && pol.reads.item) {
			original = r.settle(pol, orig, p.originalFor(pol))
		}
		if !f(pol, original, advertised) {
			return false
		}
	}
	return true
}
