package catalog

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"vmcp/internal/gatewayconfig"
	"vmcp/internal/mcpwire"
	gatewayv1 "vmcp/proto/gateway/v1"
)

// TestBytes: a definition keeps its bytes but for the name and what is overridden.
func TestBytes(t *testing.T) {
	yes, no := true, false
	for _, tt := range []struct {
		name string
		over gatewayconfig.ToolOverride
		in   string
		want string
		wire *gatewayv1.Item
	}{
		{"name only", gatewayconfig.ToolOverride{},
			`{ "inputSchema" : {"type":"object","x":1e400,"y":12345678901234567890} , "name":"x" ,"é":"\u00e9\/","_meta":{"a":[ ]}}`,
			`{ "inputSchema" : {"type":"object","x":1e400,"y":12345678901234567890} , "name":"a_x" ,"é":"\u00e9\/","_meta":{"a":[ ]}}`,
			&gatewayv1.Item{Name: "a_x", Original: "x"}},
		{"escaped name", gatewayconfig.ToolOverride{}, `{"n\u0061me":"\u0078","inputSchema":{"type":"object"}}`, `{"n\u0061me":"a_x","inputSchema":{"type":"object"}}`,
			&gatewayv1.Item{Name: "a_x", Original: "x"}},
		{"rename and describe", gatewayconfig.ToolOverride{Name: "n", Description: `say "hi"`},
			`{"name":"x","description":"old","inputSchema":{"type":"object"}}`, `{"name":"a_n","description":"say \"hi\"","inputSchema":{"type":"object"}}`,
			&gatewayv1.Item{Name: "a_n", Original: "x"}},
		{"describe what had none", gatewayconfig.ToolOverride{Description: "d"},
			`{"name":"x","inputSchema":{"type":"object"}}`, `{"description":"d","name":"a_x","inputSchema":{"type":"object"}}`,
			&gatewayv1.Item{Name: "a_x", Original: "x"}},
		{"annotations", gatewayconfig.ToolOverride{Annotations: map[string]any{"readOnlyHint": false, "title": "T"}},
			`{"name":"x","inputSchema":{"type":"object"},"annotations":{ "readOnlyHint":true,"destructiveHint": true,"mine":1}}`,
			`{"name":"a_x","inputSchema":{"type":"object"},"annotations":{"title":"T", "readOnlyHint":false,"destructiveHint": true,"mine":1}}`,
			&gatewayv1.Item{Name: "a_x", Original: "x", Annotations: &gatewayv1.Annotations{ReadOnlyHint: &no, DestructiveHint: &yes}}},
		{"annotations where there were none", gatewayconfig.ToolOverride{Annotations: map[string]any{"idempotentHint": true, "openWorldHint": false}},
			`{"name":"x","inputSchema":{"type":"object"}}`, `{"annotations":{"idempotentHint":true,"openWorldHint":false},"name":"a_x","inputSchema":{"type":"object"}}`,
			&gatewayv1.Item{Name: "a_x", Original: "x", Annotations: &gatewayv1.Annotations{IdempotentHint: &yes, OpenWorldHint: &no}}},
		{"arguments", gatewayconfig.ToolOverride{},
			`{"name":"x","inputSchema":{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":["string","null"]},"c":{},"é\"":{"properties":{"z":{}}}}}}`,
			`{"name":"a_x","inputSchema":{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":["string","null"]},"c":{},"é\"":{"properties":{"z":{}}}}}}`,
			&gatewayv1.Item{Name: "a_x", Original: "x", Arguments: []*gatewayv1.Argument{{Name: "a", Types: []string{"integer"}}, {Name: "b", Types: []string{"string", "null"}}, {Name: "c"}, {Name: `é"`}}}},
		{"types of arguments", gatewayconfig.ToolOverride{},
			`{"name":"x","inputSchema":` + schemaOfTypes + `}`, `{"name":"a_x","inputSchema":` + schemaOfTypes + `}`,
			&gatewayv1.Item{Name: "a_x", Original: "x", Arguments: []*gatewayv1.Argument{
				{Name: "any", Types: []string{"boolean", "null"}}, {Name: "one", Types: []string{"string", "null", "integer"}}, {Name: "open"},
				{Name: "ref", Types: []string{"boolean"}}, {Name: "all", Types: []string{"array"}}, {Name: "far"}, {Name: "loop"}, {Name: "odd"}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := with(prefixes(), tools("a", gatewayconfig.WorkloadTools{Overrides: map[string]gatewayconfig.ToolOverride{"x": tt.over}}))
			c := Merge(&cfg, []Listing{{Backend: "a", Listed: true, Tools: []Definition{{"x", []byte(tt.in)}}}})
			if len(c.Items(mcpwire.ItemTool)) != 1 {
				t.Fatal("not advertised:", c.Dropped)
			}
			it := c.Items(mcpwire.ItemTool)[0]
			if got := string(it.Raw); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if it.Wire.Definition != Digest([]byte(tt.in)) {
				t.Errorf("the digest of the definition is %q", it.Wire.Definition)
			}
			if diff := cmp.Diff(tt.wire, it.Wire, protocmp.Transform(), protocmp.IgnoreFields(&gatewayv1.Item{}, "definition")); diff != "" {
				t.Errorf("message (-want +got):\n%s", diff)
			}
		})
	}

	cfg := prefixes()
	c := Merge(&cfg, []Listing{{Backend: "a", Listed: true,
		Prompts:   []Definition{{"p", []byte(`{"arguments":[{"name":"pr","required":true}, {"name":"x"}],"name": "p"}`)}},
		Resources: []Definition{{"r://1", []byte(`{ "uri":"r:\/\/1" ,"name":"r" }`)}}}})
	if got, want := string(c.Items(mcpwire.ItemPrompt)[0].Raw), `{"arguments":[{"name":"pr","required":true}, {"name":"x"}],"name": "a_p"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	want := []*gatewayv1.Argument{{Name: "pr", Types: []string{"string"}}, {Name: "x", Types: []string{"string"}}}
	if diff := cmp.Diff(want, c.Items(mcpwire.ItemPrompt)[0].Wire.Arguments, protocmp.Transform()); diff != "" {
		t.Errorf("prompt arguments (-want +got):\n%s", diff)
	}
	if got, want := string(c.Items(mcpwire.ItemResource)[0].Raw), `{ "uri":"r:\/\/1" ,"name":"r" }`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
