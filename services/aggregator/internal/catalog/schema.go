package catalog

import (
	"encoding/json"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	"vmcp/internal/mcpwire"
	gatewayv1 "vmcp/proto/gateway/v1"
)

// What may be said of the arguments of one tool. What does not fit is said less deep: a schema may refer to itself.
const (
	maxDepth   = 8
	maxBytes   = 8 << 10 // of the message
	maxSchemas = 512     // looked at
	maxParts   = 64      // looked at for the type of one argument, where only those of the top are said
)

// arguments are the top-level properties of a JSON Schema object with the types that it allows, there and within, and
// what it says of any other argument.
func arguments(schema []byte) ([]*gatewayv1.Argument, *gatewayv1.Argument) {
	properties := members(find(schema, "properties"))
	var top []*gatewayv1.Argument
	for _, p := range properties {
		top = append(top, &gatewayv1.Argument{Name: p.name})
	}
	t := typer{root: schema, refs: map[string][]byte{}}
	for depth := maxDepth; depth > 0; depth-- {
		t.left, t.text = maxSchemas, max(64<<10, 8*len(schema))
		all := t.schema(schema, depth)
		if t.spent() || proto.Size(all) > maxBytes {
			continue
		}
		return both(&gatewayv1.Argument{Properties: top}, all).Properties, all.GetAdditional()
	}
	t.text = max(64<<10, 8*len(schema))
	for i, p := range properties {
		t.left = maxParts
		if a := t.schema(p.raw, 0); a != nil && !t.spent() {
			top[i].Types = a.Types
		}
	}
	return top, nil
}

type member struct {
	name string
	raw  []byte
}

// members are those of an object; none if raw is something else.
func members(raw []byte) (all []member) {
	if len(raw) == 0 || raw[0] != '{' {
		return nil
	}
	o, err := mcpwire.ParseObject(raw, 0, len(raw))
	if err != nil {
		return nil
	}
	for _, m := range o.Members {
		all = append(all, member{m.Name, raw[m.Start:m.End]})
	}
	return all
}

func find(raw []byte, name string) []byte {
	for _, m := range members(raw) {
		if m.name == name {
			return m.raw
		}
	}
	return nil
}

// typer finds the JSON types that schemas allow.
type typer struct {
	root []byte
	refs map[string][]byte
	left int // schemas that it may still look at
	text int // bytes that it may still read
}

func (t *typer) spent() bool { return t.left < 0 || t.text < 0 }

// schema says what a schema allows, down to depth levels within it; nil where that is anything, or is said in a way that is
// not followed here. Of several things that hold at once, one is enough to refuse a value.
func (t *typer) schema(raw []byte, depth int) *gatewayv1.Argument {
	t.left--
	t.text -= len(raw)
	if t.spent() || len(raw) == 0 || raw[0] != '{' {
		return nil
	}
	o, err := mcpwire.ParseObject(raw, 0, len(raw))
	if err != nil {
		return nil
	}
	a := &gatewayv1.Argument{}
	if one, ok := o.String("type"); ok {
		a.Types = []string{one}
	} else if json.Unmarshal(o.Raw("type"), &a.Types) != nil {
		a.Types = nil
	}
	if depth > 0 {
		if o.Raw("patternProperties") == nil { // it says which members are no additional ones
			a.Additional = t.schema(o.Raw("additionalProperties"), depth-1)
		}
		for _, p := range members(o.Raw("properties")) {
			a.Properties = append(a.Properties, called(p.name, t.schema(p.raw, depth-1)))
		}
		if o.Raw("prefixItems") == nil {
			a.Items = t.schema(o.Raw("items"), depth-1)
		}
	}
	a = said(a)
	var parts []json.RawMessage
	for _, name := range []string{"anyOf", "oneOf"} {
		if json.Unmarshal(o.Raw(name), &parts) == nil {
			a = both(a, t.union(parts, depth))
		}
	}
	if json.Unmarshal(o.Raw("allOf"), &parts) == nil {
		for _, part := range parts {
			a = both(a, t.schema(part, depth))
		}
	}
	if ref, ok := o.String("$ref"); ok {
		a = both(a, t.schema(t.follow(ref), depth))
	}
	return a
}

// follow finds what a JSON Pointer (RFC 6901) into the whole schema refers to.
func (t *typer) follow(ref string) []byte {
	if raw, ok := t.refs[ref]; ok {
		return raw
	}
	path, ok := strings.CutPrefix(ref, "#")
	if !ok {
		return nil
	}
	raw := t.root
	for i, name := range strings.Split(path, "/") {
		t.text -= len(raw)
		switch {
		case t.spent() || i == 0 && name != "": // the name of an anchor
			return nil
		case i == 0:
			continue
		case len(raw) > 0 && raw[0] == '[':
			var elements []json.RawMessage
			n, err := strconv.Atoi(name)
			if err != nil || json.Unmarshal(raw, &elements) != nil || n < 0 || n >= len(elements) {
				return nil
			}
			raw = elements[n]
			continue
		}
		name = strings.ReplaceAll(strings.ReplaceAll(name, "~1", "/"), "~0", "~")
		raw = find(raw, name)
	}
	t.refs[ref] = raw
	return raw
}

// union is what any of several schemas allows.
func (t *typer) union(parts []json.RawMessage, depth int) *gatewayv1.Argument {
	var all *gatewayv1.Argument
	for i, part := range parts {
		a := t.schema(part, depth)
		if i == 0 {
			all = a
		} else {
			all = either(all, a)
		}
		if all == nil {
			return nil
		}
	}
	return all
}
