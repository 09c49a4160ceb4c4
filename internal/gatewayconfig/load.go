package gatewayconfig

import (
	"fmt"
	"slices"
	"strings"

	"vmcp/api/v1beta1"
)

// Load reads the documents of src and resolves them into one gateway. Its error is of type Problems and has all of them.
func Load(src Source) (*Gateway, error) {
	return resolve(read(src), src)
}

// Read decodes one object of ours, whatever it refers to: a pointer to its type. Its error is of type Problems.
func Read(o Object) (any, error) {
	r := read(Source{Objects: []Object{o}})
	problems := r.problems
	for _, d := range r.documents {
		problems = append(problems, d.problems...)
	}
	if len(problems) == 0 && len(r.documents) != 1 {
		problems = Problems{{File: o.Name, Text: "not a document of ours"}}
	}
	if len(problems) > 0 {
		return nil, problems.sorted()
	}
	return r.documents[0].object, nil
}

func resolve(read *reading, src Source) (*Gateway, error) {
	r := &resolver{src: src, docs: read.documents, notes: read.notes, problems: read.problems,
		noted: map[string]bool{}, gateway: &Gateway{}}
	if !read.broken { // else most references would only seem to dangle
		r.resolve()
	}
	problems := r.problems
	for _, d := range r.docs {
		problems = append(problems, d.problems...)
	}
	if len(problems) > 0 {
		return nil, problems.sorted()
	}
	r.gateway.Notes = r.notes
	return r.gateway, nil
}

// A resolver makes a gateway from documents. Its methods report problems and carry on with zero values.
type resolver struct {
	src       Source
	docs      []*document
	problems  Problems // of no single document
	notes     []Note
	noted     map[string]bool // unused fields that have a note
	unchecked bool            // a secret's existence was not checked

	server  *document // the VirtualMCPServer
	spec    *v1beta1.VirtualMCPServerSpec
	gateway *Gateway
}

func (r *resolver) resolve() {
	if r.server = r.pick(); r.server == nil {
		return
	}
	r.reach(r.server)
	r.spec = &r.server.object.(*v1beta1.VirtualMCPServer).Spec
	r.gateway.Name = r.server.name

	backends := r.members()
	r.incoming()
	r.authServer()
	r.backends(backends)
	r.aggregation()

	for _, d := range r.docs {
		if files := &r.gateway.Aggregator.SecretFiles; d.kind == "Secret" && !slices.Contains(*files, d.file) {
			*files = append(*files, d.file)
		}
		if d.reached {
			if src := r.src; src.Objects != nil {
				r.gateway.Uses = append(r.gateway.Uses, Use{d.kind, d.name, d.keys})
			}
			r.noteUnused(d)
			continue
		}
		r.notes = append(r.notes, Note{d.file, d.line, "",
			fmt.Sprintf("%s %s is not used by VirtualMCPServer %s", d.kind, d.name, r.server.name)})
	}
	if r.unchecked && r.src.Parts == 0 {
		r.note(r.server, "", "secrets were not checked: there is neither a Secret document nor a secrets directory")
	}
}

// pick finds the VirtualMCPServer to run.
func (r *resolver) pick() *document {
	var all, found []*document
	for _, d := range r.docs {
		if d.kind == "VirtualMCPServer" {
			all = append(all, d)
			if r.src.Name == "" || d.name == r.src.Name {
				found = append(found, d)
			}
		}
	}
	fail := func(format string, args ...any) *document {
		r.problems = append(r.problems, Problem{Text: fmt.Sprintf(format, args...)})
		return nil
	}
	names := strings.Join(r.names("VirtualMCPServer"), ", ")
	switch {
	case len(found) == 1:
		return found[0]
	case len(all) == 0:
		return fail("no VirtualMCPServer in the files")
	case len(found) == 0:
		return fail("no VirtualMCPServer %q in the files; there is %s", r.src.Name, names)
	case r.src.Name == "":
		return fail("several VirtualMCPServers in the files, name one of them: %s", names)
	}
	return fail("VirtualMCPServer %q is in the files several times", r.src.Name)
}

// place is where documents are looked for.
func (s Source) place() string {
	if s.Objects != nil {
		return "namespace"
	}
	return "files"
}

// names lists the documents of a kind, in order.
func (r *resolver) names(kind string) []string {
	var names []string
	for _, d := range r.docs {
		if d.kind == kind {
			names = append(names, d.name)
		}
	}
	return names
}

// lookup finds what a reference in from names, or nil.
func (r *resolver) lookup(kind, name string, from *document) *document {
	i := slices.IndexFunc(r.docs, func(d *document) bool {
		return d.kind == kind && d.name == name && sameNamespace(d.namespace, from.namespace)
	})
	if i >= 0 {
		return r.docs[i]
	}
	if core[kind] == nil || r.src.Lookup == nil {
		return nil
	}
	return r.fetch(kind, name, from)
}

// fetch reads a Secret or ConfigMap from where the objects are.
func (r *resolver) fetch(kind, name string, from *document) *document {
	object, err := r.src.Lookup(kind, from.namespace, name)
	if err != nil {
		r.problems = append(r.problems, Problem{Text: fmt.Sprintf("reading %s %s: %v", kind, name, err)})
	}
	if err != nil || object == nil {
		return nil
	}
	found := &reading{skipped: map[string]bool{}, stored: true}
	found.file(object.Name, object.YAML)
	r.problems = append(r.problems, found.problems...)
	if len(found.documents) != 1 || found.documents[0].kind != kind {
		return nil
	}
	r.docs = append(r.docs, found.documents[0])
	return found.documents[0]
}

// refer finds what the reference in field at of d names, or reports that there is none.
func (r *resolver) refer(d *document, at, kind, name string) *document {
	if name == "" {
		d.bad(at, "required")
		return nil
	}
	if found := r.lookup(kind, name, d); found != nil {
		r.reach(found)
		return found
	}
	d.bad(at, "no %s %q in the %s%s", kind, name, r.src.place(), didYouMean(name, r.names(kind)))
	return nil
}

// reach marks a document as part of the gateway. From here on its placeholders matter.
func (r *resolver) reach(d *document) {
	if !d.reached {
		d.reached = true
		findPlaceholders(d)
	}
}

func (r *resolver) note(d *document, at, format string, args ...any) {
	r.notes = append(r.notes, Note{d.file, d.at(at).line, at, fmt.Sprintf(format, args...)})
}

// oneOf checks a field with fixed values and returns it, or def where it is empty.
func oneOf(d *document, at, value, def string, values ...string) string {
	if value == "" {
		if def == "" {
			d.bad(at, "required: %s", orList(values))
		}
		return def
	}
	if !slices.Contains(values, value) {
		d.bad(at, "want %s%s", orList(values), didYouMean(value, values))
		return def
	}
	return value
}

func orList(values []string) string {
	last := len(values) - 1
	if last == 0 {
		return values[0]
	}
	return strings.Join(values[:last], ", ") + " or " + values[last]
}
