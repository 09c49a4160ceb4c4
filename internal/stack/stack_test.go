package stack

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vmcp/internal/gatewayconfig"
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
}
