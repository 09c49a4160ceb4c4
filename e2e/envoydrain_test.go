package e2e

import (
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"vmcp/internal/await"
	"vmcp/internal/mcptest"
	"vmcp/internal/stack"
)

// TestEnvoyDrains: what a pod does before Envoy ends. New connections go elsewhere, the call in progress is answered, and
// only then does the hook let the kubelet go on.
func TestEnvoyDrains(t *testing.T) {
	server := mcptest.NewHTTP(t, mcptest.Options{})
	w := start(t, guide, behind("slow", server.URL))
	_, modern := w.developers()
	admin := stack.Client(w.Socket("envoy-admin"))
	stats := func() string {
		resp, err := admin.Get("http://envoy/stats?filter=listener_manager.total_listeners_draining|http.mcp.downstream_rq_active|server.live")
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return string(text)
	}
	answers := make(chan answer, 1)
	go func() { answers <- modern.call(t, "slow_wait", `{}`) }()
	await.That(t, "the call runs", func() bool { return server.Saw("wait") && strings.Contains(stats(), "downstream_rq_active: 1") })

	hook := exec.Command(filepath.Join(bin, "drain"), "-admin", w.Socket("envoy-admin"), "-before", "0s", "-at-most", await.Limit.String())
	var said strings.Builder
	hook.Stderr = &said
	if err := hook.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- hook.Wait() }()
	await.That(t, "Envoy says that it is not live any more", func() bool { return strings.Contains(stats(), "server.live: 0") })
	select {
	case err := <-ended:
		t.Fatalf("the hook did not wait for the call: %v %s", err, &said)
	default:
	}
	server.Release()
	a := <-answers
	if !a.ok() {
		t.Errorf("the call in progress: %d %s", a.status, a.body)
	}
	if err := <-ended; err != nil || said.Len() > 0 {
		t.Errorf("the hook: %v %s", err, &said)
	}
	resp, err := http.Get("http://" + w.Listen + "/nothing") // the drain time of Envoy, a minute, is for those who come late
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if !resp.Close {
		t.Error("a client is not told to go elsewhere for its next connection")
	}
	if out, err := exec.Command(filepath.Join(bin, "drain"), "-admin", filepath.Join(t.TempDir(), "none")).CombinedOutput(); err == nil || !strings.Contains(string(out), "none") {
		t.Errorf("no Envoy: %v %s", err, out)
	}
}
