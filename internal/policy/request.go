package policy

import (
	"errors"
	"fmt"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
)

// outcome is a set: what evaluating a condition may give. With known arguments it has one element.
type outcome uint8

const (
	canBeTrue outcome = 1 << iota
	canBeFalse
	canFail

	canBeAnything = canBeTrue | canBeFalse | canFail
)

// request is the evaluation of one request, or of one list: then arguments are unknown and items follow each other.
type request struct {
	set     *Set
	caller  *Caller   // nil while an item is prepared
	item    *Prepared // nil for a family, and while a caller is prepared
	family  Action
	ctx     Context
	args    []byte
	listing bool
	err     error // first failure
	why     error // of a part of a policy

	context *types.Record // built when first needed
	parsed  *arguments
	memo    map[*policy]outcome // of a list: conditions that are the same for every item
}

// evaluate evaluates the conditions of a policy.
func (r *request) evaluate(pol *policy, e *types.Entity) outcome {
	if err := r.caller.broken[pol]; err != nil {
		r.fail(pol, err)
		return canFail
	}
	if !r.listing && pol.reads.readsArgs() {
		a := r.arguments()
		if err := a.check(&pol.reads); err != nil {
			r.fail(pol, err)
			return canFail
		}
	}
	if pol.excepts || r.listing && pol.parts != nil {
		return r.allOf(pol, pol.parts, e)
	}
	o, err := r.run(pol.cond, &pol.reads, e)
	if err != nil {
		r.fail(pol, err)
	}
	return o
}

// run has cedar-go evaluate conditions.
func (r *request) run(cond single, reads *reads, e *types.Entity) (outcome, error) {
	if cond.policy == nil {
		return canBeTrue, nil
	}
	if reads.resourceArgs && !r.listing && e != nil {
		if a := r.arguments(); len(a.scalars) > 0 {
			with := *e
			with.Attributes = types.NewRecord(overlay(overlay(nil, types.NewRecord(a.scalars)), e.Attributes))
			e = &with
		}
	}
	v := &view{resource: e, rest: r.set.entities}
	req := cedar.Request{}
	if r.caller != nil {
		v.caller, req.Principal, req.Context = &r.caller.entity, r.caller.entity.UID, r.caller.context
	}
	if e != nil {
		req.Resource = e.UID
	}
	if r.item != nil {
		req.Action = actionUIDs[r.item.Item.Kind]
	} else {
		req.Action = actionUID(r.family)
	}
	if reads.request() {
		req.Context = r.fullContext()
	}
	ok, diag := cedar.Authorize(cond, v, req)
	switch {
	case len(diag.Errors) > 0:
		return canFail, errors.New(diag.Errors[0].Message)
	case ok == cedar.Allow:
		return canBeTrue, nil
	}
	return canBeFalse, nil
}

var actionUIDs = [numKinds]types.EntityUID{
	Tool: actionUID(kindActions[Tool]), Prompt: actionUID(kindActions[Prompt]), Resource: actionUID(kindActions[Resource]),
}

// fullContext is context with what the request adds, as far as policies read it.
func (r *request) fullContext() types.Record {
	if r.context != nil {
		return *r.context
	}
	reads := &r.set.reads
	m := types.RecordMap{}
	overlay(m, r.caller.context)
	if reads.ip || reads.context {
		if text := r.ctx.clientIP(); text != "" {
			if ip, err := types.ParseIPAddr(text); err == nil {
				m["client_ip"] = ip
			}
			m["client_ip_string"] = types.String(text)
		}
	}
	if r.ctx.Era != "" && (reads.era || reads.context) {
		m["protocol_era"] = types.String(r.ctx.Era)
	}
	if reads.readsArgs() {
		a := r.arguments()
		for k, v := range a.scalars {
			m[k] = v
		}
		m["args"] = types.NewRecord(a.members)
	}
	rec := types.NewRecord(m)
	r.context = &rec
	return rec
}

// fail keeps the first error for the decision.
func (r *request) fail(pol *policy, err error) {
	if r.err == nil {
		r.err = fmt.Errorf("policy %s: %w", pol.id, err)
	}
}
