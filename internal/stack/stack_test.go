package stack

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vmcp/internal/await"
	"vmcp/internal/child"
	"vmcp/internal/gatewayconfig"
	"vmcp/internal/secret"
)

const documents = `apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPGroup
metadata: {name: one}
---
apiVersion: toolhive.stacklok.dev/v1beta1
kind: VirtualMCPServer
metadata: {name: gate}
spec:
  groupRef: {name: one}
  incomingAuth: {type: anonymous}
`

// TestRefused: what would meet another gateway is told before anything is started, and leaves nothing locked.
func TestRefused(t *testing.T) {
	docs := filepath.Join(t.TempDir(), "gateway.yaml")
	if err := os.WriteFile(docs, []byte(documents), 0o600); err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	cfg := Config{Source: gatewayconfig.Source{Paths: []string{docs}}, Listen: other.Addr().String(), State: t.TempDir()}
	refused := func(want string) {
		t.Helper()
		if _, err := Start(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Start: %v, want %q in it", err, want)
		}
		if logs, _ := filepath.Glob(filepath.Join(cfg.State, "*.log")); len(logs) > 0 {
			t.Errorf("started all the same: %s", logs)
		}
	}
	refused(cfg.Listen + " is in use")

	held, err := lock(filepath.Join(cfg.State, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	refused(fmt.Sprintf("process %d:", os.Getpid()))
	held.Close()
	refused("is in use")
	cfg.TLSCert, cfg.TLSKey = docs, docs
	refused("--tls-cert, --tls-key: ")
	cfg.TLSCert, cfg.TLSKey = "", ""
	_, port, _ := net.SplitHostPort(cfg.Listen)
	cfg.Listen = "0.0.0.0:" + port
	refused("--allow-anonymous")
	cfg.Anonymous = true
	refused("is in use")
}

// TestPrograms: --run goes before the document's own command, what runs is shown without the environment, and a program
// that is not there is told before anything starts.
func TestPrograms(t *testing.T) {
	server := gatewayconfig.Backend{Name: "files", Kind: "MCPServer", Image: "x/files:1", Args: []string{"--root", "/my files"},
		Env: map[string]secret.Value{"TOKEN": "hunter2"}}
	for _, c := range []struct {
		command, run string
		want         string // shown, or in the error
	}{
		{"sh -c 'exit'", "", `MCPServer files runs: sh -c 'exit' --root "/my files"`},
		{"sh -c 'exit'", "x/files:1=env -i", `MCPServer files runs: env -i --root "/my files"`},
		{"sh", "x/other:1=env", `MCPServer files runs: sh --root "/my files"`},
		{"", "", "give --run 'x/files:1=COMMAND"},
		{"bin/nowhere", "", "vmcp/command: exec: \"bin/nowhere\": stat bin/nowhere: no such file or directory (a relative path"},
		{"sh", "x/files:1=nowhere-at-all", "--run: exec: \"nowhere-at-all\""},
		{"sh", "x/files:1", "want IMAGE="},
	} {
		server.Command = c.command
		cfg := &Config{}
		if c.run != "" {
			cfg.Run = []string{c.run}
		}
		got := ""
		found, err := programs(cfg, &gatewayconfig.Gateway{Aggregator: gatewayconfig.Aggregator{Backends: []gatewayconfig.Backend{server}}})
		if err != nil {
			got = err.Error()
		} else if len(found) == 1 {
			got = found[0].String()
		}
		if !strings.Contains(got, c.want) || strings.Contains(got, "hunter2") {
			t.Errorf("command %q, --run %q: %s, want in it %s", c.command, c.run, got, c.want)
		}
	}
}

// TestKill: a service that was killed runs again when it is told to, also where that comes before its end was noticed.
func TestKill(t *testing.T) {
	s := &Stack{State: t.TempDir(), pids: map[string]int{}, restart: map[string]context.CancelFunc{}, down: map[string]chan struct{}{}}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- s.supervise(ctx, child.Config{Name: "one", Path: "/bin/sleep", Args: []string{"600"}, Log: filepath.Join(t.TempDir(), "log")})
	}()
	next := func(old int) int {
		t.Helper()
		await.That(t, "there is another process", func() bool {
			select {
			case err := <-ended:
				t.Fatalf("supervise ended: %v", err)
			default:
			}
			return s.PID("one") != old
		})
		return s.PID("one")
	}
	pid := next(0)
	for range 3 {
		again, err := s.Kill("one")
		if err != nil {
			t.Fatal(err)
		}
		again()
		pid = next(pid)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
