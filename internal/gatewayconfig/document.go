package gatewayconfig

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A document is one YAML document of a known kind, decoded, with the position of each of its fields.
type document struct {
	file            string
	line            int // of its first key
	kind            string
	name, namespace string
	object          any // pointer to the kind's type

	fields   []*field          // every field present, in the order of the file
	byPath   map[string]*field // by concrete path
	problems Problems
	reached  bool            // the gateway is made from it
	keys     map[string]Part // of a Secret: which are read, and by whom
}

// A field is one mapping entry or list element of a document.
type field struct {
	path    string // spec.upstreamProviders[0].name
	pattern string // spec.upstreamProviders[].name; keys of maps are *
	line    int    // of its key
	node    *yaml.Node
	failed  bool // has a problem already
}

// at finds a field, or where it would be: the nearest of its parents that is present.
func (d *document) at(path string) *field {
	for path != "" {
		if f := d.byPath[path]; f != nil {
			return f
		}
		path = parentPath(path)
	}
	return &field{line: d.line}
}

// parentPath cuts the last step off: .name, [0] or ["key"].
func parentPath(path string) string {
	if strings.HasSuffix(path, `"]`) {
		if i := strings.LastIndex(path, `["`); i >= 0 {
			return path[:i]
		}
	}
	return path[:max(strings.LastIndexByte(path, '.'), strings.LastIndexByte(path, '['), 0)]
}

// bad adds a problem, unless the field or a parent of it has one already.
func (d *document) bad(path, format string, args ...any) {
	for p := path; p != ""; p = parentPath(p) {
		if f := d.byPath[p]; f != nil && f.failed {
			return
		}
	}
	f := d.at(path)
	if f.path == path {
		f.failed = true
	}
	d.problems = append(d.problems, Problem{d.file, f.line, path, fmt.Sprintf(format, args...)})
}

// join appends a key to a path, quoted where it is no plain name.
func join(path, key string) string {
	if strings.ContainsAny(key, `.[]"/ `) || key == "" {
		return path + "[" + strconv.Quote(key) + "]"
	}
	if path == "" {
		return key
	}
	return path + "." + key
}
