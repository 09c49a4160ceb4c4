package crds

import (
	"bytes"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the definitions anew")

// TestCurrent: what is installed is what the types say.
func TestCurrent(t *testing.T) {
	docs := descriptions(t)
	list, err := os.ReadFile("../../deploy/k8s/operator/kustomization.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range Kinds() {
		want, err := Definition(name, docs)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("../../deploy/k8s/operator/crds", Plural(name)+".yaml")
		if *update {
			if err := os.WriteFile(path, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Contains(list, []byte("- crds/"+filepath.Base(path)+"\n")) {
			t.Errorf("kustomization.yaml does not list %s", filepath.Base(path))
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not current (%v): go test ./api/crds -update", path, err)
		}
	}
	if _, err := Definition("MCPNone", nil); err == nil {
		t.Error("a kind that is none has a definition")
	}
}

// descriptions are the comments of the types and their fields.
func descriptions(t *testing.T) map[string]string {
	docs := map[string]string{}
	files, err := filepath.Glob("../v1beta1/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal("no types", err)
	}
	one := func(groups ...*ast.CommentGroup) string {
		for _, g := range groups {
			if text := strings.Join(strings.Fields(g.Text()), " "); text != "" {
				return text
			}
		}
		return ""
	}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			decl, ok := n.(*ast.GenDecl)
			if !ok || decl.Tok != token.TYPE {
				return true
			}
			for _, s := range decl.Specs {
				spec := s.(*ast.TypeSpec)
				docs[spec.Name.Name] = one(spec.Doc, decl.Doc)
				if st, ok := spec.Type.(*ast.StructType); ok {
					for _, f := range st.Fields.List {
						for _, name := range f.Names {
							docs[spec.Name.Name+"."+name.Name] = one(f.Doc, f.Comment)
						}
					}
				}
			}
			return true
		})
	}
	return docs
}
