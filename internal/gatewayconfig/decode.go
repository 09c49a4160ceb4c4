package gatewayconfig

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxNodes bounds what aliases may expand to.
const maxNodes = 200_000

// A decoder fills a Go value from YAML strictly: unknown and duplicate keys and wrong types are problems of doc, and all
// of them are found. Names are those of the json tags.
type decoder struct {
	doc    *document
	alpha  bool                // v1alpha1: a reference may be a plain name
	nodes  int                 // visited so far
	active map[*yaml.Node]bool // aliases being expanded
}

func (d *decoder) fail(f *field, line int, format string, args ...any) {
	f.failed = true
	d.doc.problems = append(d.doc.problems, Problem{d.doc.file, line, f.path, fmt.Sprintf(format, args...)})
}

func (d *decoder) child(line int, path, pattern string, n *yaml.Node) *field {
	f := &field{path: path, pattern: pattern, line: line, node: n}
	d.doc.fields = append(d.doc.fields, f)
	d.doc.byPath[path] = f
	return f
}

// spend counts one step, and reports once that there are too many.
func (d *decoder) spend(f *field, n *yaml.Node) bool {
	if d.nodes++; d.nodes == maxNodes+1 {
		d.fail(f, n.Line, "the document is too large: its aliases expand to more than %d values", maxNodes)
	}
	return d.nodes <= maxNodes
}

// value decodes n into v, both belonging to field f.
func (d *decoder) value(f *field, n *yaml.Node, v reflect.Value) {
	if !d.spend(f, n) {
		return
	}
	if n.Kind == yaml.AliasNode {
		if n.Alias == nil || d.active[n.Alias] {
			d.fail(f, n.Line, "alias %q contains itself", n.Value)
			return
		}
		d.active[n.Alias] = true
		defer delete(d.active, n.Alias)
		d.value(f, n.Alias, v)
		return
	}
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
		return // as if absent
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		d.text(f, n, u)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.value(f, n, v.Elem())
	case reflect.Struct:
		d.structure(f, n, v)
	case reflect.Map:
		d.mapping(f, n, v)
	case reflect.Slice:
		d.list(f, n, v)
	case reflect.Interface:
		d.anything(f, n, v)
	default:
		d.scalar(f, n, v)
	}
}

func (d *decoder) structure(f *field, n *yaml.Node, v reflect.Value) {
	names := fieldsOf(v.Type())
	if n.Kind != yaml.MappingNode {
		if i, ok := names["name"]; ok && d.alpha && len(names) == 1 && isString(n) {
			v.FieldByIndex(i).SetString(n.Value)
			d.child(f.line, f.path+".name", f.pattern+".name", n)
			return
		}
		d.wrongType(f, n, "an object")
		return
	}
	for _, e := range d.entries(f, n) {
		path, pattern := join(f.path, e.key), join(f.pattern, e.key)
		c := d.child(e.line, path, pattern, e.value)
		index, ok := names[e.key]
		if !ok {
			d.fail(c, e.line, "unknown field%s", d.hint(v.Type(), e.key))
			continue
		}
		d.value(c, e.value, v.FieldByIndex(index))
	}
}

// hint says what an unknown field of t may be: a misspelling, or a field of another block (indentation).
func (d *decoder) hint(t reflect.Type, name string) string {
	var known []string
	for k := range fieldsOf(t) {
		known = append(known, k)
	}
	slices.Sort(known)
	if m := didYouMean(name, known); m != "" {
		return m
	}
	places := placesOf(reflect.TypeOf(d.doc.object).Elem(), name)
	if len(places) == 0 {
		return ""
	}
	if len(places) == 1 && places[0] == "" {
		return "; it belongs to the top of the document (indentation?)"
	}
	if len(places) <= 3 {
		return "; it belongs to " + strings.Join(places, " or ") + " (indentation?)"
	}
	return ""
}

func (d *decoder) mapping(f *field, n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.MappingNode {
		d.wrongType(f, n, "an object")
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for _, e := range d.entries(f, n) {
		c := d.child(e.line, join(f.path, e.key), f.pattern+".*", e.value)
		element := reflect.New(v.Type().Elem()).Elem()
		d.value(c, e.value, element)
		v.SetMapIndex(reflect.ValueOf(e.key), element)
	}
}

func (d *decoder) list(f *field, n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.SequenceNode {
		d.wrongType(f, n, "a list")
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, e := range n.Content {
		c := d.child(e.Line, fmt.Sprintf("%s[%d]", f.path, i), f.pattern+"[]", e)
		if e.Kind == yaml.ScalarNode && e.ShortTag() == "!!null" {
			d.fail(c, e.Line, "empty list entry")
			continue
		}
		d.value(c, e, v.Index(i))
	}
}

// anything decodes free-form YAML, which is checked for duplicate keys only.
func (d *decoder) anything(f *field, n *yaml.Node, v reflect.Value) {
	switch n.Kind {
	case yaml.MappingNode:
		m := reflect.ValueOf(map[string]any{})
		for _, e := range d.entries(f, n) {
			element := reflect.New(v.Type()).Elem()
			d.value(&field{path: join(f.path, e.key), line: e.line}, e.value, element)
			m.SetMapIndex(reflect.ValueOf(e.key), element)
		}
		v.Set(m)
	case yaml.SequenceNode:
		list := make([]any, 0, len(n.Content))
		for i, e := range n.Content {
			element := reflect.New(v.Type()).Elem()
			d.value(&field{path: fmt.Sprintf("%s[%d]", f.path, i), line: e.Line}, e, element)
			list = append(list, element.Interface())
		}
		v.Set(reflect.ValueOf(list))
	default:
		var x any
		if err := n.Decode(&x); err != nil || x == nil {
			d.fail(f, n.Line, "cannot be read as a value")
			return
		}
		v.Set(reflect.ValueOf(x))
	}
}

func (d *decoder) text(f *field, n *yaml.Node, u encoding.TextUnmarshaler) {
	if n.Kind != yaml.ScalarNode {
		d.wrongType(f, n, "text")
		return
	}
	if err := u.UnmarshalText([]byte(n.Value)); err != nil {
		d.fail(f, n.Line, "bad value: %v", err)
	}
}

func (d *decoder) scalar(f *field, n *yaml.Node, v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		if !isString(n) {
			d.wrongType(f, n, "text")
			return
		}
		v.SetString(n.Value)
	case reflect.Bool:
		var b bool
		if n.ShortTag() != "!!bool" || n.Decode(&b) != nil {
			d.wrongType(f, n, "true or false")
			return
		}
		v.SetBool(b)
	case reflect.Int32, reflect.Int64:
		var i int64
		if n.ShortTag() != "!!int" || n.Decode(&i) != nil || v.OverflowInt(i) {
			d.wrongType(f, n, "a whole number")
			return
		}
		v.SetInt(i)
	default:
		panic("gatewayconfig: no rule for fields of type " + v.Type().String())
	}
}

func isString(n *yaml.Node) bool {
	tag := n.ShortTag()
	return n.Kind == yaml.ScalarNode && (tag == "!!str" || tag == "!!timestamp")
}

func (d *decoder) wrongType(f *field, n *yaml.Node, want string) {
	got := n.ShortTag() + " value"
	switch n.ShortTag() {
	case "!!map":
		got = "an object"
	case "!!seq":
		got = "a list"
	case "!!str", "!!timestamp":
		got = "text"
	case "!!int", "!!float":
		got = "a number"
	case "!!bool":
		got = "true or false"
	}
	more := ""
	if want == "text" && n.Kind == yaml.ScalarNode {
		more = " (put it in quotes)"
	}
	d.fail(f, n.Line, "got %s, want %s%s", got, want, more)
}

// An entry is one key of a mapping.
type entry struct {
	key   string
	line  int
	value *yaml.Node
}

// entries lists the keys of a mapping, those of merged mappings (<<) behind its own.
func (d *decoder) entries(f *field, n *yaml.Node) []entry {
	var own, merged []entry
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if !d.spend(f, n) {
			break
		}
		k, v := n.Content[i], n.Content[i+1]
		switch {
		case k.ShortTag() == "!!merge":
			merged = append(merged, d.merged(f, v)...)
		case !isString(k):
			d.fail(f, k.Line, "a key is not text (put it in quotes)")
		case seen[k.Value] != 0:
			d.fail(&field{path: join(f.path, k.Value)}, k.Line, "duplicate key, first given in line %d", seen[k.Value])
		default:
			seen[k.Value] = k.Line
			own = append(own, entry{k.Value, k.Line, v})
		}
	}
	for _, e := range merged {
		if seen[e.key] == 0 {
			seen[e.key] = e.line
			own = append(own, e)
		}
	}
	return own
}

// merged lists the keys of one mapping, or of a list of them, the first ones first.
func (d *decoder) merged(f *field, n *yaml.Node) []entry {
	if !d.spend(f, n) {
		return nil
	}
	switch {
	case n.Kind == yaml.AliasNode && n.Alias != nil && !d.active[n.Alias]:
		d.active[n.Alias] = true
		defer delete(d.active, n.Alias)
		return d.merged(f, n.Alias)
	case n.Kind == yaml.MappingNode:
		return d.entries(f, n)
	case n.Kind == yaml.SequenceNode:
		var all []entry
		for _, c := range n.Content {
			all = append(all, d.merged(f, c)...)
		}
		return all
	}
	d.fail(f, n.Line, "<< wants an alias of an object")
	return nil
}

// fieldsOf lists a struct's fields by json name, embedded ones among them.
func fieldsOf(t reflect.Type) map[string][]int {
	names := map[string][]int{}
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name != "" && !f.Anonymous {
			names[name] = f.Index
		}
	}
	return names
}

// placesOf lists the paths below t of structs that have a field of that name, without those inside of lists and maps.
func placesOf(t reflect.Type, name string) []string {
	var places []string
	var walk func(t reflect.Type, path string)
	walk = func(t reflect.Type, path string) {
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct {
			return
		}
		for k, index := range fieldsOf(t) {
			if k == name {
				places = append(places, path)
			}
			if strings.Count(path, ".") < 5 {
				walk(t.FieldByIndex(index).Type, join(path, k))
			}
		}
	}
	walk(t, "")
	slices.Sort(places)
	return places
}
