package catalog

import (
	"encoding/json"
	"errors"
	"fmt"

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
	if taskOnly(o) {
		return nil, nil, errors.New("execution.taskSupport: required: it runs as a task only, and tasks are not carried")
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
	item.Arguments, item.Additional = arguments(o.Raw("inputSchema"))
	return mcpwire.Splice(raw, o.Change(nil, set...)...), item, nil
}

// taskOnly says whether a tool cannot be called in the plain way (TK-4).
func taskOnly(tool mcpwire.Object) bool {
	raw := tool.Raw("execution")
	execution, err := mcpwire.ParseObject(raw, 0, len(raw))
	support, _ := execution.String("taskSupport")
	return err == nil && support == "required"
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
