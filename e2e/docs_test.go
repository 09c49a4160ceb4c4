package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestDocs runs the commands that the pages print, page by page and from the top, so that none can rot. A command is a
// block indented by four spaces or fenced as sh or bash; any other fence must name its language. In the line before a
// block a comment may say
//
//	run with stand-ins: PROGRAMS
//	                       for what is not ours and not here: each takes what it is given, and answers with an id
//	run until: TEXT        it goes on; the page continues when its output has TEXT, and ends it
//	output                 no command: what the one before it prints. … stands for anything
//	run elsewhere: COMMAND .ci/run has a step that runs COMMAND
//	not run: REASON        it cannot run here; what can be known of it is checked all the same (see checkCommand),
//	                       as of commands in the middle of a sentence
func TestDocs(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("no curl on PATH, which the pages use")
	}
	pages := []string{"README.md", "CONTRIBUTING.md", "SECURITY.md", "deploy/k8s/README.md"}
	more, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range more {
		pages = append(pages, "docs/"+filepath.Base(p))
	}
	ran := 0
	for _, page := range pages {
		t.Run(page, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join(root, page))
			if err != nil {
				t.Fatal(err)
			}
			blocks, err := commandBlocks(string(text))
			if err != nil {
				t.Fatalf("%s:%v", page, err)
			}
			for i, line := range strings.Split(string(text), "\n") {
				for _, m := range inline.FindAllStringSubmatch(line, -1) {
					checkCommand(t, fmt.Sprintf("%s:%d", page, i+1), m[1])
				}
			}
			r := reader{dir: newDesk(t)}
			defer r.close(t)
			for _, b := range blocks {
				at := fmt.Sprintf("%s:%d", page, b.line)
				what, detail, _ := strings.Cut(b.mark, ": ")
				switch what {
				case "":
					r.run(t, at, b.text)
					ran++
				case "run with stand-ins":
					r.standIn(t, strings.Split(detail, ", "))
					r.run(t, at, b.text)
					ran++
				case "run until":
					r.start(t, at, b.text, detail)
					ran++
				case "output":
					if r.out == nil {
						t.Errorf("%s: no command was run whose output this could be", at)
					} else if missing := differs(string(r.out), b.text); missing != "" {
						t.Errorf("%s: the output lacks %q:\n%s", at, missing, r.out)
					}
				case "run elsewhere":
					ci, err := os.ReadFile(filepath.Join(root, ".ci/run"))
					if err != nil || !regexp.MustCompile(`(?m)^step .* `+regexp.QuoteMeta(detail)+`$`).Match(ci) {
						t.Errorf("%s: .ci/run has no step %q (%v)", at, detail, err)
					}
					checkCommand(t, at, b.text)
				case "not run":
					if detail == "" {
						t.Errorf("%s: say why it is not run", at)
					}
					checkCommand(t, at, b.text)
				default:
					t.Errorf("%s: unknown mark %q", at, b.mark)
				}
			}
		})
	}
	if ran == 0 {
		t.Error("no page has a command that was run")
	}
	workflows, err := filepath.Glob(filepath.Join(root, ".github/workflows/*.yaml"))
	if err != nil || len(workflows) == 0 {
		t.Errorf("no workflows: %v", err)
	}
	for _, w := range workflows {
		text, err := os.ReadFile(w)
		if err != nil {
			t.Fatal(err)
		}
		checkCommand(t, filepath.Base(w), string(text))
	}
}

type block struct {
	line int
	mark string // of the comment before it
	text string
}

var (
	mark  = regexp.MustCompile(`^ *<!-- ((?:run with stand-ins|run until|run elsewhere|not run): .+|output) -->$`)
	fence = regexp.MustCompile("^ *```([a-z]*)$")
)

// commandBlocks finds commands and their outputs in a page.
func commandBlocks(page string) ([]block, error) {
	var found []block
	marked, before := "", ""
	add := func(at int, lines []string) {
		indent := len(lines[0]) - len(strings.TrimLeft(lines[0], " "))
		for i, l := range lines {
			lines[i] = l[min(indent, len(l)-len(strings.TrimLeft(l, " "))):]
		}
		found = append(found, block{at + 1, marked, strings.TrimRight(strings.Join(lines, "\n"), "\n")})
		marked = ""
	}
	lines := strings.Split(page, "\n")
	for i := 0; i < len(lines); i++ {
		l := lines[i]
		switch {
		case mark.MatchString(l):
			marked = mark.FindStringSubmatch(l)[1]
			continue
		case fence.MatchString(l):
			begin, language := i, fence.FindStringSubmatch(l)[1]
			for i++; i < len(lines) && strings.TrimSpace(lines[i]) != "```"; i++ {
			}
			if i == len(lines) {
				return nil, fmt.Errorf("%d: a fence without an end", begin+1)
			}
			if command := language == "sh" || language == "bash"; command || marked != "" {
				add(begin, slices.Clone(lines[begin+1:i]))
			} else if language == "" {
				return nil, fmt.Errorf("%d: say of which language the block is: sh is run, text is not", begin+1)
			}
		case strings.HasPrefix(strings.TrimSpace(l), "```"), strings.HasPrefix(l, "~~~"):
			return nil, fmt.Errorf("%d: a fence of a form that is not known here", i+1)
		case strings.HasPrefix(l, "    ") && before == "":
			begin := i
			for i+1 < len(lines) && (strings.HasPrefix(lines[i+1], "    ") || lines[i+1] == "") {
				i++
			}
			add(begin, slices.Clone(lines[begin:i+1]))
		case l == "":
			before = ""
			continue
		case marked != "":
			return nil, fmt.Errorf("%d: the comment before it marks no block", i+1)
		}
		before = lines[i]
	}
	return found, nil
}

// differs names the first line of want that got does not have, in their order.
func differs(got, want string) string {
	got = strings.ReplaceAll(got, "\r\n", "\n")
	for _, line := range strings.Split(want, "\n") {
		if line = strings.TrimSpace(line); line == "" || line == "…" {
			continue
		}
		pattern := strings.ReplaceAll(regexp.QuoteMeta(line), "…", ".*")
		pattern = regexp.MustCompile(` +`).ReplaceAllString(pattern, ` +`)
		at := regexp.MustCompile(`(?m)^ *` + pattern + ` *$`).FindStringIndex(got)
		if at == nil {
			return line
		}
		got = got[at[1]:]
	}
	return ""
}

var (
	inline   = regexp.MustCompile("`((?:make|bin/[a-z]+|vmcp) [^`]+)`")
	ours     = regexp.MustCompile(`(?:^|[|(;&])\s*(?:bin/)?(vmcp|authz|authserver|aggregator|entrasim) ([^|)#]*)`)
	makes    = regexp.MustCompile(`(?:^|\s)make ([a-z0-9-]+)`)
	folder   = regexp.MustCompile(`\b(?:deploy|docs|cmd|internal|services|e2e|tools)/[\w./-]*\w`)
	flagged  = regexp.MustCompile(`(?:^|\s)--?([a-z][a-z-]*)`)
	flagHelp = regexp.MustCompile(`(?m)^\s+--?([a-z][a-z-]*)`)
)

// checkCommand looks at a command that is not run: targets of make, flags of our programs and our files are there.
func checkCommand(t *testing.T, at, text string) {
	t.Helper()
	text = strings.ReplaceAll(text, "\\\n", " ")
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range makes.FindAllStringSubmatch(text, -1) {
		if !regexp.MustCompile(`(?m)^` + m[1] + `:`).Match(makefile) {
			t.Errorf("%s: make has no target %s", at, m[1])
		}
	}
	for _, path := range folder.FindAllString(text, -1) {
		if _, err := os.Stat(filepath.Join(root, path)); err != nil {
			t.Errorf("%s: there is no %s", at, path)
		}
	}
	for _, line := range strings.Split(text, "\n") {
		for _, m := range ours.FindAllStringSubmatch(line, -1) {
			args := strings.Fields(strings.TrimPrefix(m[2], "help "))
			if m[1] == "vmcp" && len(args) > 0 {
				args = []string{args[0], "-h"}
			} else {
				args = []string{"-h"}
			}
			// Help is status 0 or 2, by the program.
			help, _ := exec.CommandContext(t.Context(), filepath.Join(bin, m[1]), args...).CombinedOutput()
			if bytes.Contains(help, []byte("unknown command")) {
				t.Errorf("%s: %s: %s", at, m[0], help)
			}
			known := map[string]bool{}
			for _, f := range flagHelp.FindAllStringSubmatch(string(help), -1) {
				known[f[1]] = true
			}
			for _, f := range flagged.FindAllStringSubmatch(m[2], -1) {
				if !known[f[1]] && f[1] != "h" {
					t.Errorf("%s: %s has no flag -%s:\n%s", at, m[1], f[1], help)
				}
			}
		}
	}
}
