package deps_test

import (
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// What files cite must be there to read: ids of rules and threats, documents with their sections, files, tests.

var (
	ruleID     = regexp.MustCompile(`\b[A-Z]{2}-\d{1,2}\b`)
	threatID   = regexp.MustCompile(`\bT\d{2}\b`)
	row        = regexp.MustCompile("(?m)^\\| `?([^ |`]+)`? \\|")
	document   = regexp.MustCompile(`[\w./-]*\b\w[\w-]*\.md\b(#[\w-]+)?`)
	link       = regexp.MustCompile(`\]\(([^)\s]+)\)|(?m)^\[[^\]]+\]: (\S+)$`)
	quoted     = regexp.MustCompile("`([\\w.-]+(?:/[\\w.-]+)+|[\\w-]+\\.(?:go|md))`")
	fence      = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	heading    = regexp.MustCompile(`(?m)^#+ (.+)$`)
	testName   = regexp.MustCompile("`(?:([\\w/]+)\\.)?((?:Test|Fuzz)\\w+)`")
	annotation = regexp.MustCompile(`"(vmcp/[a-z-]+)"`)
	testFunc   = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
)

// texts reads every file that people write, by its path from the root.
func texts(t *testing.T) map[string]string {
	t.Helper()
	kinds := []string{".go", ".md", ".yaml", ".yml", ".proto", ".sh", ".txtar", ".mjs", ".html", ".sql", ".Dockerfile", ".gitignore"}
	found := map[string]string{}
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			hidden := strings.HasPrefix(name, ".") && !slices.Contains([]string{".", ".ci", ".github"}, name)
			if hidden || slices.Contains([]string{"node_modules", "third_party", "bin", "fuzz"}, name) && p != "tools/fuzz" {
				return filepath.SkipDir
			}
			return nil
		}
		script := filepath.Ext(p) == "" && !strings.Contains(p, "testdata")
		if script || slices.Contains(kinds, filepath.Ext(p)) {
			content, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			found[filepath.ToSlash(p)] = string(content)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// listed are the first cells of a document's tables.
func listed(text string) map[string]bool {
	ids := map[string]bool{}
	for _, m := range row.FindAllStringSubmatch(text, -1) {
		ids[m[1]] = true
	}
	return ids
}

func TestCitedIDs(t *testing.T) {
	files := texts(t)
	for doc, id := range map[string]*regexp.Regexp{"docs/rules.md": ruleID, "docs/threats.md": threatID} {
		ids := listed(files[doc])
		if len(ids) < 40 {
			t.Fatalf("%s: %d ids read", doc, len(ids))
		}
		for _, p := range slices.Sorted(maps.Keys(files)) {
			for i, line := range strings.Split(files[p], "\n") {
				for _, cited := range id.FindAllString(line, -1) {
					if !ids[cited] {
						t.Errorf("%s:%d: %s is not listed in %s", p, i+1, cited, doc)
					}
				}
			}
		}
	}
}

// TestCitedDocuments: a path that ends in .md, with or without a section, names a file from the root or beside the one
// that names it.
func TestCitedDocuments(t *testing.T) {
	files := texts(t)
	for _, p := range slices.Sorted(maps.Keys(files)) {
		if strings.HasPrefix(p, "citations_test") {
			continue
		}
		for i, line := range strings.Split(files[p], "\n") {
			for _, cited := range document.FindAllString(line, -1) {
				if strings.Contains(cited, "//") { // of the web
					continue
				}
				at, section, _ := strings.Cut(cited, "#")
				text, ok := files[path.Clean(at)]
				if !ok {
					text, ok = files[path.Join(path.Dir(p), at)]
				}
				switch {
				case !ok:
					t.Errorf("%s:%d cites %s, which is not in this repository", p, i+1, cited)
				case section != "" && !anchors(text)[section]:
					t.Errorf("%s:%d cites %s, which has no such section", p, i+1, cited)
				}
			}
		}
	}
}

// anchors are the names that a code host gives to the headings of a document.
func anchors(text string) map[string]bool {
	names := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		names[strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case strings.ContainsRune("-_", r) || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r > 127:
				return r
			}
			return -1
		}, strings.ToLower(m[1]))] = true
	}
	return names
}

func TestLinks(t *testing.T) {
	for p, text := range texts(t) {
		if path.Ext(p) != ".md" {
			continue
		}
		for _, m := range link.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
			to := m[1] + m[2]
			if strings.Contains(to, "://") || strings.HasPrefix(to, "mailto:") {
				continue
			}
			at, section, _ := strings.Cut(to, "#")
			target := p
			if at != "" {
				target = path.Join(path.Dir(p), at)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: the link %s leads nowhere", p, to)
			} else if section != "" {
				there, err := os.ReadFile(target)
				if err != nil {
					t.Fatal(err)
				}
				if !anchors(string(there))[section] {
					t.Errorf("%s: the link %s leads to no section", p, to)
				}
			}
		}
	}
}

// TestCitedFiles: what documents print as a path of this repository is one. A path may be short of its first folders.
func TestCitedFiles(t *testing.T) {
	files := texts(t)
	ours := map[string]bool{}
	for p := range files {
		for ; p != "."; p = path.Dir(p) {
			ours[p] = true
		}
	}
	top, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	known := func(cited string) bool {
		for p := range ours {
			if p == cited || strings.HasSuffix(p, "/"+cited) {
				return true
			}
		}
		return false
	}
	for p, text := range files {
		if path.Ext(p) != ".md" {
			continue
		}
		for _, m := range quoted.FindAllStringSubmatch(text, -1) {
			cited := m[1]
			first, _, _ := strings.Cut(cited, "/")
			fromTop := slices.ContainsFunc(top, func(e fs.DirEntry) bool { return e.Name() == first })
			method := first == "tools" && slices.Contains([]string{"tools/list", "tools/call"}, cited)
			if method || first == "bin" || first == ".run" || !fromTop && path.Ext(cited) != ".go" {
				continue
			}
			if _, err := os.Stat(cited); err != nil && !known(cited) && !testName.MatchString(m[0]) {
				t.Errorf("%s: there is no %s", p, cited)
			}
		}
	}
}

// TestMapOfPackages: each package has its line in the map, and each line its package.
func TestMapOfPackages(t *testing.T) {
	const doc = "docs/architecture.md"
	_, section, ok := strings.Cut(texts(t)[doc], "\n## Map of packages\n")
	if !ok {
		t.Fatalf("%s has no section \"Map of packages\"", doc)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	rows := listed(section)
	packages := map[string]bool{}
	for _, f := range source(t) {
		if dir := path.Dir(f.path); dir != "." {
			packages[dir] = true
		}
	}
	for dir := range packages {
		if !rows[dir] {
			t.Errorf("%s: the map of packages has no line for %s: say in one what it owns", doc, dir)
		}
	}
	for dir := range rows {
		if !packages[dir] && dir != "package" && dir != "---" {
			t.Errorf("%s: the map of packages names %s, which is no package", doc, dir)
		}
	}
}

// TestThreatsAreHeld: the tests that docs/threats.md names are there.
func TestThreatsAreHeld(t *testing.T) {
	files := texts(t)
	tests := map[string]map[string]bool{} // by name: the folders
	for p, text := range files {
		for _, m := range testFunc.FindAllStringSubmatch(text, -1) {
			if tests[m[1]] == nil {
				tests[m[1]] = map[string]bool{}
			}
			tests[m[1]][path.Dir(p)] = true
		}
	}
	for _, m := range testName.FindAllStringSubmatch(files["docs/threats.md"], -1) {
		if folder, name := m[1], m[2]; len(tests[name]) == 0 || folder != "" && !tests[name][folder] {
			t.Errorf("docs/threats.md names %s, which is no test", m[0])
		}
	}
}

// TestDecisions: each has a number of its own, and says it in its heading.
func TestDecisions(t *testing.T) {
	names, err := filepath.Glob("docs/decisions/*.md")
	if err != nil || len(names) == 0 {
		t.Fatalf("no decisions: %v", err)
	}
	taken := map[string]string{}
	for _, name := range names {
		number, _, _ := strings.Cut(filepath.Base(name), "-")
		if taken[number] != "" {
			t.Errorf("%s and %s have one number: take the next free one", taken[number], name)
		}
		taken[number] = name
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if want := "# " + strings.TrimLeft(number, "0") + ". "; !strings.HasPrefix(string(text), want) {
			t.Errorf("%s does not begin with %q", name, want)
		}
		for _, part := range []string{"**Decided.** ", "**Why.** "} {
			if !strings.Contains(string(text), "\n"+part) {
				t.Errorf("%s has no paragraph that begins with %s", name, part)
			}
		}
	}
}

// TestIndex: docs/index.md leads to every page, and docs/settings.md has every annotation that the documents may carry.
func TestIndex(t *testing.T) {
	files := texts(t)
	for p := range files {
		if dir, name := path.Split(p); dir == "docs/" && name != "index.md" && !strings.Contains(files["docs/index.md"], "("+name+")") {
			t.Errorf("docs/index.md has no line for %s", name)
		}
		if path.Dir(p) != "internal/gatewayconfig" || strings.HasSuffix(p, "_test.go") {
			continue
		}
		for _, m := range annotation.FindAllStringSubmatch(files[p], -1) {
			if !listed(files["docs/settings.md"])[m[1]] {
				t.Errorf("%s: docs/settings.md has no line for the annotation %s", p, m[1])
			}
		}
	}
}
