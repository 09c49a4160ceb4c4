package catalog

import (
	"encoding/json"
	"fmt"
	"strings"

	"vmcp/internal/gatewayconfig"
	"vmcp/internal/mcpwire"
	gatewayv1 "vmcp/proto/gateway/v1"
)

// readable is a definition as clients can read it, and the view of it.
func readable(kind mcpwire.ItemKind, raw []byte) ([]byte, mcpwire.Object, error) {
	raw, err := conform(kind, raw)
	if err != nil {
		return nil, mcpwire.Object{}, err
	}
	o, err := mcpwire.ParseObject(raw, 0, len(raw))
	return raw, o, err
}

// tool rewrites the name in a tool definition, and what the configuration overrides; everything else that clients can read keeps
// its bytes (docs/rules.md#what-passes-unchanged). It also extracts what policies may use.
func tool(raw []byte, name string, over gatewayconfig.ToolOverride) ([]byte, *gatewayv1.Item, error) {
	raw, o, err := readable(mcpwire.ItemTool, raw)
	if err != nil {
		return nil, nil, err
	}
	original, _ := o.String("name")
	set := []mcpwire.Field{{Name: "name", Value: mcpwire.Quote(name)}}
	if over.Description != "" {
		set = append(set, mcpwire.Field{Name: "description", Value: mcpwire.Quote(over.Description)})
	}
	annotations := o.Raw("annotations")
	if len(over.Annotations) > 0 {
		if annotations, err = withAnnotations(annotations, over.Annotations); err != nil {
			return nil, nil, err
		}
		set = append(set, mcpwire.Field{Name: "annotations", Value: annotations})
	}
	item := &gatewayv1.Item{Name: name, Original: original, Annotations: hints(annotations)}
	item.Arguments = properties(o.Raw("inputSchema"))
	return mcpwire.Splice(raw, o.Change(nil, set...)...), item, nil
}

// withAnnotations sets members of an annotations object, which may be absent.
func withAnnotations(raw []byte, over map[string]any) ([]byte, error) {
	if len(raw) == 0 || raw[0] != '{' {
		raw = []byte("{}")
	}
	o, err := mcpwire.ParseObject(raw, 0, len(raw))
	if err != nil {
		return nil, fmt.Errorf("annotations are not readable: %w", err)
	}
	var set []mcpwire.Field
	for _, key := range []string{"title", "readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"} {
		v, ok := over[key]
		if !ok {
			continue
		}
		b, err := json.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("override of %s: %w", key, err)
		}
		set = append(set, mcpwire.Field{Name: key, Value: b})
	}
	return mcpwire.Splice(raw, o.Change(nil, set...)...), nil
}

func hints(raw []byte) *gatewayv1.Annotations {
	if len(raw) == 0 || raw[0] != '{' {
		return nil
	}
	o, err := mcpwire.ParseObject(raw, 0, len(raw))
	if err != nil {
		return nil
	}
	a := &gatewayv1.Annotations{}
	any := false
	for name, to := range map[string]**bool{
		"readOnlyHint": &a.ReadOnlyHint, "destructiveHint": &a.DestructiveHint,
		"idempotentHint": &a.IdempotentHint, "openWorldHint": &a.OpenWorldHint,
	} {
		switch string(o.Raw(name)) {
		case "true":
			v := true
			*to, any = &v, true
		case "false":
			v := false
			*to, any = &v, true
		}
	}
	if !any {
		return nil
	}
	return a
}

// properties are the top-level properties of a JSON Schema object, with their types.
func properties(schema []byte) []*gatewayv1.Argument {
	o, err := mcpwire.ParseObject(schema, 0, len(schema))
	if err != nil {
		return nil
	}
	m, ok := o.Find("properties")
	if !ok || schema[m.Start] != '{' {
		return nil
	}
	props, err := mcpwire.ParseObject(schema, m.Start, m.End)
	if err != nil {
		return nil
	}
	var args []*gatewayv1.Argument
	for _, p := range props.Members {
		t := typer{root: o, left: 64}
		args = append(args, &gatewayv1.Argument{Name: p.Name, Types: t.types(schema[p.Start:p.End])})
	}
	return args
}

// typer finds the JSON types that schemas allow. A schema may refer to itself, so it looks at a limited number.
type typer struct {
	root mcpwire.Object
	left int // schemas that it may still look at
}

// types are those of "type", else of the schemas that this one is made of. None where it allows any, or says it in a
// way that is not followed here.
func (t *typer) types(raw []byte) []string {
	if t.left--; t.left < 0 || len(raw) == 0 || raw[0] != '{' {
		return nil
	}
	o, err := mcpwire.ParseObject(raw, 0, len(raw))
	if err != nil {
		return nil
	}
	if one, ok := o.String("type"); ok {
		return []string{one}
	}
	var several []string
	if json.Unmarshal(o.Raw("type"), &several) == nil {
		return several
	}
	var parts []json.RawMessage
	for _, name := range []string{"anyOf", "oneOf"} {
		if json.Unmarshal(o.Raw(name), &parts) == nil {
			return t.union(parts)
		}
	}
	if json.Unmarshal(o.Raw("allOf"), &parts) == nil {
		for _, part := range parts {
			if all := t.types(part); all != nil {
				return all
			}
		}
	}
	ref, _ := o.String("$ref")
	for _, defs := range []string{"$defs", "definitions"} {
		name, within := strings.CutPrefix(ref, "#/"+defs+"/")
		m, ok := t.root.Find(defs)
		if !within || !ok || t.root.Text[m.Start] != '{' {
			continue
		}
		if all, err := mcpwire.ParseObject(t.root.Text, m.Start, m.End); err == nil {
			return t.types(all.Raw(name))
		}
	}
	return nil
}

// union is what any of several schemas allows; none where one of them does not say.
func (t *typer) union(parts []json.RawMessage) (all []string) {
	for _, part := range parts {
		some := t.types(part)
		if some == nil {
			return nil
		}
		all = append(all, some...)
	}
	return all
}

func prompt(raw []byte, name string) ([]byte, *gatewayv1.Item, error) {
	raw, o, err := readable(mcpwire.ItemPrompt, raw)
	if err != nil {
		return nil, nil, err
	}
	original, _ := o.String("name")
	item := &gatewayv1.Item{Name: name, Original: original}
	var args []struct{ Name string }
	if err := json.Unmarshal(o.Raw("arguments"), &args); err == nil {
		for _, a := range args {
			item.Arguments = append(item.Arguments, &gatewayv1.Argument{Name: a.Name, Types: []string{"string"}})
		}
	}
	return mcpwire.Splice(raw, o.Change(nil, mcpwire.Field{Name: "name", Value: mcpwire.Quote(name)})...), item, nil
}
