package e2e

import (
	"slices"
	"strings"
	"testing"

	"vmcp/internal/await"
	"vmcp/internal/mcptest"
	"vmcp/internal/stack"
)

// TestBreaker: a server that fails calls again and again is left alone, which status and metrics tell, until one call
// that is tried succeeds. Others are not concerned.
func TestBreaker(t *testing.T) {
	t.Parallel()
	sick := mcptest.NewHTTP(t, mcptest.Options{})
	w := start(t, guide, behind("sick", sick.URL),
		config("operational:\n  failureHandling:\n    circuitBreaker: {enabled: true, failureThreshold: 2, timeout: 1s}"))
	_, c := w.developers()
	call := func() answer { return c.call(t, "sick_echo", `{"text":"x"}`) }
	await.That(t, "it is well", func() bool { return call().ok() })
	sick.SetFault(mcptest.Fault{Method: "tools/call", Status: 500})
	await.That(t, "it is left alone", func() bool { return strings.Contains(call().body, "left alone for a while") })
	if a := c.call(t, allowedTool, `{"namespace":"shop"}`); !a.ok() {
		t.Errorf("another server: %d %s", a.status, a.body)
	}
	await.That(t, "status tells", func() bool {
		call() // which keeps it open
		st, err := stack.FetchStatus(t.Context(), w.State)
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(st.Backends, func(b stack.Backend) bool { return b.Backend == "sick" })
		b := st.Backends[i]
		return b.Breaker == "open" && b.State == "listed" && b.Failures > 1 && b.Calls > b.Failures && b.Latency > 0 && b.Era != "" && b.LastError != ""
	})
	metrics := w.page(t, "aggregator", "/metrics")
	for _, want := range []string{`vmcp_backend_up{backend="sick"} 1`, `vmcp_backend_calls_total{backend="sick",outcome="unavailable"} `,
		`vmcp_backend_calls_total{backend="sick",outcome="answered"} `, `vmcp_backend_call_seconds_bucket{backend="sick",`, `vmcp_backend_items{backend="sick",kind="tool"} 6`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics have no %s", want)
		}
	}
	sick.SetFault(mcptest.Fault{})
	await.That(t, "it is well again", func() bool { return call().ok() })
}
