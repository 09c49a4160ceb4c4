package policy

import (
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// A list is decided before there are arguments. Conditions that read them are taken apart at &&, ||, ! and if, and each
// part that reads arguments may be anything; the others are evaluated. The result never misses an outcome that some
// arguments give; it may add one where two parts exclude each other.

type op uint8

const (
	opLeaf op = iota
	opUnknown
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
}

// takeApart compiles a condition for lists.
func takeApart(n ast.IsNode) *expr {
	e := &expr{}
	e.reads.condition(n)
	if !e.reads.readsArgs() {
		e.leaf = conditionPolicy([]ast.ConditionType{{Condition: ast.ConditionWhen, Body: n}})
		return e
	}
	switch v := n.(type) {
	case ast.NodeTypeAnd:
		e.op, e.kids = opAnd, []*expr{takeApart(v.Left), takeApart(v.Right)}
	case ast.NodeTypeOr:
		e.op, e.kids = opOr, []*expr{takeApart(v.Left), takeApart(v.Right)}
	case ast.NodeTypeNot:
		e.op, e.kids = opNot, []*expr{takeApart(v.Arg)}
	case ast.NodeTypeIfThenElse:
		e.op, e.kids = opIf, []*expr{takeApart(v.If), takeApart(v.Then), takeApart(v.Else)}
	default:
		e.op = opUnknown
	}
	return e
}

// possible is what an expression may give under the name of e.
func (r *request) possible(x *expr, e *types.Entity) outcome {
	switch x.op {
	case opLeaf:
		o, _ := r.run(x.leaf, x.reads.request(), e)
		return o
	case opNot:
		o := r.possible(x.kids[0], e)
		return o&canFail | o&canBeTrue<<1 | o&canBeFalse>>1
	case opAnd:
		return r.conjunction(x.kids, e)
	case opOr:
		l := r.possible(x.kids[0], e)
		if l&canBeFalse == 0 {
			return l
		}
		return l&^canBeFalse | r.possible(x.kids[1], e)
	case opIf:
		c := r.possible(x.kids[0], e)
		o := c & canFail
		if c&canBeTrue != 0 {
			o |= r.possible(x.kids[1], e)
		}
		if c&canBeFalse != 0 {
			o |= r.possible(x.kids[2], e)
		}
		return o
	}
	return canBeAnything
}

// conjunction joins parts of which the later ones count only where the earlier are true.
func (r *request) conjunction(parts []*expr, e *types.Entity) outcome {
	o := canBeTrue
	for _, x := range parts {
		if o&canBeTrue == 0 {
			break
		}
		o = o&^canBeTrue | r.possible(x, e)
	}
	return o
}
