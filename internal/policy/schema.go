package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Schema is what a tool declares of the types of a value and of what is within it. Nil, and what it leaves out, is any.
type Schema struct {
	Types      []string // of JSON Schema: one of them. An unknown one is never given
	Properties map[string]*Schema
	Additional *Schema // members that are not among Properties
	Items      *Schema
}

func (s *Schema) property(name string) *Schema {
	if s == nil {
		return nil
	}
	if p, ok := s.Properties[name]; ok {
		return p
	}
	return s.Additional
}

func (s *Schema) items() *Schema {
	if s == nil {
		return nil
	}
	return s.Items
}

// declared refuses a value that is none of the JSON Schema types of its schema: a server that is lax about types, and
// many are, would take "true" for true, and a policy would not. It says what a number becomes.
func declared(s *Schema, k jsontext.Kind) (number, error) {
	n := byValue
	if s == nil || len(s.Types) == 0 {
		return n, nil
	}
	ok := false
	for _, t := range s.Types {
		switch t {
		case "integer":
			ok = ok || k == '0'
			n = max(n, asLong)
		case "number":
			ok = ok || k == '0'
			n = asDecimal
		case "string":
			ok = ok || k == '"'
		case "boolean":
			ok = ok || k == 't' || k == 'f'
		case "array":
			ok = ok || k == '['
		case "object":
			ok = ok || k == '{'
		case "null":
			ok = ok || k == 'n'
		}
	}
	if !ok {
		return n, fmt.Errorf("not of the type that its schema declares (%s)", strings.Join(s.Types, ", "))
	}
	return n, nil
}

// note is what was noticed of a value that is, or is within, an argument. It counts where a policy reads that value.
type note struct {
	path  []string // the members that lead to it
	wrong error    // not of its type; nil: an integer as written, and a decimal by its schema
}

// check gives the reason why a policy that reads argument name may not with this note.
func (n note) check(name string, reads *reads) error {
	is, err := reads.equatesAll || reads.equated.has(name) || slices.ContainsFunc(n.path, reads.equated.has), errDecimal
	if n.wrong != nil {
		is, err = reads.allArgs || reads.context || reads.whole.has(name) || slices.ContainsFunc(n.path, reads.whole.has) ||
			len(n.path) > 0 && reads.inner.has(n.path[len(n.path)-1]), n.wrong
	}
	switch {
	case !is:
		return nil
	case len(n.path) == 0:
		return fmt.Errorf("argument %q: %w", name, err)
	}
	return fmt.Errorf("argument %q: its member %q: %w", name, strings.Join(n.path, "."), err)
}
