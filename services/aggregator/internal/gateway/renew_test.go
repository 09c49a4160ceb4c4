package gateway

import (
	"slices"
	"strings"
	"testing"

	"vmcp/internal/await"
	"vmcp/internal/mcptest"
)

// watchable is a server with one resource, which tells of its changes.
func watchable(t *testing.T, more map[string]mcptest.Answer) *mcptest.HTTP {
	t.Helper()
	answers := map[string]mcptest.Answer{
		"initialize": {Header: map[string]string{"Mcp-Session-Id": "raw-N"},
			Body: `{"jsonrpc":"2.0","id":ID,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{},"logging":{},"resources":{"subscribe":true}}}}`},
		"GET":                 {Type: "text/event-stream", Hold: true},
		"tools/list":          mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"result":{"tools":[{"name":"slow","inputSchema":{"type":"object"}}]}}`),
		"resources/list":      mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"result":{"resources":[{"uri":"test://a","name":"a"}]}}`),
		"resources/subscribe": mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"result":{}}`),
		"logging/setLevel":    mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"result":{}}`),
		"tools/call":          {Type: "text/event-stream", Hold: true},
	}
	for method, a := range more {
		answers[method] = a
	}
	return mcptest.NewRaw(t, mcptest.Legacy, answers)
}

// sessionOf is the session in which a server got this request, empty before it did.
func sessionOf(h *mcptest.HTTP, method string) string {
	i := slices.IndexFunc(h.Requests(), func(r mcptest.Request) bool { return r.Method == method })
	if i < 0 {
		return ""
	}
	return h.Requests()[i].Header.Get("Mcp-Session-Id")
}

// TestReplacedBackend: what clients want of a backend they want of the one that takes its place: watched resources, log
// level, and the stream on which it asks and tells. A call in progress stays where it is, and can be cancelled there.
func TestReplacedBackend(t *testing.T) {
	was, is := watchable(t, nil), watchable(t, nil)
	var all *still
	w := newWorld(t, map[string]*mcptest.HTTP{"a": was}, func(c *Config) { all = c.Fleet.(*still) })
	const updated = `{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"test://a"}}`

	id := w.open(t, "ann", "{}")
	stream := w.get(t, id, nil)
	if got := w.send(t, legacy(id, "1", "logging/setLevel", `"level":"error"`)); got.status != 200 {
		t.Fatal(got)
	}
	if got := w.send(t, legacy(id, "2", "resources/subscribe", `"uri":"test://a"`)); got.status != 200 || !strings.Contains(got.body, `"result"`) {
		t.Fatal(got)
	}
	modern := w.stream(t, listen(`"l"`, `"resourceSubscriptions":["test://a"]`))
	modern.message(t) // acknowledged
	await.That(t, "both watch", func() bool { return was.Count("resources/subscribe", "test://a") == 2 })
	call := make(chan answer, 1)
	go func() { call <- w.send(t, legacy(id, "3", "tools/call", toolCall("a_slow"))) }()
	await.That(t, "the call runs", func() bool { return was.Saw("slow") })

	all.become(t, "a", is.URL)
	await.That(t, "both watch there", func() bool { return is.Count("resources/subscribe", "test://a") == 2 })
	await.That(t, "the level is told there", func() bool { return is.Count("logging/setLevel", "") > 0 })
	is.Push(t, sessionOf(is, "logging/setLevel"), updated)
	if got := stream.message(t); got != updated {
		t.Errorf("the legacy client hears %s", got)
	}
	for _, r := range is.Requests() {
		if r.Method == "resources/subscribe" && r.Header.Get("Mcp-Session-Id") != sessionOf(is, "logging/setLevel") {
			is.Push(t, r.Header.Get("Mcp-Session-Id"), updated)
		}
	}
	if got := modern.message(t); !strings.Contains(got, "resources/updated") {
		t.Errorf("the modern client hears %s", got)
	}

	if got := w.send(t, ask{session: id, body: `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":3}}`}); got.status != 202 {
		t.Error(got)
	}
	await.That(t, "the old server hears of the cancel", func() bool { return was.Count("notifications/cancelled", "") == 1 })
	<-call
	if is.Saw("slow") {
		t.Error("the call was made twice")
	}
}
