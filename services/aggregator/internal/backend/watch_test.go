package backend

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"vmcp/internal/await"
	"vmcp/internal/mcptest"
	"vmcp/internal/mcpwire"
)

const (
	okay         = `{"jsonrpc":"2.0","id":ID,"result":{}}`
	tellsChanges = `"capabilities":{"logging":{},"tools":{"listChanged":true},"resources":{"subscribe":true,"listChanged":true}}`
	acknowledged = `data: {"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"notifications":{}}}` + "\n\n"
)

// watching is a raw server of that era which tells of changes.
func watching(t *testing.T, era mcptest.Era) *mcptest.HTTP {
	return mcptest.NewRaw(t, era, map[string]mcptest.Answer{
		"initialize": {Header: map[string]string{"Mcp-Session-Id": "raw-N"},
			Body: `{"jsonrpc":"2.0","id":ID,"result":{"protocolVersion":"2025-11-25",` + tellsChanges + `}}`},
		"server/discover": map[mcptest.Era]mcptest.Answer{
			mcptest.Legacy: {Status: 404},
			mcptest.Modern: mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"result":{"supportedVersions":["2026-07-28"],` + tellsChanges + `}}`)}[era],
		"logging/setLevel":      mcptest.JSON(okay),
		"resources/subscribe":   mcptest.JSON(okay),
		"resources/unsubscribe": mcptest.JSON(okay),
		"tools/list":            mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"result":{"tools":[]}}`),
		"tools/call":            mcptest.JSON(okay),
		"GET":                   {Type: "text/event-stream", Hold: true},
		"subscriptions/listen":  {Type: "text/event-stream", Hold: true, Body: acknowledged},
	})
}

// saw says whether the server got a request with these parts, in that session where one is named.
func saw(h *mcptest.HTTP, session string, parts ...string) bool {
	return slices.ContainsFunc(h.Requests(), func(r mcptest.Request) bool {
		return (session == "" || r.Header.Get("Mcp-Session-Id") == session) &&
			!slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(r.HTTP+" "+string(r.Body), part) })
	})
}

func subscribeTo(t *testing.T, s *Session, method, uri string) {
	t.Helper()
	got, err := do(s, request(t, mcpwire.EraLegacy, "1", method, uri, `"uri":"`+uri+`"`, ""))
	if err != nil || len(got) != 1 || got[0] != `{"jsonrpc":"2.0","id":1,"result":{}}` {
		t.Fatalf("%s: got %s, %v", method, got, err)
	}
}

const changed = `{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"test://a"}}`

// TestWatchedAgain: what a session wanted of a backend is wanted of the next link too, without a call of the client; a
// session in which resources are watched is not idle.
func TestWatchedAgain(t *testing.T) {
	h := watching(t, mcptest.Legacy)
	b := startHTTP(t, h.URL)
	told := make(chan string, 8)
	s := b.Session(SessionOptions{Era: mcpwire.EraLegacy, Key: "k", OnMessage: func(r mcpwire.Reply, _ Origin) { told <- string(r.Body.Text) }})
	defer s.Close()
	s.SetLevel(t.Context(), "error")
	for _, uri := range []string{"test://a", "test://b"} {
		subscribeTo(t, s, "resources/subscribe", uri)
	}
	subscribeTo(t, s, "resources/unsubscribe", "test://b")
	if !saw(h, "raw-1", `"logging/setLevel"`, `"error"`) || !saw(h, "raw-1", `"resources/unsubscribe"`, `test://b`) {
		t.Fatalf("the first session saw %v", methods(h))
	}
	s.conn.drop(nil, whyLost)
	await.That(t, "a session is open again and its stream", func() bool { return saw(h, "raw-2", "GET ") })
	if !saw(h, "raw-2", `"logging/setLevel"`, `"error"`) || !saw(h, "raw-2", `"resources/subscribe"`, `test://a`) || saw(h, "raw-2", `test://b`) {
		t.Errorf("the second session saw %v", methods(h))
	}
	h.Push(t, "raw-2", changed)
	if got := <-told; got != changed {
		t.Errorf("the client got %s", got)
	}
}

// TestWatchModern: one subscription with a modern backend for lists, and one for each session that watches resources,
// renewed with what is watched now.
func TestWatchModern(t *testing.T) {
	h := watching(t, mcptest.Modern)
	b := startHTTP(t, h.URL)
	if _, err := b.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	await.That(t, "lists are subscribed to", func() bool {
		return saw(h, "", `"subscriptions/listen"`, `"notifications":{"toolsListChanged":true,"resourcesListChanged":true}`)
	})
	h.Push(t, "", `{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":1}}}`)
	<-b.Changed()
	b.lister.drop(nil, whyEnded) // its stream would take what is pushed to the others
	told := make(chan string, 8)
	s := b.Session(SessionOptions{Era: mcpwire.EraLegacy, Key: "k", OnMessage: func(r mcpwire.Reply, _ Origin) { told <- string(r.Body.Text) }})
	defer s.Close()
	subscribeTo(t, s, "resources/subscribe", "test://b")
	subscribeTo(t, s, "resources/subscribe", "test://a")
	await.That(t, "both are subscribed to", func() bool { return saw(h, "", `"resourceSubscriptions":["test://a","test://b"]`) })
	subscribeTo(t, s, "resources/unsubscribe", "test://b")
	await.That(t, "one is", func() bool { return saw(h, "", `"resourceSubscriptions":["test://a"]`) })
	if saw(h, "", `"resources/subscribe"`) || saw(h, "", `"resources/unsubscribe"`) {
		t.Errorf("a modern backend saw %v", methods(h))
	}
}

// TestWithoutReserved: what a modern backend writes for the hop is not the client's.
func TestWithoutReserved(t *testing.T) {
	r, err := mcpwire.ParseReply([]byte(`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"a:b","_meta":{"io.modelcontextprotocol/subscriptionId":3,"v":1}}}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(withoutReserved(r).Body.Text); got != `{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"a:b","_meta":{"v":1}}}` {
		t.Errorf("got %s", got)
	}
}

// TestWatchShared: of several who share a session each is told of what it watches, and the backend keeps telling as long
// as anybody does.
func TestWatchShared(t *testing.T) {
	h := watching(t, mcptest.Legacy)
	b := startHTTP(t, h.URL)
	told := map[string]chan string{"ann": make(chan string, 8), "bob": make(chan string, 8)}
	sessions := map[string]*Session{}
	for name, c := range told {
		sessions[name] = b.Session(SessionOptions{Era: mcpwire.EraModern, Key: "one", OnUpdated: func(r mcpwire.Reply) { c <- string(r.Body.Text) }})
		if err := sessions[name].Watch(t.Context(), "test://a"); err != nil {
			t.Fatal(err)
		}
	}
	if err := sessions["bob"].Watch(t.Context(), "test://b"); err != nil {
		t.Fatal(err)
	}
	h.Push(t, "raw-1", changed)
	for name, c := range told {
		if got := <-c; got != changed {
			t.Errorf("%s got %s", name, got)
		}
	}
	sessions["bob"].Close()
	await.That(t, "nobody watches b", func() bool { return saw(h, "raw-1", `"resources/unsubscribe"`, "test://b") })
	if saw(h, "raw-1", `"resources/unsubscribe"`, "test://a") {
		t.Error("the backend tells ann no more")
	}
	h.Push(t, "raw-1", changed)
	if got := <-told["ann"]; got != changed || len(told["bob"]) > 0 {
		t.Errorf("ann got %s, bob %d more", got, len(told["bob"]))
	}
	sessions["ann"].Close()
}

// TestHasNone: which refusals of a stream pass.
func TestHasNone(t *testing.T) {
	for status, none := range map[int]bool{400: true, 401: false, 403: false, 404: true, 405: true, 406: true, 408: false, 429: false,
		500: false, 501: true, 502: false, 503: false} {
		err := &Error{Kind: ErrUnavailable, Err: &statusError{status: status}}
		if got := hasNone(err); got != none {
			t.Errorf("%d %s: %v", status, http.StatusText(status), got)
		}
	}
}
