package catalog

import (
	"encoding/json"
	"errors"
	"fmt"

	"vmcp/internal/gatewayconfig"
	"vmcp/internal/mcpwire"
	gatewayv1 "vmcp/proto/gateway/v1"
)

// tool rewrites the name in a tool definition, and what the configuration overrides; everything else keeps its bytes
// (docs/rules.md#what-passes-unchanged). It also extracts what policies may use.
func tool(raw []byte, name string, over gatewayconfig.ToolOverride) ([]byte, *gatewayv1.Item, error) {
	o, err := mcpwire.ParseObject(raw, 0, len(raw))
	if err != nil {
		return nil, nil, fmt.Errorf("the definition is not readable: %w", err)
	}
	original, ok := o.String("name")
	if !ok {
		return nil, nil, errors.New("the definition has no name")
	}
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
	schema := o.Raw("inputSchema")
	if len(schema) == 0 || schema[0] != '{' {
		return nil, nil, errors.New("inputSchema is not an object")
	}
	item.Arguments = properties(schema)
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

// properties are the top-level properties of a JSON Schema object, with their type where it is one string.
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
		arg := &gatewayv1.Argument{Name: p.Name}
		if schema[p.Start] == '{' {
			if prop, err := mcpwire.ParseObject(schema, p.Start, p.End); err == nil {
				arg.Type, _ = prop.String("type")
			}
		}
		args = append(args, arg)
	}
	return args
}

func prompt(raw []byte, name string) ([]byte, *gatewayv1.Item, error) {
	o, err := mcpwire.ParseObject(raw, 0, len(raw))
	if err != nil {
		return nil, nil, fmt.Errorf("the definition is not readable: %w", err)
	}
	original, ok := o.String("name")
	if !ok {
		return nil, nil, errors.New("the definition has no name")
	}
	item := &gatewayv1.Item{Name: name, Original: original}
	var args []struct{ Name string }
	if err := json.Unmarshal(o.Raw("arguments"), &args); err == nil {
		for _, a := range args {
			item.Arguments = append(item.Arguments, &gatewayv1.Argument{Name: a.Name, Type: "string"})
		}
	}
	return mcpwire.Splice(raw, o.Change(nil, mcpwire.Field{Name: "name", Value: mcpwire.Quote(name)})...), item, nil
}
