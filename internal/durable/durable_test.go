package durable

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A platter is a disk in memory whose power is cut before one of its steps, or which fails there. It may lose or keep
// what nobody synced: afterwards asks for every outcome.
type platter struct {
	end   int  // the step at which it ends
	fails bool // only that step, with an error; else the power is cut and everything after it fails too
	steps []string
	names map[string]*inode // as processes see them
	kept  map[string]*inode // as the directory has them on the disk
}

type inode struct {
	text, kept string
	synced     bool
}

var errEnd = errors.New("end")

func newPlatter(end int, fails bool) *platter {
	old := &inode{text: "old", kept: "old", synced: true}
	return &platter{end: end, fails: fails, names: map[string]*inode{"dir/f": old}, kept: map[string]*inode{"dir/f": old}}
}

func (p *platter) step(name string) error {
	p.steps = append(p.steps, name)
	if n := len(p.steps) - 1; n == p.end || !p.fails && n > p.end {
		return errEnd
	}
	return nil
}

func (p *platter) create(path string) (file, error) {
	if err := p.step("create"); err != nil {
		return nil, err
	}
	n := p.names[path]
	if n == nil {
		n = &inode{}
		p.names[path] = n
	}
	n.text, n.synced = "", false
	return &handle{p, n}, nil
}

func (p *platter) rename(from, to string) error {
	if err := p.step("rename"); err != nil {
		return err
	}
	p.names[to] = p.names[from]
	delete(p.names, from)
	return nil
}

func (p *platter) remove(path string) {
	if p.step("remove") == nil {
		delete(p.names, path)
	}
}

func (p *platter) syncDir(path string) error {
	if err := p.step("sync of " + path); err != nil {
		return err
	}
	p.kept = maps.Clone(p.names)
	return nil
}

type handle struct {
	p *platter
	n *inode
}

func (h *handle) Write(b []byte) (int, error) {
	if err := h.p.step("write"); err != nil {
		h.n.text += string(b[:len(b)/2]) // the disk is full
		return len(b) / 2, err
	}
	h.n.text += string(b)
	return len(b), nil
}

func (h *handle) Sync() error {
	if err := h.p.step("sync"); err != nil {
		return err
	}
	h.n.kept, h.n.synced = h.n.text, true
	return nil
}

func (h *handle) Close() error { return h.p.step("close") }

// afterwards returns what dir/f may hold when the power is back: the directory as synced or as it was last, and of a
// text that was not synced nothing, a part or all.
func (p *platter) afterwards() []string {
	var outcomes []string
	for _, dir := range []map[string]*inode{p.kept, p.names} {
		switch n := dir["dir/f"]; {
		case n == nil:
			outcomes = append(outcomes, "gone")
		case n.synced:
			outcomes = append(outcomes, n.kept)
		default:
			outcomes = append(outcomes, n.kept, n.text, n.text[:len(n.text)/2])
		}
	}
	return outcomes
}

// Whenever the power is cut, the file is the old or the new one; and the new one once Write returned.
func TestPowerCut(t *testing.T) {
	whole := newPlatter(-1, true)
	if err := write(whole, "dir/f", []byte("new")); err != nil {
		t.Fatal(err)
	}
	if got := whole.afterwards(); slices.ContainsFunc(got, func(s string) bool { return s != "new" }) {
		t.Errorf("after %s: %q", whole.steps, got)
	}
	for end := range whole.steps {
		for _, fails := range []bool{false, true} {
			p := newPlatter(end, fails)
			err := write(p, "dir/f", []byte("new"))
			if !errors.Is(err, errEnd) {
				t.Errorf("%s fails: %v", p.steps[end], err)
			}
			for _, got := range p.afterwards() {
				if got != "old" && got != "new" {
					t.Errorf("ended at %s: the file may be %q", p.steps[end], got)
				}
			}
			if fails && len(p.names) > 1 {
				t.Errorf("%s fails: left %v", p.steps[end], slices.Collect(maps.Keys(p.names)))
			}
			// The next one begins from what is there.
			p.end, p.fails = -1, true
			if err := write(p, "dir/f", []byte("new")); err != nil || len(p.names) != 1 || p.kept["dir/f"].kept != "new" {
				t.Errorf("after an end at %s: %v, files %v", p.steps[end], err, p.names)
			}
		}
	}
}

// TestMain lets the test binary be the process that TestKilled kills.
func TestMain(m *testing.M) {
	path := os.Getenv("DURABLE_TEST")
	if path == "" {
		os.Exit(m.Run())
	}
	for i := 0; ; i++ {
		if err := Write(path, bytes.Repeat([]byte{byte('a' + i%26)}, 1<<20)); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(i)
	}
}

// Processes that are killed while they write leave a whole file and at most one other.
func TestKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for range 10 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "DURABLE_TEST="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "0\n" {
			t.Errorf("the process says %q, %v", line, err)
		}
		cmd.Process.Kill()
		cmd.Wait()
		text, err := os.ReadFile(path)
		if err != nil || len(text) != 1<<20 || strings.Trim(string(text), string(text[:1])) != "" {
			t.Fatalf("a file of %d bytes, %v", len(text), err)
		}
		if names, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*")); err != nil || len(names) > 2 {
			t.Errorf("files pile up: %v, %v", names, err)
		}
	}
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, path := range []string{"f", filepath.Join(dir, "f"), "f"} {
		if err := Write(path, []byte(path)); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		info, _ := os.Stat(path)
		if err != nil || string(text) != path || info.Mode().Perm() != 0o600 {
			t.Errorf("%q, %v, %v", text, info, err)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("files %v, %v", entries, err)
	}
	if err := Write(filepath.Join(dir, "absent", "f"), nil); err == nil {
		t.Error("a file in no folder")
	}
}
