package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"vmcp/internal/mcpwire"
)

// Many clients read a list as one value: a single member of another type than the protocol says, and they have no list at
// all, none of any backend. So the known members of a definition are made what clients expect wherever that changes no
// meaning, and where it would, the one item is left out. Members that the protocol does not name are nobody's to judge.

// form is what the protocol says of a value.
type form struct {
	kind    byte             // by the first byte: { [ " 0 t; s is a schema
	members map[string]*form // of an object: those with a meaning
	others  *form            // of an object: all the rest; nil where it may be anything
	each    *form            // of an array
	needs   []string         // of an object
	exact   bool             // a number is no text here
	hint    bool             // one that does not fit is as good as none: it is dropped, not the item
}

var (
	text       = &form{kind: '"'}
	textHint   = &form{kind: '"', hint: true}
	boolHint   = &form{kind: 't', hint: true}
	numberHint = &form{kind: '0', hint: true}
	texts      = &form{kind: '[', each: text}
	textsHint  = &form{kind: '[', each: text, hint: true}
	object     = &form{kind: '{'}

	icons = &form{kind: '[', hint: true, each: &form{kind: '{', needs: []string{"src"},
		members: map[string]*form{"src": text, "mimeType": textHint, "sizes": textsHint, "theme": textHint}}}
	schema = &form{kind: '{', members: map[string]*form{"properties": {kind: '{', others: &form{kind: 's'}}, "required": texts}}

	// A hint that is dropped is the cautious value: not read-only, destructive, not idempotent, open world.
	toolHints = &form{kind: '{', hint: true, members: map[string]*form{"title": textHint,
		"readOnlyHint": boolHint, "destructiveHint": boolHint, "idempotentHint": boolHint, "openWorldHint": boolHint}}
	contentHints = &form{kind: '{', hint: true, members: map[string]*form{"audience": textsHint, "priority": numberHint, "lastModified": textHint}}
)

// named is the form of an item, with the members that each kind has.
func named(key string, more map[string]*form) *form {
	f := &form{kind: '{', needs: []string{key}, members: map[string]*form{
		"name": text, key: {kind: '"', exact: true}, "title": text, "description": text, "icons": icons, "_meta": object}}
	for name, member := range more {
		f.members[name] = member
	}
	return f
}

var forms = map[mcpwire.ItemKind]*form{
	mcpwire.ItemTool: named("name", map[string]*form{"inputSchema": schema, "outputSchema": schema, "annotations": toolHints,
		"execution": {kind: '{', members: map[string]*form{"taskSupport": text}}}),
	mcpwire.ItemPrompt: named("name", map[string]*form{"arguments": {kind: '[', each: &form{kind: '{', needs: []string{"name"},
		members: map[string]*form{"name": text, "title": text, "description": text, "required": boolHint}}}}),
	mcpwire.ItemResource: named("uri", map[string]*form{"mimeType": text, "size": numberHint, "annotations": contentHints}),
	mcpwire.ItemTemplate: named("uriTemplate", map[string]*form{"mimeType": text, "annotations": contentHints}),
}

// conform makes a definition what clients can read; raw itself where it is that already.
func conform(kind mcpwire.ItemKind, raw []byte) ([]byte, error) {
	if len(raw) == 0 {
		return nil, errors.New("the definition is empty")
	}
	fixed, err := forms[kind].fit(raw, "the definition")
	if err != nil {
		return nil, err
	}
	o, err := mcpwire.ParseObject(fixed, 0, len(fixed))
	if err != nil {
		return nil, err
	}
	switch kind {
	case mcpwire.ItemTool:
		return takesObject(o)
	case mcpwire.ItemResource, mcpwire.ItemTemplate:
		if o.Raw("name") == nil { // which is only shown
			return mcpwire.Splice(fixed, o.Change(nil, mcpwire.Field{Name: "name", Value: o.Raw(kind.ItemKey())})...), nil
		}
	}
	return fixed, nil
}

// takesObject sees to it that inputSchema says what is always so: arguments are an object.
func takesObject(tool mcpwire.Object) ([]byte, error) {
	input := tool.Raw("inputSchema")
	if input == nil {
		input = []byte("{}")
	}
	o, err := mcpwire.ParseObject(input, 0, len(input))
	if err != nil {
		return nil, err
	}
	if t, _ := o.String("type"); t == "object" {
		return tool.Text, nil
	}
	var several []string
	switch raw := o.Raw("type"); {
	case raw == nil, string(raw) == "null":
	case json.Unmarshal(raw, &several) == nil && slices.Contains(several, "object"):
	default:
		return nil, errors.New("inputSchema is of another type than object")
	}
	input = mcpwire.Splice(input, o.Change(nil, mcpwire.Field{Name: "type", Value: []byte(`"object"`)})...)
	return mcpwire.Splice(tool.Text, tool.Change(nil, mcpwire.Field{Name: "inputSchema", Value: input})...), nil
}

// forLegacy is a tool as clients of 2025 can read it: their output is an object, and its schema says so. Nil where they
// can read it as it is.
func forLegacy(raw []byte) []byte {
	o, err := mcpwire.ParseObject(raw, 0, len(raw))
	output := o.Raw("outputSchema")
	if err != nil || output == nil {
		return nil
	}
	s, _ := mcpwire.ParseObject(output, 0, len(output))
	if t, _ := s.String("type"); t == "object" {
		return nil
	}
	return mcpwire.Splice(raw, o.Change(func(name string) bool { return name == "outputSchema" })...)
}

var words = map[byte]string{'{': "an object", '[': "an array", '"': "a string", '0': "a number", 't': "a boolean", 'n': "null", 's': "a schema"}

func kindOf(raw []byte) byte {
	switch c := raw[0]; c {
	case '{', '[', '"', 't', 'n':
		return c
	case 'f':
		return 't'
	}
	return '0'
}

func (f *form) fit(raw []byte, at string) ([]byte, error) {
	kind := kindOf(raw)
	switch {
	case f.kind == kind:
	case f.kind == 's' && string(raw) == "false":
		return []byte(`{"not":{}}`), nil
	case f.kind == 's' && (string(raw) == "true" || kind == 'n'):
		return []byte("{}"), nil
	case f.kind == 's' && kind == '{':
		return raw, nil
	case (f.kind == '{' || f.kind == 's') && emptyArray(raw): // PHP's word for an empty object
		return f.fitObject([]byte("{}"), at)
	case f.kind == '"' && (kind == '0' || kind == 't') && !f.exact:
		return mcpwire.Quote(string(raw)), nil
	default:
		return nil, fmt.Errorf("%s is %s, not %s", at, words[kind], words[f.kind])
	}
	switch kind {
	case '{':
		return f.fitObject(raw, at)
	case '[':
		return f.fitArray(raw, at)
	}
	return raw, nil
}

func emptyArray(raw []byte) bool {
	return raw[0] == '[' && len(bytes.Trim(raw, "[] \t\r\n")) == 0 && bytes.Count(raw, []byte("[")) == 1
}

func (f *form) fitObject(raw []byte, at string) ([]byte, error) {
	o, err := mcpwire.ParseObject(raw, 0, len(raw))
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", at, err)
	}
	drops := map[string]bool{}
	var set []mcpwire.Field
	for _, m := range o.Members {
		want := f.members[m.Name]
		if want == nil {
			want = f.others
		}
		value := raw[m.Start:m.End]
		switch {
		case want == nil:
		case kindOf(value) == 'n' && want.kind != 's':
			drops[m.Name] = true
		default:
			fixed, err := want.fit(value, m.Name)
			switch {
			case err == nil && !bytes.Equal(fixed, value):
				set = append(set, mcpwire.Field{Name: m.Name, Value: fixed})
			case err != nil && want.hint:
				drops[m.Name] = true
			case err != nil:
				return nil, err
			}
		}
	}
	for _, name := range f.needs {
		if o.Raw(name) == nil || drops[name] {
			return nil, fmt.Errorf("%s has no %s", at, name)
		}
	}
	if len(drops) == 0 && len(set) == 0 {
		return raw, nil
	}
	return mcpwire.Splice(raw, o.Change(func(name string) bool { return drops[name] }, set...)...), nil
}

func (f *form) fitArray(raw []byte, at string) ([]byte, error) {
	var values []json.RawMessage
	if err := json.Unmarshal(raw, &values); err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", at, err)
	}
	changed := false
	for i, value := range values {
		fixed, err := f.each.fit(value, "an element of "+at)
		if err != nil {
			return nil, err
		}
		changed = changed || !bytes.Equal(fixed, value)
		values[i] = fixed
	}
	if !changed {
		return raw, nil
	}
	parts := make([][]byte, len(values))
	for i, value := range values {
		parts[i] = value
	}
	return append(append([]byte{'['}, bytes.Join(parts, []byte{','})...), ']'), nil
}
