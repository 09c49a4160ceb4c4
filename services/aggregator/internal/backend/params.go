package backend

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"vmcp/internal/mcpwire"
)

// schemas are the tools whose arguments are mirrored in headers, by original name.
type schemas map[string][]headerParam

// headerParam mirrors one argument in Mcp-Param-<Name>.
type headerParam struct {
	header string   // canonical
	path   []string // of the property below arguments
	number bool     // of type integer
}

// headerParams reads the x-mcp-header definitions of a tool and refuses a tool in which one is invalid (HV-4).
func headerParams(tool []byte) ([]headerParam, error) {
	if !bytes.Contains(tool, []byte("x-mcp-header")) && !bytes.Contains(tool, []byte(`\u`)) {
		return nil, nil // nearly every tool
	}
	o, err := mcpwire.ParseObject(tool, 0, len(tool))
	if err != nil {
		return nil, err
	}
	var schema any
	dec := json.NewDecoder(bytes.NewReader(o.Raw("inputSchema")))
	dec.UseNumber() // a default of 1e400 is valid JSON and no float64
	if err := dec.Decode(&schema); err != nil {
		return nil, fmt.Errorf("inputSchema: %w", err)
	}
	w := schemaWalk{seen: make(map[string]bool)}
	if err := w.schema(schema, nil, true); err != nil {
		return nil, err
	}
	// The order of a map is not that of the text; headers have none, tests like one.
	slices.SortFunc(w.found, func(a, b headerParam) int { return strings.Compare(a.header, b.header) })
	return w.found, nil
}

type schemaWalk struct {
	seen  map[string]bool // header names in lower case
	found []headerParam
}

// schema walks one JSON schema. direct: it is reached from the root through properties only.
func (w *schemaWalk) schema(v any, path []string, direct bool) error {
	switch v := v.(type) {
	case []any: // of oneOf and the like
		for _, e := range v {
			if err := w.schema(e, nil, false); err != nil {
				return err
			}
		}
	case map[string]any:
		if name, ok := v["x-mcp-header"]; ok {
			if err := w.define(name, v["type"], path, direct); err != nil {
				return err
			}
		}
		for key, sub := range v {
			switch key {
			case "default", "const", "enum", "examples": // values, not schemas
			case "properties", "patternProperties", "$defs", "definitions", "dependentSchemas":
				named, _ := sub.(map[string]any)
				for name, s := range named {
					if err := w.schema(s, append(path[:len(path):len(path)], name), direct && key == "properties"); err != nil {
						return err
					}
				}
			default:
				if err := w.schema(sub, nil, false); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (w *schemaWalk) define(name, kind any, path []string, direct bool) error {
	s, ok := name.(string)
	switch {
	case !ok || !token(s):
		return errors.New("its name is no header token")
	case !direct || len(path) == 0:
		return fmt.Errorf("%s is not reached from the root through properties only", s)
	case kind != "string" && kind != "integer" && kind != "boolean":
		return fmt.Errorf("%s is on no string, integer or boolean", s)
	case w.seen[strings.ToLower(s)]:
		return fmt.Errorf("%s is defined twice", s)
	}
	w.seen[strings.ToLower(s)] = true
	w.found = append(w.found, headerParam{http.CanonicalHeaderKey("Mcp-Param-" + s), path, kind == "integer"})
	return nil
}

// token is RFC 9110 5.6.2.
func token(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return s != ""
}

// paramHeaders adds the Mcp-Param-* of a call to h, by the schema that List last saw (HV-5, HV-7).
func (b *Backend) paramHeaders(h http.Header, tool string, arguments []byte) {
	known := b.schemas.Load()
	if known == nil {
		return
	}
	for _, p := range (*known)[tool] {
		if value, ok := argument(arguments, p.path); ok {
			h[p.header] = []string{value}
		}
	}
}

// argument is the header form of the value at path; false where it is absent, null or no scalar.
func argument(arguments []byte, path []string) (string, bool) {
	raw := arguments
	for _, name := range path {
		o, err := mcpwire.ParseObject(raw, 0, len(raw))
		if err != nil {
			return "", false
		}
		raw = o.Raw(name)
	}
	switch {
	case len(raw) == 0, raw[0] == '{', raw[0] == '[', string(raw) == "null":
		return "", false
	case raw[0] == '"':
		s, ok := mcpwire.Unquote(raw)
		return mcpwire.EncodeHeader(s), ok
	case raw[0] == 't', raw[0] == 'f':
		return string(raw), true
	}
	if f, err := strconv.ParseFloat(string(raw), 64); err == nil && f == float64(int64(f)) && bytes.ContainsAny(raw, ".eE") {
		return strconv.FormatInt(int64(f), 10), true // 42.0 is the integer 42
	}
	return string(raw), true
}
