package gateway

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmcp/internal/mcptest"
)

// TestSetLevelSize: of a client's logging/setLevel the session keeps the level, and backends get nothing else later.
func TestSetLevelSize(t *testing.T) {
	a := mcptest.NewHTTP(t, mcptest.Options{Era: mcptest.Legacy})
	w := newWorld(t, map[string]*mcptest.HTTP{"a": a})
	id := w.open(t, "ann", "{}")
	if got := w.send(t, legacy(id, "1", "logging/setLevel", `"level":"error","padding":"`+strings.Repeat("p", 1<<20)+`"`)); got.status != 200 {
		t.Fatal(got.status)
	}
	a.Reset()
	if got := w.send(t, legacy(id, "2", "tools/call", toolCall("a_echo"))); !strings.Contains(got.body, `"hi"`) {
		t.Fatal(got)
	}
	for _, r := range a.Requests() {
		if r.Method == "logging/setLevel" && (len(r.Body) > 200 || !strings.Contains(string(r.Body), `{"level":"error"}`)) {
			t.Errorf("the backend got %d bytes: %.200s", len(r.Body), r.Body)
		}
	}
	if a.Count("logging/setLevel", "") != 1 {
		t.Error("the backend does not know the level")
	}
}

// TestSetLevel: the level reaches the backends that are open, and those opened later before their first call.
func TestSetLevel(t *testing.T) {
	a, b := mcptest.NewHTTP(t, mcptest.Options{Era: mcptest.Legacy}), mcptest.NewHTTP(t, mcptest.Options{Era: mcptest.Legacy})
	w := newWorld(t, map[string]*mcptest.HTTP{"a": a, "b": b})
	id := w.open(t, "ann", "{}")
	if got := w.send(t, legacy(id, "1", "logging/setLevel", `"level":"loud"`)); got.status != 200 || !strings.Contains(got.body, "-32602") {
		t.Errorf("level loud: %d %s, want -32602", got.status, got.body)
	}
	call := func(name string) {
		t.Helper()
		if got := w.send(t, legacy(id, "2", "tools/call", toolCall(name))); !strings.Contains(got.body, `"hi"`) {
			t.Fatalf("%s: %s", name, got.body)
		}
	}
	call("a_echo")
	if got := w.send(t, legacy(id, "3", "logging/setLevel", `"level":"warning"`)); got.body != `{"jsonrpc":"2.0","id":3,"result":{}}` {
		t.Errorf("setLevel: %s", got.body)
	}
	if got := []int{a.Count("logging/setLevel", ""), b.Count("logging/setLevel", "")}; !cmp.Equal(got, []int{1, 0}) {
		t.Errorf("the backends were told %v times, want the open one", got)
	}
	b.Reset()
	call("b_echo")
	var methods []string
	for _, r := range b.Requests() {
		if r.HTTP == "POST" && r.Method != "notifications/initialized" && r.Method != "server/discover" {
			methods = append(methods, r.Method)
		}
	}
	if diff := cmp.Diff([]string{"initialize", "logging/setLevel", "tools/call"}, methods); diff != "" {
		t.Errorf("the backend that opened later saw (-want +got):\n%s", diff)
	}
}
