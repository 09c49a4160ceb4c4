package e2e

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vmcp/internal/await"
	"vmcp/internal/mcptest"
	"vmcp/internal/stack"
)

// slowServer answers calls, in the shell, when a file "release" is beside it, and tells of each by a file.
const slowServer = `#!/bin/sh
cd "$(dirname "$0")"
while read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
  case "$line" in
  *'"initialize"'*) echo '{"jsonrpc":"2.0","id":'$id',"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"sh","version":"1"}}}' ;;
  *'"tools/list"'*) echo '{"jsonrpc":"2.0","id":'$id',"result":{"tools":[{"name":"wait","inputSchema":{"type":"object"}}]}}' ;;
  *'"tools/call"'*)
    touch arrived.$$
    while [ ! -e release ]; do sleep 0.02; done
    echo '{"jsonrpc":"2.0","id":'$id',"result":{"content":[{"type":"text","text":"released"}]}}' ;;
  esac
done
touch ended.$$
`

// TestDrain: the aggregator, or the whole gateway as by Ctrl-C, is told to stop while calls run in both eras, over HTTP
// and stdio. Each gets its result; only then are the servers told that it is over.
func TestDrain(t *testing.T) {
	for name, stop := range map[string]func(*world){
		"aggregator": func(w *world) { w.Restart("aggregator") },
		"gateway":    func(w *world) { w.stop() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			drains(t, stop, name == "aggregator")
		})
	}
}

func drains(t *testing.T, stop func(*world), again bool) {
	dir := t.TempDir()
	script := filepath.Join(dir, "slow")
	if err := os.WriteFile(script, []byte(slowServer), 0o755); err != nil {
		t.Fatal(err)
	}
	files := func(pattern string) int {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
	h := mcptest.NewHTTP(t, mcptest.Options{Era: mcptest.Legacy})
	w := startWith(t, guide, func(cfg *stack.Config) { cfg.Run = append(cfg.Run, "sh/slow="+script) },
		behind("web", h.URL), stdioServer("child", "sh/slow"), policies("permit(principal, action, resource);"))
	legacy, modern := w.developers()
	legacy.list(t, "tools") // opens its session
	stays := legacy.follow(t)

	type result struct {
		answer answer
		err    error
	}
	var running []chan result
	for _, c := range []*caller{legacy, modern} {
		for _, tool := range []string{"web_wait", "child_wait"} {
			await.That(t, tool+" is listed", func() bool { return strings.Contains(strings.Join(c.list(t, "tools"), " "), tool) })
			got := make(chan result, 1)
			running = append(running, got)
			r := c.message("tools/call", `"name":"`+tool+`","arguments":{}`, tool)
			go func() {
				a, err := w.try(r)
				got <- result{a, err}
			}()
		}
	}
	await.That(t, "all calls run", func() bool { return h.Count("tools/call", "wait") == 2 && files("arrived.*") == 2 })

	old := w.PID("aggregator")
	stop(w)
	await.That(t, "the aggregator takes no new calls", func() bool {
		conn, err := net.Dial("unix", w.Socket("aggregator"))
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	for range stays.events { // a stream is not waited for
	}
	if n := files("ended.*"); n > 0 || h.Count("notifications/cancelled", "") > 0 {
		t.Errorf("%d servers were stopped and %d calls cancelled before the calls ended", n, h.Count("notifications/cancelled", ""))
	}
	if w.PID("aggregator") != old {
		t.Fatal("the aggregator did not wait for its calls")
	}
	h.Release()
	if err := os.WriteFile(filepath.Join(dir, "release"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for i, c := range running {
		if got := <-c; got.err != nil || !got.answer.ok() || !strings.Contains(got.answer.body, "released") {
			t.Errorf("call %d: %d %s, %v", i, got.answer.status, got.answer.body, got.err)
		}
	}
	await.That(t, "the servers have ended, and the next aggregator runs if one should", func() bool {
		deleted := 0
		for _, r := range h.Requests() {
			if r.HTTP == "DELETE" {
				deleted++
			}
		}
		return (w.PID("aggregator") != old) == again && files("ended.*") >= 2 && deleted >= 2
	})
}
