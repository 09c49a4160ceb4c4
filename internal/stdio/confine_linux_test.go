package stdio

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestHide: a child tries, as the gateway's own user, what would reach hidden files and the gateway's process, and then
// what must go on working beside them.
func TestHide(t *testing.T) {
	if err := CanHide(); err != nil {
		t.Skip(err)
	}
	base := resolved(t.TempDir()) // below the directory of temporary files, so that is above what is hidden
	write := func(path string) {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("text"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	home := filepath.Join(base, "home")
	state := filepath.Join(home, ".local/state/vmcp/team")
	for _, path := range []string{state + "/keys/seal/k", home + "/gateway.yaml", home + "/file", home + "/project/f", base + "/other/f"} {
		write(path)
	}
	for link, to := range map[string]string{home + "/project/in": state, base + "/alias": home} {
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
	}
	hide := []string{filepath.Join(base, "alias/.local/state/vmcp/team"), home + "/gateway.yaml", home + "/.local/state/vmcp/team/later"}

	refused := []string{
		"cat $S/keys/seal/k", "cat $H/project/in/keys/seal/k", "cat $H/gateway.yaml",
		"cat /proc/self/root/$S/keys/seal/k", "cd $S && cat keys/seal/k", "cp -r $S $H/project/copy",
		"ls $S", "ls $S/keys/seal", "ls $H", "ls $H/.local/state", "ls /",
		"echo x >$S/keys/seal/new", "echo x >>$S/keys/seal/k", "echo x >$H/gateway.yaml", "truncate -s 0 $S/keys/seal/k",
		"mkdir $S/d", "mkfifo $S/pipe", "ln -s /etc/passwd $S/link", "echo x >$H/new", "mkdir $H/.local/state/new",
		"rm $S/keys/seal/k", "rm $H/gateway.yaml", "rmdir $H/.local/state/vmcp",
		"mv $S/keys/seal/k $H/project/k", "mv $H/project/f $S/f", "mv $S $H/project/s", "mv $H/.local/state $H/project/s", "mv $H $B/other/h",
		"mv $H/project/f $H/gateway.yaml", "ln $S/keys/seal/k $H/project/k", "ln $H/gateway.yaml $H/project/y", "ln $H/project/f $S/f",
		"mount --bind $S $H/project", "mount -t tmpfs none $S",
		"cat /proc/$P/environ", "cat /proc/$P/maps", ": </proc/$P/mem", "readlink /proc/$P/cwd", "ls /proc/$P/root/", "cat /proc/$P/fd/0",
		"for t in /proc/$P/task/*; do (: <$t/mem) && exit 0; done; exit 1", "for t in /proc/$P/task/*; do cat $t/environ && exit 0; done; exit 1",
		"kill -0 $P", "kill -CONT $P",
	}
	allowed := []string{
		"cat $H/project/f", "cat $H/file", "echo more >>$H/file", "ls $H/project", "cat $B/alias/project/f", "ls /etc", "cat /etc/passwd",
		"echo x >$H/project/g", "mkdir $H/project/d", "mv $H/project/g $H/project/d/g", "mv $H/project/d $B/other/d", "rm -r $B/other/d",
		"ln $H/project/f $B/other/hard", "ln -s f $H/project/soft", "cat $H/project/soft", "echo x >$H/project/new && rm $H/project/new",
		"mkdir $H/.npm/x", "mkdir $H/.cache/x", "mkdir $H/.config/x", "mkdir -p $H/.local/share/x",
		"f=$(mktemp) && echo x >$f && cat $f", "echo x >/dev/null", "cat /proc/self/environ", "sleep 60 & kill $!",
	}
	var script strings.Builder
	for i, command := range append(refused, allowed...) {
		fmt.Fprintf(&script, "if (%s) >/dev/null 2>&1 </dev/null; then echo %d yes; else echo %d no; fi\n", command, i, i)
	}
	script.WriteString("echo tmp $TMPDIR\n")
	p := startShell(t, Config{Hide: hide,
		Env: map[string]string{"HOME": home, "H": home, "S": state, "B": base, "P": fmt.Sprint(os.Getpid())}}, script.String())
	var temp string
	seen := 0
	for {
		line, err := p.Read()
		if err == io.EOF {
			break
		}
		var i int
		var did string
		if _, err := fmt.Sscanf(string(line), "tmp %s", &temp); err == nil {
			continue
		}
		if _, err := fmt.Sscanf(string(line), "%d %s", &i, &did); err != nil {
			t.Fatalf("the child wrote %q", line)
		}
		seen++
		switch {
		case i < len(refused) && did == "yes":
			t.Errorf("a child can: %s", refused[i])
		case i >= len(refused) && did == "no":
			t.Errorf("a child cannot any more: %s", allowed[i-len(refused)])
		}
	}
	if want := len(refused) + len(allowed); seen != want {
		t.Errorf("%d of %d tries: %v", seen, want, p.Err())
	}
	<-p.Done()
	if _, err := os.Stat(temp); temp == "" || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its directory for temporary files, %q: %v, want it gone", temp, err)
	}
	if text, err := os.ReadFile(state + "/keys/seal/k"); err != nil || string(text) != "text" {
		t.Errorf("the key is %q, %v", text, err)
	}
}

// TestHiddenStart: how a confined child starts and fails is told as without.
func TestHiddenStart(t *testing.T) {
	if err := CanHide(); err != nil {
		t.Skip(err)
	}
	hide := []string{t.TempDir()}
	if _, err := Start(Config{Hide: hide, Command: []string{"/does/not/exist"}}); err == nil {
		t.Error("started what does not exist")
	}
	p, err := Start(Config{Hide: hide, Command: []string{"sh", "-c", `echo "$0 $#:$1,$2"; echo last >&2; exit 3`, "a b", "", `"`}})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := p.Read(); err != nil || string(got) != `a b 2:,"` {
		t.Errorf("got %q, %v", got, err)
	}
	<-p.Done()
	if err := p.Err(); !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "last") {
		t.Errorf("got %v", err)
	}
	broken := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(broken, []byte("no program"), 0o755); err != nil {
		t.Fatal(err)
	}
	p, err = Start(Config{Hide: hide, Command: []string{broken}})
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if err := p.Err(); !strings.Contains(err.Error(), "exec format error") {
		t.Errorf("what cannot be executed: %v", err)
	}
}
