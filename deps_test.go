// Package deps_test holds the rules that the compiler cannot: who may import whom, that every package says what it is,
// and how long a file may be. It reads the source tree itself; a test that asks the go command would get a cached pass.
package deps_test

import (
	"bytes"
	"cmp"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A rule says who may import a package and those below it. Folders stand for themselves and all below; "…_test.go"
// lets every test, and a folder followed by " tests" only that folder's tests.
type rule struct {
	pkg string
	may []string
	why string
}

var rules = []rule{
	{pkg: "github.com/cedar-policy/cedar-go", may: []string{"internal/policy"},
		why: "policies are evaluated in one place"},
	{pkg: "github.com/envoyproxy/go-control-plane",
		may: []string{"services/authz", "internal/envoyproc tests"},
		why: "only ext_authz speaks Envoy's protocol"},
	{pkg: "github.com/modelcontextprotocol/go-sdk",
		may: []string{"internal/mcptest", "e2e", "cmd/demo"},
		why: "the gateway forwards messages byte for byte: the SDK would decode and encode them"},
	{pkg: "github.com/ory/fosite", may: []string{"services/authserver/internal/oauth"},
		why: "OAuth is one package's business"},
	{pkg: "vmcp/internal/policy", may: []string{"services/authz", "cmd/vmcp"},
		why: "authz is the only process that decides"},
	{pkg: "vmcp/internal/mcptest", may: []string{"internal/mcptest", "e2e", "…_test.go"},
		why: "a peer for tests"},
	{pkg: "vmcp/internal/token/tokentest", may: []string{"e2e", "bench", "…_test.go"},
		why: "its tokens are anybody's"},
	{pkg: "vmcp/internal/keyring/keyringtest", may: []string{"…_test.go"}, why: "its keys die with the test"},
	{pkg: "vmcp/internal/entrasim", may: []string{"cmd/entrasim", "…_test.go"},
		why: "its accounts are anybody's"},
	{pkg: "vmcp/internal/envoyproc", may: []string{"internal/stack", "e2e", "…_test.go"},
		why: "services do not start Envoy"},
	{pkg: "vmcp/internal/stack", may: []string{"cmd/vmcp", "cmd/demo", "e2e", "bench"},
		why: "services do not start services"},
	{pkg: "vmcp/internal/daemon", may: []string{"services", "cmd/bridge", "cmd/drain", "cmd/vmcp", "cmd/entrasim", "internal/envoyproc tests"},
		why: "it is the surroundings of a program; a library that needs them is none"},
	{pkg: "vmcp/internal/mtls", may: []string{"services", "internal/daemon", "cmd/bridge", "cmd/vmcp", "…_test.go"},
		why: "only our own processes reach each other by it"},
	{pkg: "vmcp/api", may: []string{"api", "internal/gatewayconfig"},
		why: "the kinds are resolved in one place; everybody else reads the result"},
	// Folders that nothing of ours may build on.
	{pkg: "vmcp/cmd", why: "commands are the top"},
	{pkg: "vmcp/e2e", why: "tests are the top"},
	{pkg: "vmcp/bench", why: "measurements are the top"},
	{pkg: "vmcp/services/authz", may: []string{"services/authz"}, why: "services speak over proto/"},
	{pkg: "vmcp/services/aggregator", may: []string{"services/aggregator"}, why: "services speak over proto/"},
	{pkg: "vmcp/services/authserver", may: []string{"services/authserver"}, why: "services speak over proto/"},
}

// An importer is one file and what it imports of the packages that rules are about.
type importer struct {
	file string // slash-separated, from the root
	pkg  string
}

func (i importer) mayBy(allowed string) bool {
	folder, tests := strings.CutSuffix(allowed, " tests")
	switch isTest := strings.HasSuffix(i.file, "_test.go"); {
	case allowed == "…_test.go":
		return isTest
	case tests && !isTest:
		return false
	}
	return below(path.Dir(i.file), folder)
}

// below says whether a path is parent or inside it.
func below(p, parent string) bool { return p == parent || strings.HasPrefix(p, parent+"/") }

func TestImports(t *testing.T) {
	var imports []importer
	for _, f := range source(t) {
		for _, pkg := range f.imports {
			imports = append(imports, importer{f.path, pkg})
		}
	}
	for _, r := range rules {
		if dir, ours := strings.CutPrefix(r.pkg, "vmcp/"); ours {
			if _, err := os.Stat(dir); err != nil {
				t.Errorf("a rule is about what is not there: %v", err)
			}
		}
		used := map[string]bool{}
		for _, i := range imports {
			if !below(i.pkg, r.pkg) {
				continue
			}
			allowed := false
			for _, may := range r.may {
				if i.mayBy(may) {
					allowed, used[may] = true, true
				}
			}
			if !allowed {
				t.Errorf("%s imports %s: %s (allowed: %s)", i.file, i.pkg, r.why, cmp.Or(strings.Join(r.may, ", "), "nobody"))
			}
		}
		for _, may := range r.may {
			if !used[may] {
				t.Errorf("%s may import %s and does not: is the rule out of date?", may, r.pkg)
			}
		}
	}
	for _, i := range imports { // api: fields, defaults and validation, for whoever wants to read our kinds
		if below(i.file, "api") && below(i.pkg, "vmcp") && !below(i.pkg, "vmcp/api") {
			t.Errorf("%s imports %s: api imports nothing of ours", i.file, i.pkg)
		}
	}
}

func TestPackageComments(t *testing.T) {
	says := map[string]bool{} // by folder and package name
	for _, f := range source(t) {
		if f.generated { // what it is stands in the .proto files
			continue
		}
		key := path.Dir(f.path) + " " + strings.TrimSuffix(f.name, "_test")
		says[key] = says[key] || f.doc != ""
		if f.name == "main" && f.doc != "" && !strings.HasPrefix(f.doc, "Command "+path.Base(path.Dir(f.path))+" ") {
			t.Errorf("%s: the comment of a command begins with \"Command %s\"", f.path, path.Base(path.Dir(f.path)))
		}
	}
	for key, ok := range says {
		if dir, name, _ := strings.Cut(key, " "); !ok {
			t.Errorf("%s: package %s has no comment: say what it owns and what it leaves to others", dir, name)
		}
	}
}

// TestLength: a file is one idea. One that is longer than this says "one file" and why before its imports.
func TestLength(t *testing.T) {
	const most = 400
	for _, f := range source(t) {
		if f.lines > most && !f.generated && !strings.Contains(f.head, "one file") {
			t.Errorf("%s: %d lines, at most %d: is it two ideas? If not, say before its imports why it is one file", f.path, f.lines, most)
		}
	}
}

// file is what the rules are about in one Go file.
type file struct {
	path, name, doc string
	head            string // all comments before the imports
	lines           int
	imports         []string
	generated       bool
}

// source reads every Go file of the module.
func source(t *testing.T) []file {
	t.Helper()
	var files []file
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			switch name := d.Name(); {
			case p == ".":
			case strings.HasPrefix(name, "."), name == "testdata", name == "node_modules", name == "bin":
				return filepath.SkipDir
			default:
				if _, err := os.Stat(filepath.Join(p, "go.mod")); err == nil { // another module
					return filepath.SkipDir
				}
			}
			return nil
		}
		if filepath.Ext(p) != ".go" {
			return nil
		}
		text, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), p, text, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		f := file{path: filepath.ToSlash(p), name: parsed.Name.Name, doc: parsed.Doc.Text(), lines: bytes.Count(text, []byte("\n"))}
		f.generated = strings.HasSuffix(p, ".pb.go")
		for _, c := range parsed.Comments {
			if len(parsed.Decls) > 0 && c.Pos() < parsed.Decls[0].Pos() {
				f.head += c.Text()
			}
		}
		for _, spec := range parsed.Imports {
			pkg, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			f.imports = append(f.imports, pkg)
		}
		files = append(files, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
