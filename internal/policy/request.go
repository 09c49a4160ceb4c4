package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/go-json-experiment/json/jsontext"
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

// arguments are those of a request that some policy of the set reads.
type arguments struct {
	err     error           // no JSON object
	scalars types.RecordMap // arg_<k>
	members types.RecordMap // k
	bad     map[string]error
}

// arguments parses them once.
func (r *request) arguments() *arguments {
	if r.parsed == nil {
		r.parsed = &arguments{}
		if len(r.args) > 0 && !r.listing {
			r.parsed.err = r.parsed.parse(r.args, r.item, &r.set.reads)
		}
	}
	return r.parsed
}

func (a *arguments) parse(args []byte, item *Prepared, reads *reads) error {
	a.scalars, a.members = types.RecordMap{}, types.RecordMap{}
	dec := jsontext.NewDecoder(bytes.NewBuffer(args))
	if tok, err := dec.ReadToken(); err != nil || tok.Kind() != '{' {
		return errors.New("arguments are not a JSON object")
	}
	conv := &converter{doubles: true}
	for dec.PeekKind() == '"' {
		tok, err := dec.ReadToken()
		if err != nil {
			return fmt.Errorf("arguments: %w", err)
		}
		name := tok.String()
		if !reads.allArgs && !reads.context && !reads.scalarArgs.has(name) && !reads.memberArgs.has(name) {
			if err := dec.SkipValue(); err != nil {
				return fmt.Errorf("arguments: %w", err)
			}
			continue
		}
		raw, err := dec.ReadValue()
		if err != nil {
			return fmt.Errorf("arguments: %w", err)
		}
		var schema []string
		if item != nil {
			schema = item.Item.Args[name]
		}
		var v types.Value
		n, err := declared(schema, raw.Kind())
		if err == nil {
			v, err = conv.value(raw, n)
		}
		if err != nil {
			if a.bad == nil {
				a.bad = map[string]error{}
			}
			a.bad[name] = err
			continue
		}
		a.members[types.String(name)] = v
		switch v.(type) {
		case types.Set, types.Record:
		default:
			a.scalars[types.String("arg_"+name)] = v
		}
	}
	if tok, err := dec.ReadToken(); err != nil || tok.Kind() != '}' {
		return errors.New("arguments: not a complete JSON object")
	}
	if _, err := dec.ReadToken(); err != io.EOF {
		return errors.New("arguments: more than one JSON object")
	}
	return nil
}

// check refuses arguments that a policy reads and that do not reach it as they are.
func (a *arguments) check(reads *reads) error {
	if a.err != nil {
		return a.err
	}
	for name, err := range a.bad {
		if reads.allArgs || reads.context || reads.scalarArgs.has(name) || reads.memberArgs.has(name) {
			return fmt.Errorf("argument %q: %w", name, err)
		}
	}
	for name := range reads.scalarArgs {
		if _, given := a.members[types.String(name)]; !given {
			continue
		}
		if _, scalar := a.scalars[types.String("arg_"+name)]; !scalar {
			return fmt.Errorf("argument %q: read as arg_%s, but an array or object", name, name)
		}
	}
	return nil
}
