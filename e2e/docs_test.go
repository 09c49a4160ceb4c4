package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
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

// newDesk is a directory that looks like a clone in which make build has run, for one page. The documents of its
// examples, its vmcp and its home are its own, with a port that is free instead of 4483.
func newDesk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(root)
	must(err)
	for _, e := range entries {
		if n := e.Name(); n != "bin" && n != "docs" && n != ".git" && n != ".run" {
			must(os.Symlink(filepath.Join(root, n), filepath.Join(dir, n)))
		}
	}
	must(os.CopyFS(filepath.Join(dir, "docs"), os.DirFS(filepath.Join(root, "docs"))))
	addr := freeAddress(t)
	_, port, _ := net.SplitHostPort(addr)
	must(os.WriteFile(filepath.Join(dir, "port"), []byte(port), 0o600))
	examples, err := filepath.Glob(filepath.Join(dir, "docs/examples/*.yaml"))
	must(err)
	for _, example := range examples {
		text, err := os.ReadFile(example)
		must(err)
		must(os.WriteFile(example, bytes.ReplaceAll(text, []byte("4483"), []byte(port)), 0o600))
	}
	for _, d := range []string{"bin", "home", "tmp"} {
		must(os.Mkdir(filepath.Join(dir, d), 0o700))
	}
	built, err := os.ReadDir(bin)
	must(err)
	for _, b := range built {
		if b.Name() != "vmcp" {
			must(os.Symlink(filepath.Join(bin, b.Name()), filepath.Join(dir, "bin", b.Name())))
		}
	}
	vmcp := fmt.Sprintf("#!/bin/sh\nif [ \"$1\" = up ]; then shift; set -- up --listen %s --tools '%s/.tools' \"$@\"; fi\nexec '%s/vmcp' \"$@\"\n", addr, root, bin)
	must(os.WriteFile(filepath.Join(dir, "bin/vmcp"), []byte(vmcp), 0o700))
	return dir
}

// reader types the commands of one page.
type reader struct {
	dir  string
	out  []byte // of the last command
	rest func(t *testing.T)
}

func (r *reader) command(ctx context.Context, text string) *exec.Cmd {
	port, _ := os.ReadFile(filepath.Join(r.dir, "port"))
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", strings.ReplaceAll(text, "4483", string(port)))
	cmd.Dir = r.dir
	cmd.Env = append(os.Environ(), "HOME="+filepath.Join(r.dir, "home"), "PATH="+filepath.Join(r.dir, "bin")+":"+os.Getenv("PATH"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	return cmd
}

func (r *reader) run(t *testing.T, at, text string) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var err error
	if r.out, err = r.command(ctx, text).CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s\n%s", at, err, text, r.out)
	}
}

// standIn puts programs into the reader's path that check what they are given: JSON where it looks like it.
func (r *reader) standIn(t *testing.T, programs []string) {
	const script = `#!/bin/sh
json() { python3 -c 'import json, sys; json.load(sys.stdin)'; }
for a; do
  case "$a" in
  @*) json <"${a#@}" || exit ;;
  "{"*) printf %s "$a" | json || exit ;;
  /dev/fd/*) cat "$a" >/dev/null ;;
  esac
done
cat >/dev/null
echo 11111111-2222-3333-4444-555555555555
`
	for _, p := range programs {
		if err := os.WriteFile(filepath.Join(r.dir, "bin", p), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
}

// start runs a command that goes on, in place of the last such one.
func (r *reader) start(t *testing.T, at, text, until string) {
	r.close(t)
	ctx, cancel := context.WithCancel(context.Background())
	cmd := r.command(ctx, text)
	name := filepath.Join(r.dir, "output")
	out, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s: %v", at, err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait(); out.Close() }()
	r.rest = func(t *testing.T) {
		cancel()
		select {
		case <-done:
		case <-time.After(30 * time.Second):
			t.Errorf("%s: does not end", at)
			syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			<-done
		}
	}
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if r.out, err = os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(r.out, []byte(until)) {
			return
		}
		select {
		case err := <-done:
			done <- err
			t.Fatalf("%s: ended with %v before %q\n%s\n%s", at, err, until, text, r.out)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: no %q after two minutes\n%s\n%s", at, until, text, r.out)
		}
	}
}

func (r *reader) close(t *testing.T) {
	if r.rest != nil {
		r.rest(t)
		r.rest = nil
	}
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
