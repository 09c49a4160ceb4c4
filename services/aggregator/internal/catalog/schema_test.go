package catalog

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	gatewayv1 "vmcp/proto/gateway/v1"
)

// spell writes what is said: a: integer|null {members, *: others} [elements].
func spell(a *gatewayv1.Argument) string {
	parts := []string{}
	if len(a.Types) > 0 {
		parts = append(parts, strings.Join(a.Types, "|"))
	}
	var in []string
	for _, p := range a.Properties {
		in = append(in, strings.TrimSpace(p.Name+": "+spell(p)))
	}
	if a.Additional != nil {
		in = append(in, "*: "+spell(a.Additional))
	}
	if in != nil {
		parts = append(parts, "{"+strings.Join(in, ", ")+"}")
	}
	if a.Items != nil {
		parts = append(parts, "["+spell(a.Items)+"]")
	}
	return strings.Join(parts, " ")
}

// TestSchemas: what is said of arguments, and of what is within them.
func TestSchemas(t *testing.T) {
	deep := `{"type":"string"}`
	for range 9 {
		deep = `{"type":"object","properties":{"a":` + deep + `}}`
	}
	for _, tt := range []struct{ name, schema, want string }{
		{"members", `{"type":"object","properties":{"o":{"type":"object","properties":{"b":{"type":"boolean"},"x":{},"n":{"type":["integer","null"]}}}}}`,
			"{o: object {b: boolean, n: integer|null}}"},
		{"elements", `{"properties":{"l":{"type":"array","items":{"type":"object","properties":{"b":{"type":"boolean"}}}}}}`, "{l: array [object {b: boolean}]}"},
		{"elements one by one", `{"properties":{"l":{"items":[{"type":"string"}]},"m":{"prefixItems":[{"type":"string"}],"items":{"type":"integer"}}}}`, "{l:, m:}"},
		{"other members", `{"properties":{"a":{}},"additionalProperties":{"type":"object","properties":{"x":{},"y":true},"additionalProperties":{"type":"number"}}}`,
			"{a:, *: object {x:, y:, *: number}}"},
		{"other members, or not", `{"additionalProperties":{"type":"boolean"},"patternProperties":{"^x":{"type":"string"}}}`, ""},
		{"no other members", `{"properties":{"a":{"properties":{"x":{"type":"string"}},"additionalProperties":false}}}`, "{a: {x: string}}"},
		{"one of records", `{"properties":{"o":{"anyOf":[{"type":"object","properties":{"x":{"type":"integer"},"y":{"type":"string"}}},
			{"type":"object","properties":{"x":{"type":"string"}}},{"type":"null"}]}}}`, "{o: object|null {x: integer|string}}"},
		{"one of records and others", `{"properties":{"o":{"oneOf":[{"properties":{"x":{"type":"integer"},"y":{}},"additionalProperties":{"type":"null"}},
			{"properties":{"z":{"type":"string"}},"additionalProperties":{"type":"boolean"}}]}}}`, "{o: {x: integer|boolean, y:, z: null|string, *: null|boolean}}"},
		{"a list or its element", `{"properties":{"l":{"anyOf":[{"type":"string"},{"type":"array","items":{"type":"string"}}]},
			"m":{"anyOf":[{"type":"array","items":{"type":"integer"}},{"type":"array","items":{"type":"string"}},{"type":"object","properties":{"k":{"type":"null"}}}]},
			"n":{"anyOf":[{"type":"array","items":{"type":"integer"}},{"type":"array"}]}}}`,
			"{l: string|array [string], m: array|object {k: null} [integer|string], n: array}"},
		{"one of anything", `{"properties":{"o":{"anyOf":[{"properties":{"x":{"type":"integer"}}},true]},"p":{"anyOf":[]}}}`, "{o:, p:}"},
		{"all of", `{"allOf":[{"properties":{"b":{"type":"boolean"},"o":{"properties":{"x":{"type":"string"}}}}},{"additionalProperties":{"type":"integer"}}],
			"properties":{"a":{},"o":{"type":"object"}}}`, "{a: integer, o: object {x: string}, b: boolean, *: integer}"},
		{"beside", `{"properties":{"o":{"type":"object","properties":{"x":{"type":"string"}},"anyOf":[{"properties":{"y":{"type":"string"}}}],"$ref":"#/$defs/z"}},
			"$defs":{"z":{"type":["object","null"],"properties":{"z":{"type":"string"}}}}}`, "{o: object {x: string, y: string, z: string}}"},
		{"pointers", `{"properties":{"a":{"items":{"anyOf":[{"type":"null"},{"type":"boolean"}]}},"b":{"$ref":"#/properties/a/items/anyOf/1"},"c/~":{"type":"integer"},
			"d":{"$ref":"#/properties/c~1~0"},"e":{"$ref":"#name"},"f":{"$ref":"#/properties/a/items/anyOf/2"},"g":{"$ref":"#/nowhere"},"h":{"$ref":"#/properties/a/items/anyOf/-1"}}}`,
			"{a: [null|boolean], b: boolean, c/~: integer, d: integer, e:, f:, g:, h:}"},
		{"itself", `{"properties":{"f":{"$ref":"#/$defs/f"}},"$defs":{"f":{"type":"object","properties":{"not":{"$ref":"#/$defs/f"},"b":{"type":"boolean"}}}}}`,
			"{f: " + strings.Repeat("object {not: ", 7) + "object" + strings.Repeat(", b: boolean}", 7) + "}"},
		{"nothing but itself", `{"properties":{"f":{"$ref":"#/properties/f"},"b":{"type":"boolean"}}}`, "{f:, b: boolean}"},
		{"too deep", deep, "{a: " + strings.Repeat("object {a: ", 7) + "object" + strings.Repeat("}", 8)},
		{"no object", `{"properties":[]}`, ""},
		{"no schema", `{"properties":{"a":[],"b":5,"c":{"type":"string","type":"integer"}}`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := &gatewayv1.Argument{}
			a.Properties, a.Additional = arguments([]byte(tt.schema))
			if got := spell(a); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// TestSchemaBounds: what is too much to say within arguments leaves what is said of them.
func TestSchemaBounds(t *testing.T) {
	many := map[string]string{}
	for i := range 600 {
		many[fmt.Sprint("p", i)] = `{"type":"object","properties":{"x":{"type":"boolean"}}}`
	}
	object := func(m map[string]string) string {
		var all []string
		for _, name := range slices.Sorted(maps.Keys(m)) {
			all = append(all, fmt.Sprintf("%q:%s", name, m[name]))
		}
		return `{"properties":{` + strings.Join(all, ",") + `}}`
	}
	long := object(map[string]string{strings.Repeat("n", 4000): `{"type":"string"}`})
	for _, tt := range []struct{ name, schema, first string }{
		{"many", object(many), "object"},
		{"long names", object(map[string]string{"a": `{"type":"object","properties":{"x":` + long + `,"y":` + long + `,"z":` + long + `}}`}), "object"},
		{"itself, many times", `{"properties":{"f":{"$ref":"#"},"g":{"$ref":"#"},"h":{"$ref":"#"},"i":{"$ref":"#"},"j":{"$ref":"#"},"b":{"type":"boolean"}}}`,
			"{f: {b: boolean}, g: {b: boolean}, h: {b: boolean}, i: {b: boolean}, j: {b: boolean}, b: boolean}"},
		{"itself, with long texts", `{"properties":{"f":{"$ref":"#"},"b":{"type":"boolean","description":"` + strings.Repeat("d", 20_000) + `"}}}`,
			"{f: {b: boolean}, b: boolean}"},
		{"an endless loop", `{"properties":{"a":{"type":"object","allOf":[{"$ref":"#"},{"$ref":"#"}]}},"allOf":[{"$ref":"#"},{"$ref":"#"}]}`, ""},
	} {
		named, _ := arguments([]byte(tt.schema))
		if got := spell(named[0]); got != tt.first {
			t.Errorf("%s: the first is %q, want %q", tt.name, got, tt.first)
		}
		if size := proto.Size(&gatewayv1.Item{Arguments: named}); size > 16<<10 {
			t.Errorf("%s: %d bytes", tt.name, size)
		}
	}
}
