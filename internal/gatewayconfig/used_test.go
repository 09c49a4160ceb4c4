package gatewayconfig

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"vmcp/api/v1beta1"
)

// A field in the table used must be read: each is changed in turn in testdata/used, and some result must change with it.
// So whoever stops reading a field, or names one too many, hears of it here.
func TestUsedFieldsMatter(t *testing.T) {
	files, err := filepath.Glob("testdata/used/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	matters := map[string]bool{} // by kind and pattern; false: only seen
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text := string(data)
		before := outcome(t, name, text)
		read := read(Source{Paths: []string{name}})
		for _, d := range read.documents {
			for _, f := range d.fields {
				i := slices.IndexFunc(used[d.kind], func(u string) bool { return u == f.pattern || below(f.pattern, u) })
				if i < 0 || f.node.Kind != yaml.ScalarNode {
					continue
				}
				key := d.kind + " " + used[d.kind][i]
				changed := change(text, f.node)
				if changed == text {
					t.Fatalf("%s:%d: %s is not changed", name, f.line, f.path)
				}
				matters[key] = matters[key] || outcome(t, name, changed) != before
			}
		}
		if strings.Contains(text, "cedarv1") { // JSON inside YAML: by hand
			for _, c := range [][3]string{
				{"version", `"1.0"`, `"3"`}, {"type", `"cedarv1"`, `"x"`}, {"cedar.policies[]", `["permit`, `["forbid`},
				{"cedar.entities_json", `_json": "[]"`, `_json": "[1]"`}, {"cedar.group_claim_name", `"groups"`, `"g"`},
				{"cedar.role_claim_name", `"roles"`, `"r"`}, {"cedar.group_entity_type", `"Team"`, `"Gang"`},
			} {
				matters[cedarV1+" "+c[0]] = outcome(t, name, strings.Replace(text, c[1], c[2], 1)) != before
			}
		}
	}
	for kind, list := range used {
		for _, pattern := range list {
			if dependent, seen := matters[kind+" "+pattern]; !seen {
				t.Errorf("testdata/used has no %s %s", kind, pattern)
			} else if !dependent {
				t.Errorf("%s %s is said to be used, and nothing depends on it", kind, pattern)
			}
		}
	}
}

// outcome is what Load makes of text, without line numbers.
func outcome(t *testing.T, name, text string) string {
	t.Helper()
	r := &reading{skipped: map[string]bool{}}
	r.file(name, []byte(text))
	gateway, err := resolve(r, Source{Parts: PartAll})
	if err != nil {
		return err.Error()
	}
	g := *gateway
	g.Authz.Policies.Texts = slices.Clone(g.Authz.Policies.Texts)
	for i := range g.Authz.Policies.Texts {
		g.Authz.Policies.Texts[i].Line = 0
	}
	return dump(t, &g)
}

// change replaces the scalar n in text by another one of its type.
func change(text string, n *yaml.Node) string {
	lines := strings.SplitAfter(text, "\n")
	i, from, to := n.Line-1, n.Value, "other"+n.Value
	if isBlock(n) {
		i++
		from = strings.Split(n.Value, "\n")[0]
		to = "other" + from
	}
	switch n.ShortTag() {
	case "!!bool":
		to = strconv.FormatBool(n.Value != "true")
	case "!!int":
		to = n.Value + "1"
	default:
		if strings.HasSuffix(from, "s") && strings.Trim(from, "0123456789s") == "" {
			to = "1" + from // a duration
		}
	}
	lines[i] = lines[i][:min(n.Column-1, len(lines[i]))] + strings.Replace(lines[i][min(n.Column-1, len(lines[i])):], from, to, 1)
	if isBlock(n) {
		lines[i] = strings.Replace(strings.Split(text, "\n")[i], from, to, 1) + "\n"
	}
	return strings.Join(lines, "")
}

// Every pattern in used, silent and whyUnused is a field of its kind, or it would be dead text.
func TestUsedFieldsExist(t *testing.T) {
	types := map[string]reflect.Type{cedarV1: reflect.TypeFor[v1beta1.CedarV1]()}
	for kind, object := range ours {
		types[kind] = reflect.TypeOf(object()).Elem()
	}
	for kind, object := range core {
		types[kind] = reflect.TypeOf(object()).Elem()
	}
	check := func(kind, pattern string) {
		typ := types[kind]
		for step := range strings.SplitSeq(strings.ReplaceAll(pattern, "[]", ".[]"), ".") {
			for typ != nil && typ.Kind() == reflect.Pointer {
				typ = typ.Elem()
			}
			switch {
			case typ == nil:
			case (step == "*" && typ.Kind() == reflect.Map) || (step == "[]" && typ.Kind() == reflect.Slice):
				typ = typ.Elem()
			case typ.Kind() == reflect.Struct && fieldsOf(typ)[step] != nil:
				typ = typ.FieldByIndex(fieldsOf(typ)[step]).Type
			default:
				typ = nil
			}
		}
		if typ == nil {
			t.Errorf("%s has no field %s", kind, pattern)
		}
	}
	for kind, list := range used {
		for _, pattern := range list {
			check(kind, pattern)
		}
	}
	for key := range whyUnused {
		kind, pattern, _ := strings.Cut(key, ".")
		check(kind, pattern)
		if isOneOf(used[kind], pattern) {
			t.Errorf("%s is used after all", key)
		}
	}
	if len(types) != len(used) {
		t.Errorf("%d kinds are read, %d are in the table of used fields", len(types), len(used))
	}
}
