package policy

import (
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// Two things ask for a condition to be taken apart at &&, ||, ! and if, and its parts to be evaluated by themselves.
//
// A list is decided before there are arguments: each part that reads them may be anything. The result never misses an
// outcome that some arguments give; it may add one where two parts exclude each other.
//
// An exception of a permit, a part that makes it match less the more it is true, holds under both names of an item,
// whichever of them the permit itself is evaluated under.

type op uint8

const (
	opLeaf op = iota
	opNot
	opAnd
	opOr
	opIf
)

type expr struct {
	op    op
	kids  []*expr
	leaf  single
	reads reads
	mixed bool // a leaf that may be true of a name as well as of its absence
}

// takeApart compiles a condition in parts, as far as split says that there is something to tell apart.
func takeApart(n ast.IsNode, split func(*reads) bool) *expr {
	e := &expr{}
	e.reads.condition(n)
	kids := func(op op, nodes ...ast.IsNode) *expr {
		e.op = op
		for _, k := range nodes {
			e.kids = append(e.kids, takeApart(k, split))
		}
		return e
	}
	if split(&e.reads) {
		switch v := n.(type) {
		case ast.NodeTypeAnd:
			return kids(opAnd, v.Left, v.Right)
		case ast.NodeTypeOr:
			return kids(opOr, v.Left, v.Right)
		case ast.NodeTypeNot:
			return kids(opNot, v.Arg)
		case ast.NodeTypeNotEquals:
			return kids(opNot, ast.NodeTypeEquals(v))
		case ast.NodeTypeIfThenElse:
			return kids(opIf, v.If, v.Then, v.Else)
		}
	}
	e.leaf = conditionPolicy([]ast.ConditionType{{Condition: ast.ConditionWhen, Body: n}})
	e.mixed = (e.reads.name || e.reads.self) && !affirms(n)
	return e
}

// affirms reports whether a leaf says of the item that it is called so, or is one of those, and nothing else: it is true
// under a name because of that name.
func affirms(n ast.IsNode) bool {
	item := func(n ast.IsNode) bool { // resource, or what it has, and that has
		for {
			a, ok := n.(ast.NodeTypeAccess)
			if !ok {
				return variableName(n) == "resource"
			}
			n = a.Arg
		}
	}
	other := func(n ast.IsNode) bool {
		var r reads
		r.condition(n)
		return !r.name && !r.self
	}
	switch v := n.(type) {
	case ast.NodeTypeEquals:
		return item(v.Left) && other(v.Right) || item(v.Right) && other(v.Left)
	case ast.NodeTypeLike:
		return item(v.Arg)
	case ast.NodeTypeIn:
		return item(v.Left) && other(v.Right)
	case ast.NodeTypeIsIn:
		return item(v.Left) && other(v.Entity)
	case ast.NodeTypeIs:
		return item(v.Left)
	case ast.NodeTypeContains:
		return other(v.Left) && item(v.Right)
	}
	return item(n)
}

// excepts reports whether an expression has a part that is, or may be, an exception by the item's name, or where the
// permit is named by the item itself. negative: the expression stands under a negation.
func (x *expr) excepts(negative, named bool) bool {
	switch x.op {
	case opLeaf:
		return (x.reads.name || named && x.reads.self) && (negative || x.mixed)
	case opNot:
		return x.kids[0].excepts(!negative, named)
	case opIf:
		if x.kids[0].excepts(!negative, named) {
			return true
		}
	}
	for _, k := range x.kids {
		if k.excepts(negative, named) {
			return true
		}
	}
	return false
}

// under is what an expression is evaluated under: the item by one name, and for its exceptions by another.
type under struct{ name, except *types.Entity }

// under gives what a policy that may match the item as e is evaluated under; it has to hold under all of them.
func (r *request) under(pol *policy, e *types.Entity) []under {
	p := r.item
	switch {
	case !pol.excepts || p == nil || p.oneName:
		return []under{{e, e}}
	case pol.named: // its scope fits one name, and its exceptions have to bite under the other too
		return []under{{e, &p.advertised}, {e, &p.forbidden}}
	case e == &p.advertised:
		return []under{{e, e}}
	}
	return []under{{e, &p.forbidden}}
}

// possible is what an expression may give. negative: it stands under a negation.
func (r *request) possible(x *expr, n under, negative bool) outcome {
	switch x.op {
	case opLeaf:
		if r.listing && x.reads.readsArgs() {
			return canBeAnything
		}
		e := n.name
		if negative || x.mixed {
			e = n.except
		}
		o, err := r.run(x.leaf, &x.reads, e)
		if err != nil && r.why == nil {
			r.why = err
		}
		return o
	case opNot:
		o := r.possible(x.kids[0], n, !negative)
		return o&canFail | o&canBeTrue<<1 | o&canBeFalse>>1
	case opAnd:
		return r.conjunction(x.kids, n, negative)
	case opOr:
		return r.disjunction(x.kids, n, negative)
	case opIf:
		return r.choice(x.kids, n, negative)
	}
	return canBeAnything
}

// allOf is what the conjuncts of a policy give for the item as e.
func (r *request) allOf(pol *policy, parts []*expr, e *types.Entity) outcome {
	o := canBeTrue
	for _, n := range r.under(pol, e) {
		if o&canBeTrue == 0 {
			break
		}
		o = o&^canBeTrue | r.conjunction(parts, n, false)
	}
	if o&canFail != 0 && !r.listing {
		r.fail(pol, r.why)
	}
	return o
}

// conjunction joins parts of which the later ones count only where the earlier are true.
func (r *request) conjunction(parts []*expr, n under, negative bool) outcome {
	o := canBeTrue
	for _, x := range parts {
		if o&canBeTrue == 0 {
			break
		}
		o = o&^canBeTrue | r.possible(x, n, negative)
	}
	return o
}

func (r *request) disjunction(parts []*expr, n under, negative bool) outcome {
	o := canBeFalse
	for _, x := range parts {
		if o&canBeFalse == 0 {
			break
		}
		o = o&^canBeFalse | r.possible(x, n, negative)
	}
	return o
}

// choice is if a then b else c. Where a is true only of the name of the exceptions, it is an exception to c as well as
// the ground of b: then both b and c have to hold, and under a negation one of them is enough.
func (r *request) choice(kids []*expr, n under, negative bool) outcome {
	is := r.possible(kids[0], n, false)
	isNot := is // whether an exception holds
	if n.except != n.name {
		isNot = r.possible(kids[0], n, true)
	}
	o := (is | isNot) & canFail
	if is&canBeTrue != 0 {
		o |= r.possible(kids[1], n, negative)
	}
	if is&isNot&canBeFalse != 0 {
		o |= r.possible(kids[2], n, negative)
	}
	if n.except != n.name && is&canBeFalse != 0 && isNot&canBeTrue != 0 {
		if negative {
			o |= r.disjunction(kids[1:], n, negative)
		} else {
			o |= r.conjunction(kids[1:], n, negative)
		}
	}
	return o
}
