package e2e

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"vmcp/internal/await"
	"vmcp/internal/mcptest"
	"vmcp/internal/mcpwire"
)

// exchange is a request whose answer comes as a stream of messages.
type exchange struct {
	lines *bufio.Scanner
}

func (c *caller) start(t *testing.T, r request) *exchange {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), await.Limit)
	t.Cleanup(cancel)
	req, err := c.w.http(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := plain.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return &exchange{bufio.NewScanner(resp.Body)}
}

// next is the next message; empty at the end.
func (x *exchange) next() string {
	for x.lines.Scan() {
		if text := strings.TrimPrefix(x.lines.Text(), "data: "); strings.HasPrefix(text, "{") {
			return text
		}
	}
	return ""
}

// TestConversation: what a call may do besides giving a result. The backend speaks both eras, as the client does.
func TestConversation(t *testing.T) {
	t.Parallel()
	for _, era := range []mcptest.Era{mcptest.Legacy, mcptest.Modern} {
		who := map[mcptest.Era]string{mcptest.Legacy: "legacy", mcptest.Modern: "modern"}[era]
		t.Run(who, func(t *testing.T) {
			var cutOff atomic.Int32 // calls whose connection was closed before their end
			h := mcptest.NewHTTP(t, mcptest.Options{Era: era, Wrap: func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					next.ServeHTTP(w, r)
					if r.Method == "POST" && r.Context().Err() != nil {
						cutOff.Add(1)
					}
				})
			}})
			w := start(t, guide, behind("probe", h.URL))
			legacy, modern := w.developers()
			c := legacy
			if era == mcptest.Modern {
				c = modern
			}
			if a := c.call(t, "probe_echo", `{"text":"é"}`); !a.ok() || !strings.Contains(a.body, "é") {
				t.Fatalf("%d %s", a.status, a.body)
			}
			t.Run("progress", func(t *testing.T) {
				r := c.message("tools/call", `"name":"probe_progress","arguments":{"count":3},"_meta":{"progressToken":"my\u0041"}`, "probe_progress")
				if c.modern {
					r.body = strings.Replace(strings.Replace(r.body, ","+meta, "", 1), `"_meta":{`, strings.TrimSuffix(meta, "}")+",", 1)
				}
				x := c.start(t, r)
				for i := range 3 {
					if m := x.next(); !strings.Contains(m, `"notifications/progress"`) || !strings.Contains(m, `"progressToken":"my\u0041"`) || !strings.Contains(m, fmt.Sprintf(`"progress":%d`, i+1)) {
						t.Errorf("message %d is %s", i, m)
					}
				}
				if m := x.next(); !strings.Contains(m, `"result"`) || !strings.Contains(m, `"id":1`) {
					t.Errorf("the last message is %s", m)
				}
			})
			t.Run("a client that goes away", func(t *testing.T) {
				wait := c.message("tools/call", `"name":"probe_wait","arguments":{}`, "probe_wait")
				wait.body = strings.Replace(wait.body, `"id":1`, `"id":"w"`, 1)
				giveUp := c.ring(t, wait)
				await.That(t, "the call runs", func() bool { return h.Count("tools/call", "wait") == 1 })
				giveUp()
				if c.modern { // closing is the cancel (HM-8)
					await.That(t, "the backend is told", func() bool { return cutOff.Load() == 1 })
					return
				}
				// A legacy call runs on (HL-6), until it is cancelled in words.
				if a := c.call(t, "probe_echo", `{"text":"x"}`); !a.ok() || cutOff.Load() != 0 || h.Count("notifications/cancelled", "") != 0 {
					t.Errorf("the call was cancelled; %d %s", a.status, a.body)
				}
				cancelled := `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"w","reason":"enough"}}`
				if a := w.send(t, request{token: c.token, session: c.session, body: cancelled}); a.status != 202 {
					t.Errorf("cancelled: %d %s", a.status, a.body)
				}
				await.That(t, "the backend is told", func() bool { return h.Count("notifications/cancelled", "") == 1 })
			})
			t.Run("a question", func(t *testing.T) {
				if c.modern {
					modernQuestion(t, c)
				} else {
					legacyQuestion(t, w, "probe")
				}
			})
			t.Run("a large result", func(t *testing.T) {
				a := c.call(t, "probe_huge", `{"count":3000000}`)
				if !a.ok() || len(a.body) < 3_000_000 {
					t.Errorf("%d, %d bytes", a.status, len(a.body))
				}
			})
			t.Run("a completion", func(t *testing.T) {
				a := c.ask(t, "completion/complete", `"ref":{"type":"ref/prompt","name":"probe_nothing"},"argument":{"name":"x","value":""}`, "")
				if !denied(a, mcpwire.ItemPrompt, "probe_nothing") {
					t.Errorf("about what is not there: %d %s", a.status, a.body)
				}
			})
			t.Run("a template", func(t *testing.T) {
				if a := c.read(t, "test://items/7"); !a.ok() || !strings.Contains(a.body, "content of test://items/7") {
					t.Errorf("%d %s", a.status, a.body)
				}
				if a := c.read(t, "test://other/7"); !denied(a, mcpwire.ItemResource, "test://other/7") {
					t.Errorf("%d %s", a.status, a.body)
				}
			})
		})
	}
}

// ring sends a request whose answer does not come; giveUp closes the connection.
func (c *caller) ring(t *testing.T, r request) (giveUp func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	req, err := c.w.http(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if resp, err := plain.Do(req); err == nil {
			resp.Body.Close()
		}
	}()
	return func() { cancel(); <-done }
}

// legacyQuestion: the client is asked in the middle of a call, whatever the era of the backend. The answer is taken from
// the one who was asked, and from nobody else.
func legacyQuestion(t *testing.T, w *world, backend string) {
	ann := &caller{w: w, token: w.token("ann", "mcp-developers")}
	open := func(token string) string {
		a := w.send(t, request{token: token, body: strings.Replace(initialize, `"capabilities":{}`, `"capabilities":{"elicitation":{}}`, 1)})
		if a.status != 200 {
			t.Fatalf("%d %s", a.status, a.body)
		}
		return a.header.Get("Mcp-Session-Id")
	}
	ann.session = open(ann.token)
	x := ann.start(t, ann.message("tools/call", `"name":"`+backend+`_elicit","arguments":{}`, backend+"_elicit"))
	var question struct {
		ID     json.RawMessage
		Method string
	}
	text := x.next()
	if err := json.Unmarshal([]byte(text), &question); err != nil || question.Method != "elicitation/create" || !strings.Contains(text, backend+" asks: Really?") {
		t.Fatalf("asked %s", text)
	}
	answer := func(action string) string {
		return `{"jsonrpc":"2.0","id":` + string(question.ID) + `,"result":{"action":"` + action + `","content":{"confirm":true}}}`
	}
	bob := w.token("bob", "mcp-developers")
	if a := w.send(t, request{token: bob, session: ann.session, body: answer("accept")}); a.status != 404 {
		t.Errorf("another person's answer: %d %s, want 404", a.status, a.body)
	}
	for _, session := range []string{open(bob), open(ann.token)} { // dropped: there the question was not asked
		token := bob
		if a := w.send(t, request{token: token, session: session, body: answer("accept")}); a.status != 202 && a.status != 404 {
			t.Errorf("an answer in another session: %d %s", a.status, a.body)
		}
	}
	if a := w.send(t, request{token: ann.token, session: ann.session, body: answer("decline")}); a.status != 202 {
		t.Errorf("the answer: %d %s", a.status, a.body)
	}
	if m := x.next(); !strings.Contains(m, "answer: decline") {
		t.Errorf("the call ended with %s", m)
	}
}

// modernQuestion: the backend answers with what it needs, the client calls again with that.
func modernQuestion(t *testing.T, c *caller) {
	able := func(params string) answer {
		r := c.message("tools/call", params, "probe_elicit")
		r.body = strings.Replace(r.body, `clientCapabilities":{}`, `clientCapabilities":{"elicitation":{"form":{}}}`, 1)
		return c.w.send(t, r)
	}
	a := able(`"name":"probe_elicit","arguments":{}`)
	var result struct {
		ResultType   string
		RequestState json.RawMessage
	}
	if err := json.Unmarshal(a.reply().Result, &result); err != nil || result.ResultType != "input_required" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	a = able(`"name":"probe_elicit","arguments":{},"requestState":` + string(result.RequestState) +
		`,"inputResponses":{"confirm":{"action":"accept","content":{"confirm":true}}}`)
	if !a.ok() || !strings.Contains(a.body, "answer: accept") {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestTemplates: a template is judged by the URI that is read, not by its own form.
func TestTemplates(t *testing.T) {
	h := mcptest.NewHTTP(t, mcptest.Options{})
	w := start(t, guide, without("github-backend"), without("kubernetes-backend"), behind("probe", h.URL),
		policies(`permit(principal in THVGroup::"readers", action == Action::"read_resource", resource == Resource::"test://items/1");`))
	token := w.token("rita", "readers")
	for _, c := range []*caller{{w: w, token: token}, {w: w, token: token, modern: true}} {
		if a := c.read(t, "test://items/1"); !a.ok() {
			t.Errorf("%d %s", a.status, a.body)
		}
		h.Reset()
		for _, uri := range []string{"test://items/2", "test://items/1/../2", "test://items/%31", "test://items/1?x", "TEST://items/1", "test://items/{id}", "test://hello"} {
			if a := c.read(t, uri); !denied(a, mcpwire.ItemResource, uri) {
				t.Errorf("%s: %d %s", uri, a.status, a.body)
			}
		}
		if got := asked(h); len(got) > 0 {
			t.Errorf("the backend was asked for %q", got)
		}
	}
}

// TestQuestionAcrossEras: a client of 2025 is asked what a server of 2026 asks by its result. The other way round nobody
// can be asked: the call gets a defined end, and the tool runs once.
func TestQuestionAcrossEras(t *testing.T) {
	old, modernOnly := mcptest.NewHTTP(t, mcptest.Options{Era: mcptest.Legacy}), mcptest.NewHTTP(t, mcptest.Options{Era: mcptest.Modern})
	w := start(t, guide, behind("old", old.URL), behind("new", modernOnly.URL))
	legacy, modern := w.developers()
	legacy.session = w.open(t, legacy.token)
	for _, c := range []struct {
		who     *caller
		name    string
		backend *mcptest.HTTP
	}{{legacy, "new", modernOnly}, {modern, "old", old}} {
		if a := c.who.call(t, c.name+"_echo", `{"text":"x"}`); !a.ok() || !strings.Contains(a.body, `"x"`) {
			t.Errorf("%s_echo: %d %s", c.name, a.status, a.body)
		}
		if c.who == legacy {
			continue
		}
		a := c.who.call(t, c.name+"_elicit", `{}`)
		if a.status != 200 || a.reply().Error == nil && !strings.Contains(a.body, `"isError":true`) {
			t.Errorf("%s_elicit: %d %s, want an error", c.name, a.status, a.body)
		}
		if n := c.backend.Count("tools/call", "elicit"); n != 1 {
			t.Errorf("%s ran the tool %d times", c.name, n)
		}
	}
	legacyQuestion(t, w, "new")
	if n := modernOnly.Count("tools/call", "elicit"); n != 2 {
		t.Errorf("the modern server was called %d times, want once, and once more with the answer", n)
	}
}

// TestSameIDs: clients that use the same ids and tokens at the same backend get their own answers, and so does one that
// uses an id twice at a time, which it must not.
func TestSameIDs(t *testing.T) {
	h := mcptest.NewHTTP(t, mcptest.Options{})
	w := start(t, guide, behind("probe", h.URL))
	var wg sync.WaitGroup
	for i := range 24 {
		c := &caller{w: w, token: w.token(fmt.Sprintf("person-%d", i/4), "mcp-developers"), modern: i%2 == 0}
		if !c.modern {
			c.session = w.open(t, c.token)
		}
		for range 2 { // at a time
			text := rand.Text()
			r := c.message("tools/call", `"name":"probe_echo","arguments":{"text":"`+text+`"}`, "probe_echo")
			wg.Go(func() {
				if a, err := w.try(r); err != nil || !a.ok() || !strings.Contains(a.body, text) {
					t.Errorf("%v %d %s, want %s", err, a.status, a.body, text)
				}
			})
		}
	}
	wg.Wait()
}
