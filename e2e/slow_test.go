package e2e

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"vmcp/internal/await"
	"vmcp/internal/mcptest"
	"vmcp/internal/mcpwire"
)

// TestSickBackends: one backend hangs, one fails, one is not there. Nobody waits for them but those who call them; and
// when they are well again, they are there, and clients are told. Another one hangs with an hour's limit: whoever waited
// for that would not come back here.
func TestSickBackends(t *testing.T) {
	t.Parallel()
	stuck := mcptest.NewHTTP(t, mcptest.Options{})
	stuck.SetFault(mcptest.Fault{Hang: true})
	hung := mcptest.NewHTTP(t, mcptest.Options{})
	hung.SetFault(mcptest.Fault{Hang: true})
	failing := mcptest.NewHTTP(t, mcptest.Options{})
	failing.SetFault(mcptest.Fault{Status: http.StatusInternalServerError})
	refusing := mcptest.NewHTTP(t, mcptest.Options{})
	refusing.Close()
	w := start(t, guide, behind("stuck", stuck.URL), behind("hung", hung.URL), behind("failing", failing.URL), behind("refusing", refusing.URL),
		config("operational:\n  timeouts: {default: 1s, perWorkload: {stuck: 1h}}\n  failureHandling: {healthCheckInterval: 2s}"))
	legacy, modern := w.developers()
	// healthy: everything but calls to the sick is as if they were well.
	healthy := func(t *testing.T, tools int) {
		t.Helper()
		w.open(t, legacy.token)
		if a := modern.ask(t, "server/discover", "", ""); !a.ok() {
			t.Errorf("server/discover: %d %s", a.status, a.body)
		}
		for _, c := range []*caller{legacy, modern} {
			for _, kind := range []string{"tools", "prompts", "resources", "templates"} {
				if got := c.list(t, kind); kind == "tools" && len(got) != tools {
					t.Errorf("%d tools are listed, want %d", len(got), tools)
				}
			}
			if a := c.call(t, allowedTool, `{"namespace":"shop"}`); !a.ok() {
				t.Errorf("%d %s", a.status, a.body)
			}
		}
	}
	const ours = 19
	each := len([]string{"echo", "progress", "log", "wait", "huge", "elicit"})
	sick := []string{"hung", "failing", "refusing"}

	// From the start: their names are not known, but might be theirs.
	healthy(t, ours)
	for _, c := range []*caller{legacy, modern} {
		for _, name := range append([]string{"stuck"}, sick...) {
			if a := c.call(t, name+"_echo", `{"text":"x"}`); a.status != 503 || a.code() != mcpwire.CodeInternal {
				t.Errorf("%s_echo: %d %s, want 503 -32603", name, a.status, a.body)
			}
		}
	}

	// They recover one after the other; whoever listens is told.
	get, listen := legacy.follow(t), modern.follow(t)
	listen.expect(t, "acknowledged")
	listed := func(name string) func() bool {
		return func() bool { return slices.Contains(legacy.list(t, "tools"), name+"_echo") }
	}
	hung.SetFault(mcptest.Fault{})
	get.expect(t, "notifications/tools/list_changed")
	if e := listen.expect(t, "notifications/tools/list_changed"); !strings.Contains(e, `"io.modelcontextprotocol/subscriptionId":1`) {
		t.Errorf("the listen was told %s", e)
	}
	await.That(t, "the hung backend is listed", listed("hung"))
	failing.SetFault(mcptest.Fault{})
	await.That(t, "the failing backend is listed", listed("failing"))
	refusing = refusing.Restart(t, mcptest.Options{})
	await.That(t, "the refusing backend is listed", listed("refusing"))
	healthy(t, ours+3*each)
	for _, c := range []*caller{legacy, modern} {
		for _, name := range sick {
			if a := c.call(t, name+"_echo", `{"text":"x"}`); !a.ok() {
				t.Errorf("%s_echo: %d %s", name, a.status, a.body)
			}
		}
	}

	// They fall ill again: their items stay, their calls end with an error that says so.
	hung.SetFault(mcptest.Fault{Hang: true})
	failing.SetFault(mcptest.Fault{Status: http.StatusInternalServerError})
	refusing.Close()
	text := map[string]string{"hung": "did not answer in time", "failing": "not available", "refusing": "not available"}
	for _, c := range []*caller{legacy, modern} {
		for _, name := range sick {
			done := make(chan answer, 1)
			r := c.message("tools/call", `"name":"`+name+`_echo","arguments":{"text":"x"}`, name+"_echo")
			go func() { a, _ := w.try(r); done <- a }()
			healthy(t, ours+3*each)
			a := <-done
			if e := a.reply().Error; a.status != 200 || a.code() != mcpwire.CodeInternal || !strings.Contains(e.Message, text[name]) {
				t.Errorf("%s_echo: %d %s, want -32603 … %s", name, a.status, a.body, text[name])
			}
		}
	}

	// And well again, in the same session.
	hung.SetFault(mcptest.Fault{})
	failing.SetFault(mcptest.Fault{})
	refusing.Restart(t, mcptest.Options{})
	for _, c := range []*caller{legacy, modern} {
		for _, name := range sick {
			await.That(t, name+" answers again", func() bool { return c.call(t, name+"_echo", `{"text":"x"}`).ok() })
		}
	}
}
