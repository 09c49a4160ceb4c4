package gatewayconfig

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"vmcp/api/v1beta1"
)

// A reading is what the files hold, before references are resolved.
type reading struct {
	documents []*document // of known kinds, in the order they were read
	notes     []Note
	problems  Problems
	broken    bool // a file could not be read to its end, so what is missing may only be unread
	skipped   map[string]bool
	stored    bool // by an API server, which checked what the version allows
}

// read decodes all documents of all files, or the objects.
func read(src Source) *reading {
	r := &reading{skipped: map[string]bool{}, stored: src.Objects != nil}
	if r.stored {
		for _, o := range src.Objects {
			r.file(o.Name, o.YAML)
		}
		r.duplicates()
		return r
	}
	files, problems := listFiles(src.Paths)
	r.problems, r.broken = problems, len(problems) > 0
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			r.broken = true
			r.problems = append(r.problems, Problem{File: name, Text: "reading: " + reason(err)})
			continue
		}
		r.file(name, data)
	}
	r.duplicates()
	return r
}

// listFiles names the files to read: those given, and *.yaml and *.yml of directories given, each once.
func listFiles(paths []string) (files []string, problems Problems) {
	if len(paths) == 0 {
		return nil, Problems{{Text: "no file or directory given"}}
	}
	seen := map[string]bool{}
	add := func(name string) {
		if key, err := filepath.Abs(name); err == nil && !seen[key] {
			seen[key] = true
			files = append(files, name)
		}
	}
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			problems = append(problems, Problem{File: path, Text: "reading: " + reason(err)})
			continue
		}
		if !info.IsDir() {
			add(path)
			continue
		}
		entries, err := os.ReadDir(path) // in name order
		if err != nil {
			problems = append(problems, Problem{File: path, Text: "reading: " + reason(err)})
			continue
		}
		before := len(files)
		for _, e := range entries {
			if isYAML(e.Name()) {
				add(filepath.Join(path, e.Name()))
			}
		}
		if len(files) == before {
			problems = append(problems, Problem{File: path, Text: "no *.yaml or *.yml file in this directory"})
		}
	}
	return files, problems
}

func isYAML(name string) bool {
	ext := filepath.Ext(name)
	return (ext == ".yaml" || ext == ".yml") && !strings.HasPrefix(name, ".")
}

// reason is an error without the path, which the problem names already.
func reason(err error) string {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// file decodes the documents of one file.
func (r *reading) file(name string, data []byte) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var n yaml.Node
		err := dec.Decode(&n)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			text, line := err.Error(), 0
			if m := yamlLine.FindStringSubmatch(text); m != nil {
				text = text[len(m[0]):]
				line, _ = strconv.Atoi(m[1])
			}
			r.broken = true
			r.problems = append(r.problems, Problem{name, line, "", "not YAML: " + text})
			return
		}
		if n.Kind == yaml.DocumentNode && len(n.Content) == 1 {
			r.document(name, n.Content[0])
		}
	}
}

// document decodes one document, or the items of a List, or skips it with a note.
func (r *reading) document(file string, n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
		return
	}
	bad := func(format string, args ...any) {
		r.problems = append(r.problems, Problem{file, n.Line, "", fmt.Sprintf(format, args...)})
	}
	if n.Kind != yaml.MappingNode {
		bad("not a document with apiVersion, kind, metadata and spec")
		return
	}
	apiVersion, kind := scalarOf(n, "apiVersion"), scalarOf(n, "kind")
	if apiVersion == "" || kind == "" {
		bad("apiVersion or kind is missing")
		return
	}
	group, version, grouped := strings.Cut(apiVersion, "/")
	switch {
	case grouped && group == v1beta1.Group && ours[kind] != nil:
		if !slices.Contains(v1beta1.Versions, version) {
			bad("apiVersion %s is not known; want %s/%s", apiVersion, v1beta1.Group, v1beta1.Versions[0])
			return
		}
		r.decode(file, n, kind, ours[kind](), version == "v1alpha1" || r.stored)
	case grouped && group == v1beta1.Group && slices.Contains(later, kind):
		r.skip(file, n.Line, kind, fmt.Sprintf("kind %s is not supported yet; skipped", kind))
	case grouped && group == v1beta1.Group:
		bad("unknown kind %s%s", kind, didYouMean(kind, append(ourKinds(), later...)))
	case ours[kind] != nil:
		bad("kind %s wants apiVersion %s/%s, not %s", kind, v1beta1.Group, v1beta1.Versions[0], apiVersion)
	case apiVersion == "v1" && kind == "List":
		if items := valueOf(n, "items"); items != nil {
			for _, item := range items.Content {
				r.document(file, item)
			}
		}
	case apiVersion == "v1" && core[kind] != nil:
		r.decode(file, n, kind, core[kind](), false)
	default:
		r.skip(file, n.Line, apiVersion+" "+kind, fmt.Sprintf("kind %s (%s) is not for the gateway; skipped", kind, apiVersion))
	}
}

func (r *reading) skip(file string, line int, key, text string) {
	if !r.skipped[key] {
		r.skipped[key] = true
		r.notes = append(r.notes, Note{file, line, "", text})
	}
}

// decode fills object, a pointer to the type of kind, and remembers where everything is.
func (r *reading) decode(file string, n *yaml.Node, kind string, object any, alpha bool) {
	d := &document{file: file, line: n.Line, kind: kind, object: object, byPath: map[string]*field{}}
	dec := decoder{doc: d, alpha: alpha, active: map[*yaml.Node]bool{}}
	dec.structure(&field{line: n.Line}, n, reflect.ValueOf(object).Elem())
	meta := metaOf(object)
	d.name, d.namespace = meta.Name, meta.Namespace
	switch {
	case d.name == "":
		d.bad("metadata.name", "required")
	case hasPlaceholder(d.name):
		d.bad("metadata.name", "%s", placeholderAdvice(d.name))
	case !validName(kind, d.name):
		d.bad("metadata.name", "want lower-case letters, digits and dashes, beginning and ending with a letter or digit")
	}
	if hasPlaceholder(d.namespace) {
		d.bad("metadata.namespace", "%s", placeholderAdvice(d.namespace))
	}
	r.documents = append(r.documents, d)
}

func metaOf(object any) *v1beta1.ObjectMeta {
	return reflect.ValueOf(object).Elem().FieldByName("Metadata").Addr().Interface().(*v1beta1.ObjectMeta)
}

var (
	dnsLabel     = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	dnsSubdomain = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
)

// validName checks a metadata.name. Names that policies and tool names contain are labels without dots.
func validName(kind, name string) bool {
	if isBackend(kind) || kind == "VirtualMCPServer" {
		return len(name) <= 63 && dnsLabel.MatchString(name)
	}
	return len(name) <= 253 && dnsSubdomain.MatchString(name)
}

func isBackend(kind string) bool {
	return kind == "MCPServer" || kind == "MCPServerEntry" || kind == "MCPRemoteProxy"
}

// duplicates reports documents that say twice what one object is.
func (r *reading) duplicates() {
	for i, d := range r.documents {
		for _, first := range r.documents[:i] {
			if d.name != "" && first.kind == d.kind && first.name == d.name && sameNamespace(first.namespace, d.namespace) {
				d.bad("metadata.name", "a second %s %s; the first is at %s:%d", d.kind, d.name, first.file, first.line)
				break
			}
		}
	}
}

// sameNamespace treats an absent namespace as whichever the other is, as kubectl apply -n does.
func sameNamespace(a, b string) bool { return a == b || a == "" || b == "" }

func valueOf(n *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

func scalarOf(n *yaml.Node, key string) string {
	if v := valueOf(n, key); v != nil && v.Kind == yaml.ScalarNode {
		return v.Value
	}
	return ""
}
