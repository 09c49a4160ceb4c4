package catalog

import (
	"strings"
	"testing"

	"vmcp/internal/gatewayconfig"
	"vmcp/internal/mcpwire"
)

// TestForm: what is repaired, byte for byte, and why what cannot be is left out.
func TestForm(t *testing.T) {
	const tool, prompt, resource, template = mcpwire.ItemTool, mcpwire.ItemPrompt, mcpwire.ItemResource, mcpwire.ItemTemplate
	for _, test := range []struct {
		kind     mcpwire.ItemKind
		in, want string // empty: as it came; ! and a reason: left out
	}{
		{tool, `{ "name":"x", "inputSchema":{"type":"object"},"new":null,"_meta":{"a":null} }`, ""},
		{tool, `{"name":"x"}`, `{"inputSchema":{"type":"object"},"name":"x"}`},
		{tool, `{"name":"x","inputSchema":null}`, `{"inputSchema":{"type":"object"},"name":"x"}`},
		{tool, `{"name":"x","inputSchema":[ ]}`, `{"name":"x","inputSchema":{"type":"object"}}`},
		{tool, `{"name":"x","inputSchema":{"properties":[],"required":null}}`, `{"name":"x","inputSchema":{"type":"object","properties":{}}}`},
		{tool, `{"name":"x","inputSchema":{"type":["null","object"]}}`, `{"name":"x","inputSchema":{"type":"object"}}`},
		{tool, `{"name":"x","inputSchema":{"type":null}}`, `{"name":"x","inputSchema":{"type":"object"}}`},
		{tool, `{"name":"x","inputSchema":{"type":"object","properties":{"a":true,"b":false,"c":null,"d":{"x":null}}}}`,
			`{"name":"x","inputSchema":{"type":"object","properties":{"a":{},"b":{"not":{}},"c":{},"d":{"x":null}}}}`},
		{tool, `{"name":"x","inputSchema":{"type":"object"},"description":5,"title":null,"annotations":null,"outputSchema":null,"icons":null}`,
			`{"name":"x","inputSchema":{"type":"object"},"description":"5"}`},
		{tool, `{"name":"x","inputSchema":{"type":"object"},"annotations":{"readOnlyHint":"true","destructiveHint":false,"title":1}}`,
			`{"name":"x","inputSchema":{"type":"object"},"annotations":{"destructiveHint":false,"title":"1"}}`},
		{tool, `{"name":"x","inputSchema":{"type":"object"},"annotations":["readOnlyHint"],"icons":[{"mimeType":"image/png"}],"_meta":[]}`,
			`{"name":"x","inputSchema":{"type":"object"},"_meta":{}}`},
		{tool, `{"name":"x","inputSchema":{"type":"string"}}`, "!inputSchema is of another type than object"},
		{tool, `{"name":"x","inputSchema":true}`, "!inputSchema is a boolean, not an object"},
		{tool, `{"name":"x","inputSchema":{"type":"object","properties":{"a":"string"}}}`, "!a is a string, not a schema"},
		{tool, `{"name":"x","inputSchema":{"type":"object","required":true}}`, "!required is a boolean, not an array"},
		{tool, `{"name":"x","inputSchema":{"type":"object","required":[["a"]]}}`, "!an element of required is an array, not a string"},
		{tool, `{"name":"x","description":{"en":"a"}}`, "!description is an object, not a string"},
		{tool, `{"name":"x","outputSchema":"none"}`, "!outputSchema is a string, not an object"},
		{tool, `{"name":5}`, "!name is a number, not a string"},
		{tool, `{"name":null}`, "!the definition has no name"},
		{tool, `{"name":"x","name":"y"}`, "!the definition cannot be read"},
		{tool, `{"name":"x","inputSchema":{`, "!the definition cannot be read"},
		{tool, "{\"name\":\"x\",\"d\":\"\xff\"}", "!the definition cannot be read"},
		{tool, `[]`, "!the definition has no name"},
		{tool, ``, "!the definition is empty"},
		{prompt, `{"name":"x","arguments":[{"name":"a","required":true}, {"name":"b"}]}`, ""},
		{prompt, `{"name":"x","arguments":[{"name":"a","required":"yes","description":null},{"name":7}]}`, `{"name":"x","arguments":[{"name":"a"},{"name":"7"}]}`},
		{prompt, `{"name":"x","arguments":{}}`, "!arguments is an object, not an array"},
		{prompt, `{"name":"x","arguments":[{"title":"a"}]}`, "!an element of arguments has no name"},
		{resource, `{"uri":"a:b","name":"b","size":9007199254740993}`, ""},
		{resource, `{"uri":"a:b","size":"9","annotations":{"audience":"user","priority":1}}`, `{"name":"a:b","uri":"a:b","annotations":{"priority":1}}`},
		{resource, `{"uri":"a:b","name":"b","mimeType":["text/plain"]}`, "!mimeType is an array, not a string"},
		{template, `{"uriTemplate":"a:{b}","name":null}`, `{"name":"a:{b}","uriTemplate":"a:{b}"}`},
	} {
		got, err := conform(test.kind, []byte(test.in))
		if reason, out := strings.CutPrefix(test.want, "!"); out {
			if err == nil || !strings.HasPrefix(err.Error(), reason) {
				t.Errorf("%s:\ngot  %s, %v\nwant %s", test.in, got, err, reason)
			}
			continue
		}
		if test.want == "" {
			test.want = test.in
		}
		if err != nil || string(got) != test.want {
			t.Errorf("%s:\ngot  %s, %v\nwant %s", test.in, got, err, test.want)
		}
	}
}

// TestLegacyOutput: clients of 2025 see an output schema only where it is one of an object.
func TestLegacyOutput(t *testing.T) {
	for schema, kept := range map[string]bool{`{"type":"object"}`: true, `{"type":"array"}`: false, `{}`: false, `{"type":["object","null"]}`: false} {
		cfg := prefixes()
		c := Merge(&cfg, []Listing{{Backend: "a", Listed: true, Tools: []Definition{{"x", []byte(`{"name":"x","inputSchema":{"type":"object"},"outputSchema":` + schema + `}`)}}}})
		it := c.Items(mcpwire.ItemTool)[0]
		if !strings.Contains(string(it.Raw), schema) || (it.Legacy == nil) != kept ||
			!kept && string(it.Legacy) != `{"name":"a_x","inputSchema":{"type":"object"}}` {
			t.Errorf("%s: %s, for legacy clients %s", schema, it.Raw, it.Legacy)
		}
	}
}

// TestTaskOnly: a tool that cannot be called in the plain way is left out, with the reason (TK-4).
func TestTaskOnly(t *testing.T) {
	for support, listed := range map[string]bool{`"required"`: false, `"optional"`: true, `"forbidden"`: true, `7`: true} {
		_, _, err := tool([]byte(`{"name":"x","inputSchema":{"type":"object"},"execution":{"taskSupport":`+support+`}}`), "x", gatewayconfig.ToolOverride{})
		if (err == nil) != listed || err != nil && !strings.Contains(err.Error(), "taskSupport") {
			t.Errorf("%s: %v", support, err)
		}
	}
}
