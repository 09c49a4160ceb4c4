package backend

import (
	"fmt"
	"testing"
)

// TestHeaderParams: which x-mcp-header definitions are valid (HV-4); one invalid drops the tool.
func TestHeaderParams(t *testing.T) {
	for schema, want := range map[string]string{
		`{"type":"object"}`: "[]",
		`{"properties":{"a":{"type":"string","x-mcp-header":"Region"}}}`:                                                            "[{Mcp-Param-Region [a] false}]",
		`{"properties":{"a":{"properties":{"b":{"type":"integer","x-mcp-header":"n"}}},"c":{"type":"boolean","x-mcp-header":"m"}}}`: "[{Mcp-Param-M [c] false} {Mcp-Param-N [a b] true}]",
		`{"properties":{"a":{"type":"string","\u0078-mcp-header":"R"}}}`:                                                            "[{Mcp-Param-R [a] false}]",
		`{"properties":{"x-mcp-header":{"type":"number"}}}`:                                                                         "[]", // a property of that name
		`{"properties":{"a":{"default":{"x-mcp-header":"R"}}}}`:                                                                     "[]", // a value
		`{"properties":{"a":{"type":"number","x-mcp-header":"R"}}}`:                                                                 "invalid",
		`{"properties":{"a":{"type":["string","null"],"x-mcp-header":"R"}}}`:                                                        "invalid",
		`{"properties":{"a":{"type":"string","x-mcp-header":""}}}`:                                                                  "invalid",
		`{"properties":{"a":{"type":"string","x-mcp-header":"a b"}}}`:                                                               "invalid",
		`{"properties":{"a":{"type":"string","x-mcp-header":1}}}`:                                                                   "invalid",
		`{"properties":{"a":{"type":"string","x-mcp-header":"R"},"b":{"type":"string","x-mcp-header":"r"}}}`:                        "invalid",
		`{"type":"string","x-mcp-header":"R"}`:                                                                                      "invalid",
		`{"properties":{"a":{"items":{"type":"string","x-mcp-header":"R"}}}}`:                                                       "invalid",
		`{"properties":{"a":{"items":{"properties":{"b":{"type":"string","x-mcp-header":"R"}}}}}}`:                                  "invalid",
		`{"oneOf":[{"properties":{"a":{"type":"string","x-mcp-header":"R"}}}]}`:                                                     "invalid",
		`{"$defs":{"a":{"type":"string","x-mcp-header":"R"}}}`:                                                                      "invalid",
		`{"if":{"properties":{"a":{"type":"string","x-mcp-header":"R"}}}}`:                                                          "invalid",
	} {
		params, err := headerParams([]byte(`{"name":"t","inputSchema":` + schema + `}`))
		got := fmt.Sprint(params)
		if err != nil {
			got = "invalid"
		}
		if got != want {
			t.Errorf("%s: got %s (%v), want %s", schema, got, err, want)
		}
	}
}

func TestArgument(t *testing.T) {
	const arguments = `{"s":"a","e":"","u":"é","i":42,"f":42.0,"x":4.2e1,"big":9007199254740993,"t":true,"n":null,"o":{"k":"v"},"l":[]}`
	for path, want := range map[string]string{
		"s": "a true", "e": " true", "u": "=?base64?w6k=?= true", "i": "42 true", "f": "42 true", "x": "42 true",
		"big": "9007199254740993 true", "t": "true true", "n": " false", "o": " false", "l": " false", "none": " false",
	} {
		value, ok := argument([]byte(arguments), []string{path})
		if got := fmt.Sprint(value, " ", ok); got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
	if value, ok := argument([]byte(arguments), []string{"o", "k"}); value != "v" || !ok {
		t.Errorf("nested: %q, %v", value, ok)
	}
}
