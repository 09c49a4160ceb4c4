package policy

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/go-json-experiment/json/jsontext"

	"vmcp/internal/mcpwire"
)

// Bounds on what becomes a Cedar value. Cedar's sets are hash tables with a known hash, so a long array could be made
// slow by whoever sends it.
const (
	maxDepth    = 16
	maxElements = 1_000 // of one array or object
	maxValues   = 5_000 // in all
)

// errNotExact: Cedar has no value that is this one.
var errNotExact = errors.New("cannot be a Cedar value")

// number says what JSON numbers become.
type number uint8

const (
	byValue   number = iota // integers Long, others Decimal
	asLong                  // JSON Schema integer
	asDecimal               // JSON Schema number
)

// converter turns JSON into Cedar values, exactly or not at all.
type converter struct {
	values    int
	skipNulls bool              // within arrays and objects: the same as not there
	folded    map[string]string // names of members to look for, by their folded form
	found     []spelled         // members that are one of them, perhaps but for case
	schema    *Schema           // of the document
	path      []string          // where next is in it
	notes     []note
	doubles   bool // only numbers that are the same at a reader whose numbers are doubles, as a server in JavaScript
}

// value converts one document. n holds for a number at its top.
func (c *converter) value(raw []byte, n number) (types.Value, error) {
	dec := jsontext.NewDecoder(bytes.NewBuffer(raw))
	c.path = c.path[:0]
	return c.next(dec, c.schema, n, 0)
}

// within converts a value that is not the top. One of another type than declared is noted and converted as it is:
// perhaps no policy reads it.
func (c *converter) within(dec *jsontext.Decoder, s *Schema, depth int) (types.Value, error) {
	n, err := declared(s, dec.PeekKind())
	if err != nil {
		c.note(err)
		s = nil
	}
	return c.next(dec, s, n, depth)
}

func (c *converter) note(wrong error) {
	c.notes = append(c.notes, note{slices.Clone(c.path), wrong})
}

func (c *converter) next(dec *jsontext.Decoder, s *Schema, n number, depth int) (types.Value, error) {
	if c.values++; c.values > maxValues {
		return nil, fmt.Errorf("%w: more than %d values", errNotExact, maxValues)
	}
	if depth > maxDepth {
		return nil, fmt.Errorf("%w: deeper than %d", errNotExact, maxDepth)
	}
	tok, err := dec.ReadToken()
	if err != nil {
		return nil, err
	}
	switch tok.Kind() {
	case '"':
		return types.String(tok.String()), nil
	case 't', 'f':
		return types.Boolean(tok.Bool()), nil
	case '0':
		v, err := toNumber(tok.String(), n)
		if n != byValue {
			is, isErr := toNumber(tok.String(), byValue)
			_, long := is.(types.Long)
			switch {
			case err == nil && long && n == asDecimal:
				c.note(nil)
			case err != nil && isErr == nil && depth > 0:
				c.note(err)
				v, err = is, nil
			}
		}
		if err == nil && c.doubles && !isDouble(tok.String()) {
			err = fmt.Errorf("%w: not the same number everywhere", errNotExact)
		}
		return v, err
	case '[':
		elements := []types.Value{}
		for dec.PeekKind() != ']' {
			if len(elements) == maxElements {
				return nil, fmt.Errorf("%w: more than %d elements", errNotExact, maxElements)
			}
			if c.skip(dec) {
				continue
			}
			v, err := c.within(dec, s.items(), depth+1)
			if err != nil {
				return nil, err
			}
			elements = append(elements, v)
		}
		_, err := dec.ReadToken()
		return types.NewSet(elements...), err
	case '{':
		members := types.RecordMap{}
		for dec.PeekKind() != '}' {
			if len(members) == maxElements {
				return nil, fmt.Errorf("%w: more than %d members", errNotExact, maxElements)
			}
			name, err := dec.ReadToken()
			if err != nil {
				return nil, err
			}
			key := types.String(name.String())
			if len(c.folded) > 0 {
				if f := mcpwire.Fold(string(key)); c.folded[f] != "" {
					c.found = append(c.found, spelled{string(key), f})
				}
			}
			if c.skip(dec) {
				continue
			}
			c.path = append(c.path, string(key))
			v, err := c.within(dec, s.property(string(key)), depth+1)
			if err != nil {
				return nil, err
			}
			c.path = c.path[:len(c.path)-1]
			members[key] = v
		}
		_, err := dec.ReadToken()
		return types.NewRecord(members), err
	}
	return nil, fmt.Errorf("%w: null", errNotExact)
}

// skip passes over a null that counts as not there.
func (c *converter) skip(dec *jsontext.Decoder) bool {
	return c.skipNulls && dec.PeekKind() == 'n' && dec.SkipValue() == nil
}

// toNumber converts the text of a JSON number by what it means, not how it is written: 500, 500.0 and 5e2 are one.
func toNumber(text string, n number) (types.Value, error) {
	negative, digits, exp, ok := decompose(text)
	if !ok {
		return nil, fmt.Errorf("%w: number out of range", errNotExact)
	}
	if n == asLong || n == byValue && exp >= 0 {
		i, ok := scale(negative, digits, exp)
		if !ok {
			return nil, fmt.Errorf("%w: not a 64-bit integer", errNotExact)
		}
		return types.Long(i), nil
	}
	i, ok := scale(negative, digits, exp+4)
	if !ok {
		return nil, fmt.Errorf("%w: not a decimal with at most 4 places", errNotExact)
	}
	d, err := types.NewDecimal(i, -4)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", errNotExact, err)
	}
	return d, nil
}

// isDouble reports whether a number survives being read as a double and written again.
func isDouble(text string) bool {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return false
	}
	n1, d1, e1, ok1 := decompose(text)
	n2, d2, e2, ok2 := decompose(strconv.FormatFloat(f, 'g', -1, 64))
	return ok1 && ok2 && d1 == d2 && (d1 == 0 || n1 == n2 && e1 == e2)
}

// decompose gives a number as ±digits × 10^exp, digits without a trailing zero. It is not ok where no integer or
// decimal of 64 bits can be meant.
func decompose(text string) (negative bool, digits uint64, exp int, ok bool) {
	text, negative = strings.CutPrefix(text, "-")
	mantissa, exponent, _ := strings.Cut(strings.ToLower(text), "e")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	all := strings.TrimLeft(whole+fraction, "0")
	significant := strings.TrimRight(all, "0")
	if significant == "" {
		return negative, 0, 0, true
	}
	if exponent != "" {
		e, err := strconv.Atoi(exponent)
		if err != nil || e < -1<<30 || e > 1<<30 {
			return negative, 0, 0, false
		}
		exp = e
	}
	exp += len(all) - len(significant) - len(fraction)
	digits, err := strconv.ParseUint(significant, 10, 64)
	return negative, digits, exp, err == nil
}

// scale computes ±digits × 10^exp if that is an integer of 64 bits.
func scale(negative bool, digits uint64, exp int) (int64, bool) {
	if digits == 0 {
		return 0, true
	}
	if exp < 0 || exp > 19 {
		return 0, false
	}
	for range exp {
		hi, lo := bits.Mul64(digits, 10)
		if hi != 0 {
			return 0, false
		}
		digits = lo
	}
	switch {
	case negative && digits == 1<<63:
		return math.MinInt64, true
	case digits > math.MaxInt64:
		return 0, false
	case negative:
		return -int64(digits), true
	}
	return int64(digits), true
}
