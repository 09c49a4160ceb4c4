package gateway

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vmcp/internal/keyring/keyringtest"
	"vmcp/internal/mcptest"
	"vmcp/internal/mcpwire"
	gatewayv1 "vmcp/proto/gateway/v1"
	"vmcp/services/aggregator/internal/backend"
)

func TestInitialize(t *testing.T) {
	w := newWorld(t, map[string]*mcptest.HTTP{"a": mcptest.NewHTTP(t, mcptest.Options{})})
	hello := func(params string) ask {
		return ask{caller: "ann@example.com", body: `{"jsonrpc":"2.0","id":"i","method":"initialize","params":{` + params + `}}`}
	}
	for version, want := range map[string]string{
		"2025-11-25": "2025-11-25", "2025-06-18": "2025-06-18", "2025-03-26": "2025-11-25", "2099-01-01": "2025-11-25", "2026-07-28": "2025-11-25",
	} {
		a := w.send(t, hello(`"protocolVersion":"`+version+`","capabilities":{},"clientInfo":{"name":"c","version":"1"}`))
		if a.status != 200 || !strings.HasPrefix(a.body, `{"jsonrpc":"2.0","id":"i","result":{"protocolVersion":"`+want+`","capabilities":{"tools":{"listChanged":true},`) {
			t.Errorf("%s: %d %s, want version %s", version, a.status, a.body, want)
		}
		if id := a.header.Get("Mcp-Session-Id"); id == "" || strings.Contains(id, "@") { // which no base64 has by chance
			t.Errorf("session id %q", id)
		}
	}
	for _, params := range []string{``, `"protocolVersion":5`, `"protocolVersion":"2025-11-25","capabilities":[]`, `"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":"me"`,
		`"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"` + strings.Repeat("n", maxHello) + `"}`} {
		if a := w.send(t, hello(params)); a.status != 400 || !strings.Contains(a.body, "-32602") || a.header.Get("Mcp-Session-Id") != "" {
			t.Errorf("%.80s: %d %.200s, want 400 -32602 and no session", params, a.status, a.body)
		}
	}
	// An icon of any size is no reason to refuse a client.
	icon := hello(`"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"c","version":"1","icons":[{"src":"data:` + strings.Repeat("i", 2*maxHello) + `"}]}`)
	if a := w.send(t, icon); a.status != 200 || len(a.header.Get("Mcp-Session-Id")) > 600 {
		t.Errorf("with an icon: %d, session id of %d bytes; want 200 and a short one", a.status, len(a.header.Get("Mcp-Session-Id")))
	}
}

// TestSession: an id is its owner's, on this replica and on any other with the same keys, until it is deleted.
func TestSession(t *testing.T) {
	probe := mcptest.NewHTTP(t, mcptest.Options{})
	w := newWorld(t, map[string]*mcptest.HTTP{"a": probe})
	id := w.open(t, "ann", "{}")
	ping := func(w *world, caller, id string) int {
		a := legacy(id, "1", "ping", "")
		a.caller = caller
		return w.send(t, a).status
	}
	if got := ping(w, "ann", id); got != 200 {
		t.Errorf("its owner: %d, want 200", got)
	}
	if got := ping(w, "bob", id); got != 404 {
		t.Errorf("another principal: %d, want 404", got)
	}
	if got := ping(w, "ann", ""); got != 400 {
		t.Errorf("no id: %d, want 400", got)
	}
	kid, text, _ := strings.Cut(id, ".")
	for _, bad := range []string{"x", kid, kid + ".", "other." + text, kid + "." + text[:len(text)-4], kid + ".AAAA", kid + "." + text + "AAAA", text, id + "=", strings.ToUpper(id)} {
		if got := ping(w, "ann", bad); got != 404 {
			t.Errorf("%q: %d, want 404", bad, got)
		}
	}
	for i := range text {
		flipped := text[:i] + string("AB"[min(1, strings.Count(text[i:i+1], "A"))]) + text[i+1:]
		if _, ok := w.sessions.unseal(kid + "." + flipped); ok {
			t.Fatalf("an id changed at %d is accepted", i)
		}
	}
	// A cursor is sealed with the same keys, and is no session.
	if got := ping(w, "ann", sealCursor(w.session, id, "p", mcpwire.ItemTool)); got != 404 {
		t.Errorf("a cursor as session: %d, want 404", got)
	}

	// The call opens a session at the backend; after a restart the next call opens another, with the same hello.
	if a := w.send(t, legacy(id, "1", "tools/call", toolCall("a_echo"))); !strings.Contains(a.body, `"hi"`) {
		t.Fatalf("call: %s", a.body)
	}
	again := newWorld(t, map[string]*mcptest.HTTP{"a": probe}, func(c *Config) { c.SealKeys, c.SessionKeys = w.sealKeys, w.session })
	again.sealKeys, again.session = w.sealKeys, w.session
	if got := ping(again, "bob", id); got != 404 {
		t.Errorf("another principal after the restart: %d, want 404", got)
	}
	probe.Reset()
	if a := again.send(t, legacy(id, "1", "tools/call", toolCall("a_echo"))); !strings.Contains(a.body, `"hi"`) {
		t.Errorf("call after the restart: %s", a.body)
	}
	var opened []string
	for _, r := range probe.Requests() {
		if r.Method == "initialize" {
			opened = append(opened, string(r.Body))
		}
	}
	if len(opened) != 1 || !strings.Contains(opened[0], `{"name":"client","version":"7"}`) {
		t.Errorf("the backend was greeted with %q, want once and with the client's name", opened)
	}

	// The owner's DELETE, and only that, ends it.
	if a := w.send(t, ask{verb: "DELETE", session: id, caller: "bob"}); a.status != 404 {
		t.Errorf("DELETE by another: %d, want 404", a.status)
	}
	if a := w.send(t, ask{verb: "DELETE", session: id}); a.status != 204 {
		t.Errorf("DELETE: %d, want 204", a.status)
	}
	for range 2 {
		if got := ping(w, "ann", id); got != 404 {
			t.Errorf("after DELETE: %d, want 404", got)
		}
	}
}

func TestVersionHeader(t *testing.T) {
	w := newWorld(t, map[string]*mcptest.HTTP{"a": mcptest.NewHTTP(t, mcptest.Options{})})
	id := w.open(t, "ann", "{}")
	for version, want := range map[string]int{"": 200, "2025-11-25": 200, "2025-06-18": 400} {
		a := legacy(id, "1", "ping", "")
		a.version = version
		if got := w.send(t, a); got.status != want {
			t.Errorf("%q: %d %s, want %d", version, got.status, got.body, want)
		}
	}
}

// openOne makes a session id without HTTP.
func openOne(t *testing.T, ss *sessions, principal string) string {
	t.Helper()
	id, err := ss.open(principal, mcpwire.Version20251125, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// TestAges: idle state is given up and comes back by the id, until the id is too old.
func TestAges(t *testing.T) {
	keys := keyringtest.New(t)
	synctest.Test(t, func(t *testing.T) {
		ss := newSessions(keys, nil)
		id := openOne(t, ss, "ann")
		if len(ss.live) != 0 {
			t.Error("state before the first use")
		}
		use := func() *session {
			s := ss.find(id, "ann")
			if s != nil {
				s.release()
			}
			return s
		}
		first := use()
		if first == nil || use() != first {
			t.Fatal("the session does not stay")
		}
		time.Sleep(sessionIdle)
		ss.reap(time.Now())
		if len(ss.live) != 1 {
			t.Error("given up too early")
		}
		held := ss.find(id, "ann")
		time.Sleep(sessionIdle + time.Second)
		ss.reap(time.Now())
		if len(ss.live) != 1 {
			t.Error("given up while in use")
		}
		held.release()
		time.Sleep(sessionIdle + time.Second)
		ss.reap(time.Now())
		if len(ss.live) != 0 || len(ss.owners) != 0 {
			t.Errorf("%d sessions of %d owners are kept idle", len(ss.live), len(ss.owners))
		}
		if second := use(); second == nil || second == first {
			t.Error("the id does not bring the session back")
		}

		ended := openOne(t, ss, "ann")
		ss.end(ss.find(ended, "ann"))
		time.Sleep(time.Until(first.expires) - time.Hour)
		if use() == nil {
			t.Error("too old too early")
		}
		time.Sleep(time.Hour + time.Second)
		if use() != nil {
			t.Error("an id lives longer than its age")
		}
		ss.reap(time.Now().Add(sessionAge))
		if len(ss.live) != 0 || len(ss.ended) != 0 {
			t.Errorf("%d sessions and %d ended ids are kept for ever", len(ss.live), len(ss.ended))
		}
	})
}

// TestLimit: of too many sessions of one principal the longest unused goes, never one in use, and nobody else's.
func TestLimit(t *testing.T) {
	ss := newSessions(keyringtest.New(t), nil)
	other := openOne(t, ss, "bob")
	ss.find(other, "bob").release()
	var ids []string
	for range perCaller {
		id := openOne(t, ss, "ann")
		ids = append(ids, id)
		ss.find(id, "ann").release()
	}
	busy := ss.find(ids[0], "ann") // now the most recent
	ss.find(openOne(t, ss, "ann"), "ann").release()
	if ss.live[ids[0]] != busy || ss.live[ids[1]] != nil || ss.live[other] == nil {
		t.Errorf("kept: the busy one %v, the longest unused %v, another's %v", ss.live[ids[0]] == busy, ss.live[ids[1]] != nil, ss.live[other] != nil)
	}
	if s := ss.find(ids[1], "ann"); s == nil || s.gone {
		t.Error("a session that was given up does not come back")
	}

	// With all of them busy the next one works all the same.
	ss = newSessions(keyringtest.New(t), nil)
	for range perCaller {
		ss.find(openOne(t, ss, "ann"), "ann")
	}
	if s := ss.find(openOne(t, ss, "ann"), "ann"); s == nil || s.gone || s.closed {
		t.Error("a session is given up at once because the others are busy")
	}
}

// TestDeleteWhileBusy: what runs in a session that is deleted runs on.
func TestDeleteWhileBusy(t *testing.T) {
	ss := newSessions(keyringtest.New(t), nil)
	id := openOne(t, ss, "ann")
	call, del := ss.find(id, "ann"), ss.find(id, "ann")
	ss.end(del)
	del.release()
	if call.closed {
		t.Error("closed under a call")
	}
	if ss.find(id, "ann") != nil {
		t.Error("found after its end")
	}
	call.release()
	if !call.closed {
		t.Error("not closed after the last use")
	}
}

// TestEndedBound: what DELETE leaves behind is small and bounded for each principal.
func TestEndedBound(t *testing.T) {
	ss := newSessions(keyringtest.New(t), nil)
	end := func(principal string) string {
		id := openOne(t, ss, principal)
		s := ss.find(id, principal)
		ss.end(s)
		s.release()
		return id
	}
	other := end("bob")
	last := ""
	for range maxEnded + 5 {
		last = end("ann")
	}
	if got := len(ss.ended["ann"]); got != maxEnded {
		t.Errorf("%d ended ids of one principal are kept, want %d", got, maxEnded)
	}
	if ss.find(last, "ann") != nil || ss.find(other, "bob") != nil {
		t.Error("an id is good after its end")
	}
	if len(ss.live) != 0 || len(ss.owners) != 0 {
		t.Errorf("%d sessions of %d owners stay after their end", len(ss.live), len(ss.owners))
	}
}

// TestAskedBound: of a backend that asks without end the oldest questions are given up, its own only.
func TestAskedBound(t *testing.T) {
	ss := newSessions(keyringtest.New(t), nil)
	s := ss.find(openOne(t, ss, "ann"), "ann")
	other := s.ask(new(backend.Session), backend.Origin{}, mcpwire.RawID("1"))
	first := s.ask(nil, backend.Origin{}, mcpwire.RawID("1"))
	var last mcpwire.RawID
	for range maxAsked {
		last = s.ask(nil, backend.Origin{}, mcpwire.RawID("1"))
	}
	for id, want := range map[string]bool{string(other): true, string(first): false, string(last): true} {
		if _, kept := s.asked[id]; kept != want {
			t.Errorf("question %s is kept: %v", id, kept)
		}
	}
	if len(s.asked) != maxAsked+1 {
		t.Errorf("%d questions are kept", len(s.asked))
	}
}

// FuzzSessionID: no text that we did not make is an id or a cursor.
func FuzzSessionID(f *testing.F) {
	keys := keyringtest.New(f)
	ss := newSessions(keys, nil)
	f.Add(fmt.Sprintf("%s.AAAA", keys.Newest().ID))
	f.Add(".")
	f.Fuzz(func(t *testing.T, id string) {
		if s := ss.find(id, ""); s != nil {
			t.Errorf("%q is a session", id)
		}
		if _, ok := openCursor(keys, id, "", mcpwire.ItemTool); ok {
			t.Errorf("%q is a cursor", id)
		}
	})
}

// TestInstructions: a backend's words reach only those who may use something of it.
func TestInstructions(t *testing.T) {
	w := newWorld(t, map[string]*mcptest.HTTP{"a": mcptest.NewHTTP(t, mcptest.Options{}), "b": mcptest.NewHTTP(t, mcptest.Options{})})
	for _, name := range []string{"a", "b"} {
		_, changed := w.inv.Next()
		w.override.Store(name, &backend.Listing{Capabilities: []byte(`{"tools":{}}`), Instructions: "words of " + name,
			Tools: []backend.Item{{Name: "t", Raw: []byte(`{"name":"t","inputSchema":{"type":"object"}}`)}}})
		w.announce(name)
		<-changed
	}
	only := func(prefix string) permissions {
		return func(r *gatewayv1.PermittedRequest) (*gatewayv1.PermittedResponse, error) {
			resp := &gatewayv1.PermittedResponse{View: "view of " + prefix}
			for i, it := range w.inv.Catalog().Items(mcpwire.ItemKind(r.Kind)) {
				if strings.HasPrefix(it.Name, prefix) {
					resp.Indexes = append(resp.Indexes, uint32(i))
				}
			}
			return resp, nil
		}
	}
	for _, prefix := range []string{"a_", "b_", "none"} {
		w.judgeBy(only(prefix))
		a := w.send(t, ask{change: func(d *gatewayv1.Decision) { d.View = "view of " + prefix }, body: `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}`})
		for _, name := range []string{"a", "b"} {
			if got, want := strings.Contains(a.body, "words of "+name), prefix == name+"_"; got != want {
				t.Errorf("who may use %q reads the words of %s: %v, want %v: %s", prefix, name, got, want, a.body)
			}
		}
	}
	// Known for a view, authz is not asked again.
	before := w.judged()
	w.judgeBy(only("a_"))
	a := w.send(t, ask{change: func(d *gatewayv1.Decision) { d.View = "view of a_" }, body: `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}`})
	if !strings.Contains(a.body, "words of a") || w.judged() != before {
		t.Errorf("asked %d times more: %s", w.judged()-before, a.body)
	}
}
