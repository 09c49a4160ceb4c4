package gateway

import (
	"slices"
	"strings"
	"testing"

	"vmcp/internal/await"
	"vmcp/internal/mcptest"
	"vmcp/internal/mcpwire"
	gatewayv1 "vmcp/proto/gateway/v1"
)

// TestListenToResources: a modern client hears of changes of the resources that it named and may read, of a legacy
// backend, under its own subscription; the backend hears when nobody listens any more.
func TestListenToResources(t *testing.T) {
	h := mcptest.NewRaw(t, mcptest.Legacy, map[string]mcptest.Answer{
		"initialize": {Header: map[string]string{"Mcp-Session-Id": "raw-N"},
			Body: `{"jsonrpc":"2.0","id":ID,"result":{"protocolVersion":"2025-11-25","capabilities":{"resources":{"subscribe":true}}}}`},
		"GET":                   {Type: "text/event-stream", Hold: true},
		"resources/list":        mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"result":{"resources":[{"uri":"test://a","name":"a"},{"uri":"test://secret","name":"s"}]}}`),
		"resources/subscribe":   mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"result":{}}`),
		"resources/unsubscribe": mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"result":{}}`),
	})
	deaf := mcptest.NewRaw(t, mcptest.Legacy, map[string]mcptest.Answer{
		"resources/list": mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"result":{"resources":[{"uri":"test://deaf","name":"d"}]}}`)})
	w := newWorld(t, map[string]*mcptest.HTTP{"a": h, "deaf": deaf})
	if got := w.send(t, modern("1", "server/discover", "")); !strings.Contains(got.body, `"subscribe":true`) {
		t.Errorf("discover says %s", got.body)
	}
	w.judgeBy(func(r *gatewayv1.PermittedRequest) (*gatewayv1.PermittedResponse, error) {
		resp := &gatewayv1.PermittedResponse{PolicyRevision: "rev-1", View: "view-1"}
		for i, name := range r.Names {
			if mcpwire.ItemKind(r.Kind) == mcpwire.ItemResource && name != "test://secret" {
				resp.Indexes = append(resp.Indexes, uint32(i))
			}
		}
		return resp, nil
	})
	s := w.stream(t, listen(`"l"`, `"resourceSubscriptions":["test://secret","test://a","test://deaf","test://none","test://a"]`))
	const meta = `"_meta":{"io.modelcontextprotocol/subscriptionId":"l"}`
	if got, want := s.message(t), `{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"notifications":{"resourceSubscriptions":["test://a"]},`+meta+`}}`; got != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
	var session string
	await.That(t, "the backend is asked", func() bool {
		i := slices.IndexFunc(h.Requests(), func(r mcptest.Request) bool { return r.Method == "resources/subscribe" })
		if i >= 0 {
			session = h.Requests()[i].Header.Get("Mcp-Session-Id")
		}
		return i >= 0
	})
	for _, uri := range []string{"test://secret", "test://a"} {
		h.Push(t, session, `{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"`+uri+`","_meta":{"v":1}}}`)
	}
	if got, want := s.message(t), `{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"test://a","_meta":{"io.modelcontextprotocol/subscriptionId":"l","v":1}}}`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	s.cancel()
	await.That(t, "the backend is told that nobody listens", func() bool { return h.Count("resources/unsubscribe", "test://a") == 1 })
	if h.Count("resources/subscribe", "") != 1 || deaf.Count("resources/subscribe", "") != 0 {
		t.Error("a backend was asked for what nobody may have, or for what it does not do")
	}
}

// TestLetters: what waits for a stream has a bound of number and bytes, and room comes back.
func TestLetters(t *testing.T) {
	l := newLetters()
	half := make([]byte, maxMailbags/2)
	for i, want := range []bool{true, true, false} {
		if got := l.put(half); got != want {
			t.Errorf("half a bag, %d: %v", i, got)
		}
	}
	l.taken(<-l.box)
	if !l.put(half) {
		t.Error("there is no room where some was made")
	}
	l = newLetters()
	for range maxLetters {
		if !l.put([]byte("x")) {
			t.Fatal("too few fit")
		}
	}
	if l.put([]byte("x")) || l.held.Load() != maxLetters {
		t.Errorf("too many fit, or %d bytes are held", l.held.Load())
	}
}
