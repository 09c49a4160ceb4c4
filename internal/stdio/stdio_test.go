package stdio

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"vmcp/internal/await"
)

func startShell(t *testing.T, cfg Config, script string) *Process {
	t.Helper()
	cfg.Command = []string{"/bin/sh", "-c", script}
	p, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return p
}

func TestLines(t *testing.T) {
	p := startShell(t, Config{}, "cat")
	long := strings.Repeat("x", 200_000)
	for _, line := range []string{`{"a":1}`, long, "é"} {
		failed := make(chan error)
		go func() { failed <- p.Write(t.Context(), []byte(line)) }()
		got, err := p.Read()
		if err != nil || string(got) != line {
			t.Errorf("got %.20q, %v", got, err)
		}
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
	p.Write(t.Context(), []byte("{\n\"a\":\r\n1}")) // one message is one line
	if got, err := p.Read(); err != nil || string(got) != `{ "a":  1}` {
		t.Errorf("got %q, %v", got, err)
	}
	p.Stop()
	if _, err := p.Read(); err != io.EOF {
		t.Errorf("after Stop: %v", err)
	}
	if err := p.Write(t.Context(), []byte("{}")); err == nil {
		t.Error("wrote after Stop")
	}
}

func TestLineEnds(t *testing.T) {
	p := startShell(t, Config{MaxLine: 10}, `printf 'a\r\n\n  \nb\n1234567890123\nc\n%0100000d\nd\n' 0`)
	for _, want := range []string{"a", "b", "", "c", "", "d"} {
		if got, err := p.Read(); string(got) != want || (err != nil) != (want == "") || err != nil && err != ErrLineTooLong {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	p = startShell(t, Config{}, `printf 'whole\ncut'`)
	p.Read()
	if got, err := p.Read(); err != io.EOF {
		t.Errorf("a line without end: %q, %v", got, err)
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("VMCP_SECRET", "hidden")
	t.Setenv("USER", "outer")
	p := startShell(t, Config{Env: map[string]string{"TOKEN": "t", "USER": "inner"}}, "env; echo end")
	var all bytes.Buffer
	for {
		line, err := p.Read()
		if err != nil || string(line) == "end" {
			break
		}
		all.Write(append(line, '\n'))
	}
	for _, want := range []string{"TOKEN=t\n", "USER=inner\n", "PATH="} {
		if !strings.Contains(all.String(), want) {
			t.Errorf("%s is missing: %s", want, all.String())
		}
	}
	if strings.Contains(all.String(), "VMCP_SECRET") || strings.Contains(all.String(), "outer") {
		t.Errorf("the child sees %s", all.String())
	}
}

func TestExit(t *testing.T) {
	p := startShell(t, Config{}, `for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22; do echo "line $i" >&2; done; exit 3`)
	<-p.Done()
	err := p.Err()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Errorf("got %v", err)
	}
	if text := err.Error(); !strings.Contains(text, "line 22") || strings.Contains(text, "line 2 ") {
		t.Errorf("last lines: %s", text)
	}
	if _, err := Start(Config{Command: []string{"/does/not/exist"}}); err == nil {
		t.Error("started what does not exist")
	}
	if _, err := Start(Config{}); err == nil {
		t.Error("started nothing")
	}
}

// TestGrandchild: the end of the child is noticed though another process holds its pipes, and that one ends too.
func TestGrandchild(t *testing.T) {
	p := startShell(t, Config{}, `sleep 60 & echo $!; exit 0`)
	line, err := p.Read()
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(line))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Read(); err != io.EOF {
		t.Errorf("got %v", err)
	}
	<-p.Done()
	gone(t, pid)
}

// gone waits until a process has ended; what init has not collected yet counts.
func gone(t *testing.T, pid int) {
	t.Helper()
	await.That(t, fmt.Sprintf("process %d has ended", pid), func() bool {
		state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return syscall.Kill(pid, 0) != nil || err == nil && strings.Contains(string(state), ") Z ")
	})
}

func TestStop(t *testing.T) {
	for _, test := range []struct {
		name, script string
		least        time.Duration
		ended        string
	}{
		{"at the end of stdin", `trap '' TERM; read -r line; exit 3`, 0, "exit status 3"},
		{"at SIGTERM", `trap 'exit 4' TERM; while :; do sleep 0.05; done`, stopPatience, "exit status 4"},
		{"never by itself", `trap '' TERM; while :; do sleep 0.05; done`, 2 * stopPatience, "signal: killed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := startShell(t, Config{}, test.script)
			begin := time.Now()
			p.Stop()
			p.Stop()
			if took := time.Since(begin); took < test.least {
				t.Errorf("took %v, want %v or more", took, test.least)
			}
			gone(t, p.cmd.Process.Pid)
			if got := p.cmd.ProcessState.String(); got != test.ended {
				t.Errorf("ended with %s, want %s", got, test.ended)
			}
		})
	}
}

// TestBackPressure: a child that does not read holds a writer up until its context ends. If it reads on after all, the
// next message follows whole; if it never does, it is of no use.
func TestBackPressure(t *testing.T) {
	long := bytes.Repeat([]byte("x"), 1<<20)
	cut := func(p *Process) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := p.Write(ctx, long); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	}
	gate := filepath.Join(t.TempDir(), "gate")
	p := startShell(t, Config{}, `until [ -e `+gate+` ]; do sleep 0.05; done; exec cat`)
	cut(p)
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	go p.Write(t.Context(), []byte("next"))
	for _, want := range []string{string(long), "next"} {
		if got, err := p.Read(); err != nil || string(got) != want {
			t.Errorf("got %.20q of %d bytes, %v", got, len(got), err)
		}
	}

	p = startShell(t, Config{}, `exec sleep 600`)
	cut(p)
	select {
	case <-p.Done():
	case <-time.After(await.Limit):
		t.Error("the child lives on after half a message")
	}
}

// TestParentDeath runs only as a child of itself: the parent dies, and its child must.
func TestParentDeath(t *testing.T) {
	if os.Getenv("STDIO_TEST_PARENT") != "" {
		p, err := Start(Config{Command: []string{"/bin/sleep", "60"}})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("pid=%d\n", p.cmd.Process.Pid)
		os.Stdout.Sync()
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	if processAttributes().Pdeathsig == 0 {
		t.Skip("no parent-death signal on this system")
	}
	cmd := exec.Command(os.Args[0], "-test.run=TestParentDeath$")
	cmd.Env = append(os.Environ(), "STDIO_TEST_PARENT=1")
	out, _ := cmd.Output()
	_, rest, ok := strings.Cut(string(out), "pid=")
	if !ok {
		t.Fatalf("the parent wrote %q", out)
	}
	pid, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	gone(t, pid)
}
