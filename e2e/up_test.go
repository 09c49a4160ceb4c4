package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestUp: what a person meets who runs the small example with one server more, which does not start. stdout is for
// programs: one line, when calls succeed.
func TestUp(t *testing.T) {
	example, err := os.ReadFile(filepath.Join(root, "docs/examples/anonymous.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	docs, state, listen := filepath.Join(dir, "gateway.yaml"), filepath.Join(dir, "state"), freeAddress(t)
	const all = "- permit(principal, action, resource);\n"
	text := strings.NewReplacer("bin/kubernetes-mcp", filepath.Join(bin, "kubernetes-mcp"),
		all, all+`          - permit(principal, action == Action::"cal_tool", resource);`+"\n").Replace(string(example)) + `---
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServer
metadata:
  name: broken
  annotations: {vmcp/command: "sh -c 'echo Error: no token >&2; echo usage: broken --token T >&2; exit 3'"}
spec:
  groupRef: {name: try-it}
  image: demo/broken
  env: [{name: TOKEN, value: hunter2}]
`
	if err := os.WriteFile(docs, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	vmcp := func(args ...string) *exec.Cmd { return exec.Command(filepath.Join(bin, "vmcp"), args...) }
	up := []string{"up", "-f", docs, "--listen", listen, "--state", state, "--tools", filepath.Join(root, ".tools")}

	first := vmcp(up...)
	var said bytes.Buffer
	first.Stderr = &said
	pipe, err := first.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	pid := first.Process.Pid
	defer first.Process.Kill()
	stdout := bufio.NewScanner(pipe)
	if !stdout.Scan() || !strings.HasPrefix(stdout.Text(), "ready http://localhost:") {
		first.Wait()
		t.Fatalf("stdout %q, want the line ready URL; stderr:\n%s", stdout.Text(), &said)
	}
	url := strings.TrimPrefix(stdout.Text(), "ready ")

	found, err := vmcp("status", "-state", state, "-o", "json").Output()
	var status struct {
		URL      string
		PID      int
		Ready    bool
		Backends []struct {
			Backend, State string
			Tools          int
			LastFailure    string `json:"last_failure"`
		}
	}
	if jsonErr := json.Unmarshal(found, &status); err != nil || jsonErr != nil || status.URL != url || status.PID != pid || !status.Ready {
		t.Errorf("vmcp status: %v, %v\n%s", err, jsonErr, found)
	}
	if b := status.Backends; len(b) != 2 || b[0].State != "listed" || b[0].Tools != 10 || !strings.Contains(b[1].LastFailure, "no token") {
		t.Errorf("servers in status: %+v", b)
	}

	again, err := vmcp(up...).CombinedOutput()
	if want := fmt.Sprintf("process %d:", pid); err == nil || !strings.Contains(string(again), want) {
		t.Errorf("a second one on the same state: %v, %s, want %q in it", err, again, want)
	}

	first.Process.Signal(syscall.SIGINT)
	if stdout.Scan() {
		t.Errorf("stdout has another line: %q", stdout.Text())
	}
	if err := first.Wait(); err != nil {
		t.Errorf("stopped as asked, and ended with %v", err)
	}
	for _, want := range []string{
		"MCPServer kubernetes runs: " + filepath.Join(bin, "kubernetes-mcp") + "\n",
		"server kubernetes: ready, 10 tools",
		"server broken: away, initialize: ",
		"exit status 3: Error: no token\n", // and nothing of what stands behind it
		`unknown action Action::"cal_tool"` + "\n",
		"claude mcp add --transport http try-it " + url + "\n",
	} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("stderr lacks %q", want)
		}
	}
	for _, never := range []string{"\x1b", "hunter2"} {
		if strings.Contains(said.String(), never) {
			t.Errorf("stderr has %q", never)
		}
	}
	if t.Failed() {
		t.Logf("stderr:\n%s", &said)
	}
	if out, err := vmcp("status", "-state", state).CombinedOutput(); err == nil {
		t.Errorf("after the end: %s", out)
	}
}
