package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// How the commands of a page are typed, for TestDocs.

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
	cmd := r.command(ctx, text)
	cmd.WaitDelay = 5 * time.Second // for the output of what it leaves behind
	var err error
	if r.out, err = cmd.CombinedOutput(); err != nil {
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
