package gateway

import (
	"strings"
	"testing"

	"vmcp/internal/await"
	"vmcp/internal/mcptest"
	"vmcp/services/aggregator/internal/backend"
)

// TestNoServer: where no server could ever be listed, lists are an error and not empty (AG-20); initialize works.
func TestNoServer(t *testing.T) {
	a, b := mcptest.NewHTTP(t, mcptest.Options{}), mcptest.NewHTTP(t, mcptest.Options{})
	a.Close()
	b.Close()
	w := startWorld(t, map[string]backend.Config{"a": overHTTP(a.URL), "b": overHTTP(b.URL)})
	id := w.open(t, "ann", "{}")
	for _, method := range []string{"tools/list", "prompts/list", "resources/list", "resources/templates/list"} {
		for _, ask := range []ask{modern("1", method, ""), legacy(id, "1", method, "")} {
			await.That(t, "it is an error", func() bool {
				got := w.send(t, ask)
				return got.status == 200 && strings.Contains(got.body, "-32603") && strings.Contains(got.body, "no server behind this gateway")
			})
		}
	}
	b.Restart(t, mcptest.Options{})
	await.That(t, "one that comes is enough", func() bool {
		w.announce("b")
		return strings.Contains(w.send(t, modern("1", "tools/list", "")).body, "b_echo")
	})
}

// TestNeedsAll: with partialFailureMode: fail lists are errors while a server cannot be listed, and only then.
func TestNeedsAll(t *testing.T) {
	a, b := mcptest.NewHTTP(t, mcptest.Options{}), mcptest.NewHTTP(t, mcptest.Options{})
	var all *still
	w := newWorld(t, map[string]*mcptest.HTTP{"a": a, "b": b}, func(c *Config) { all = c.Fleet.(*still) })
	listed := func() bool {
		got := w.send(t, modern("1", "tools/list", ""))
		if !strings.Contains(got.body, "b_echo") && !strings.Contains(got.body, "partialFailureMode: fail") {
			t.Errorf("%d %s", got.status, got.body)
		}
		return strings.Contains(got.body, "b_echo")
	}
	a.SetFault(mcptest.Fault{Status: 500})
	w.announce("a")
	await.That(t, "a is failing", func() bool { return w.inv.Failing() == 1 })
	if !listed() {
		t.Error("nobody asked for all")
	}
	all.state.Aggregator.NeedsAll = true
	if listed() {
		t.Error("one is missing, and there is a list all the same")
	}
	if got := w.send(t, modern("1", "tools/call", toolCall("b_echo"))); !strings.Contains(got.body, `"result"`) {
		t.Errorf("a call of the other: %s", got.body)
	}
	a.SetFault(mcptest.Fault{})
	await.That(t, "both are there again", listed)
}
