package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/go-json-experiment/json/jsontext"

	"vmcp/internal/mcpwire"
)

// arguments are those of a request that some policy of the set reads.
type arguments struct {
	err     error           // no JSON object
	scalars types.RecordMap // arg_<k>
	members types.RecordMap // k
	bad     map[string]error
	numbers names                // those whose schema says number
	found   []spelled            // those that are read, perhaps but for case
	inner   map[string][]spelled // the same of members, by argument
	notes   map[string][]note    // by argument
}

var errDecimal = errors.New(`a number by its schema, so a decimal, compared with something else: write decimal("5.0") for 5`)

// spelled is a name of the client's, and its folded form.
type spelled struct{ name, folded string }

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
	conv := &converter{doubles: true, folded: reads.foldedInner}
	for dec.PeekKind() == '"' {
		tok, err := dec.ReadToken()
		if err != nil {
			return fmt.Errorf("arguments: %w", err)
		}
		name := tok.String()
		if f := mcpwire.Fold(name); reads.foldedArgs[f] != "" {
			a.found = append(a.found, spelled{name, f})
		}
		if !reads.allArgs && !reads.context && !reads.byName(name) {
			if err := dec.SkipValue(); err != nil {
				return fmt.Errorf("arguments: %w", err)
			}
			continue
		}
		raw, err := dec.ReadValue()
		if err != nil {
			return fmt.Errorf("arguments: %w", err)
		}
		conv.schema = nil
		if item != nil {
			conv.schema = item.Item.Args.property(name)
		}
		var v types.Value
		n, err := declared(conv.schema, raw.Kind())
		if err == nil {
			v, err = conv.value(raw, n)
		}
		for _, n := range conv.notes {
			if n.check(name, reads) != nil {
				if a.notes == nil {
					a.notes = map[string][]note{}
				}
				a.notes[name] = append(a.notes[name], n)
			}
		}
		conv.notes = nil
		if len(conv.found) > 0 {
			if a.inner == nil {
				a.inner = map[string][]spelled{}
			}
			a.inner[name], conv.found = conv.found, nil
		}
		if err != nil {
			if a.bad == nil {
				a.bad = map[string]error{}
			}
			a.bad[name] = err
			continue
		}
		if n == asDecimal {
			a.numbers.add(name)
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
		if reads.allArgs || reads.context || reads.byName(name) {
			return fmt.Errorf("argument %q: %w", name, err)
		}
	}
	for _, s := range a.found {
		if known, ok := reads.foldedArgs[s.folded]; ok && known != s.name && !reads.byName(s.name) && !(reads.allArgs && reads.inner.has(s.name)) {
			return fmt.Errorf("argument %q: differs from %q only in case", s.name, known)
		}
	}
	for name, members := range a.inner {
		if !reads.allArgs && !reads.context && !reads.byName(name) {
			continue
		}
		for _, s := range members {
			if known, ok := reads.foldedInner[s.folded]; ok && !reads.inner.has(s.name) {
				return fmt.Errorf("argument %q: its member %q differs from %q only in case", name, s.name, known)
			}
		}
	}
	for name, notes := range a.notes {
		if !reads.allArgs && !reads.context && !reads.byName(name) {
			continue
		}
		for _, n := range notes {
			if err := n.check(name, reads); err != nil {
				return err
			}
		}
	}
	for name := range reads.equated {
		if _, decimal := a.members[types.String(name)].(types.Decimal); decimal && a.numbers.has(name) && reads.byName(name) {
			return fmt.Errorf("argument %q: %w", name, errDecimal)
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
