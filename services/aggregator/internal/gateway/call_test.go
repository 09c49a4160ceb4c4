package gateway

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmcp/internal/decision"
	"vmcp/internal/mcptest"
)

const notAllowed = `{"jsonrpc":"2.0","error":{"code":-32603,"message":"not allowed"}}`

// endless is a body of unknown length.
type endless struct{ left int }

func (e *endless) Read(b []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n := min(len(b), e.left)
	e.left -= n
	return n, nil
}

// TestBytes: a result is the backend's, byte for byte.
func TestBytes(t *testing.T) {
	const result = `{ "content":[ {"type":"text","text":"\u00e9\/é"} ],"structuredContent":{"n":12345678901234567890,"e":1e400,"b":1.0}, "x":null }`
	raw := mcptest.NewRaw(t, mcptest.Legacy, map[string]mcptest.Answer{
		"tools/list": mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"result":{"tools":[{"name":"t","inputSchema":{"type":"object"}}]}}`),
		"tools/call": mcptest.JSON(`{"jsonrpc":"2.0", "result" : ` + result + ` ,"id":ID}`),
	})
	w := newWorld(t, map[string]*mcptest.HTTP{"r": raw})
	id := w.open(t, "ann", "{}")
	got := w.send(t, legacy(id, `"an\u0020id"`, "tools/call", `"name":"r_t","arguments":{"n":12345678901234567890, "s":"\u0041"}`))
	if want := `{"jsonrpc":"2.0", "result" : ` + result + ` ,"id":"an\u0020id"}`; got.body != want {
		t.Errorf("got  %s\nwant %s", got.body, want)
	}
	for _, r := range raw.Requests() {
		if r.Method == "tools/call" && !strings.Contains(string(r.Body), `"params":{"name":"t","arguments":{"n":12345678901234567890, "s":"\u0041"}}`) {
			t.Errorf("the backend got %s", r.Body)
		}
		for _, name := range []string{decision.Header, decision.PrincipalHeader, "Authorization"} {
			if v := r.Header.Values(name); v != nil {
				t.Errorf("%s: the backend got %s %q", r.Method, name, v)
			}
		}
	}
}

// TestPassHeaders: only what the configuration names goes on to the backend.
func TestPassHeaders(t *testing.T) {
	probe := mcptest.NewHTTP(t, mcptest.Options{})
	w := newWorld(t, map[string]*mcptest.HTTP{"a": probe}, func(c *Config) { c.Fleet.State().Aggregator.PassHeaders = []string{"X-Team"} })
	a := modern("1", "tools/call", toolCall("a_echo"))
	a.header["X-Team"], a.header["X-Other"] = []string{"blue", "red"}, []string{"x"}
	if got := w.send(t, a); got.status != 200 {
		t.Fatal(got)
	}
	for _, r := range probe.Requests() {
		if r.Method == "tools/call" && (!cmp.Equal(r.Header.Values("X-Team"), []string{"blue", "red"}) || r.Header.Get("X-Other") != "") {
			t.Errorf("the backend got X-Team %q, X-Other %q", r.Header.Values("X-Team"), r.Header.Get("X-Other"))
		}
	}
}

// TestParamHeaders: a modern call whose Mcp-Param-* headers and arguments differ is refused before it goes out (HV-5).
func TestParamHeaders(t *testing.T) {
	raw := mcptest.NewRaw(t, mcptest.Modern, map[string]mcptest.Answer{
		"tools/list": mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"result":{"resultType":"complete","tools":[{"name":"t","inputSchema":{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"}}}}]}}`),
		"tools/call": mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"result":{"resultType":"complete","content":[]}}`),
	})
	w := newWorld(t, map[string]*mcptest.HTTP{"r": raw})
	for value, want := range map[string]int{"eu": 200, "us": 400, "": 400} {
		a := modern("1", "tools/call", `"name":"r_t","arguments":{"region":"eu"}`)
		if value != "" {
			a.header["Mcp-Param-Region"] = []string{value}
		}
		raw.Reset()
		got := w.send(t, a)
		if got.status != want || strings.Contains(got.body, "-32020") != (want == 400) || raw.Count("tools/call", "") != 1-want/400 {
			t.Errorf("header %q: %d %s, the backend saw %d calls", value, got.status, got.body, raw.Count("tools/call", ""))
		}
	}
}

// TestErrors: what goes wrong behind the gateway is a constant text to clients.
func TestErrors(t *testing.T) {
	probe := mcptest.NewHTTP(t, mcptest.Options{})
	w := newWorld(t, map[string]*mcptest.HTTP{"secret-name": probe})
	id := w.open(t, "ann", "{}")
	for _, tt := range []struct {
		name  string
		fault mcptest.Fault
		text  string
	}{
		{"500", mcptest.Fault{Status: 500}, "the server behind this gateway is not available"},
		{"401", mcptest.Fault{Status: 401}, "the server behind this gateway does not accept the gateway's credentials"},
		{"429", mcptest.Fault{Status: 429}, "the server behind this gateway is busy, try again later"},
		{"reset", mcptest.Fault{Reset: true}, "the server behind this gateway is not available"},
	} {
		tt.fault.Method = "tools/call"
		probe.SetFault(tt.fault)
		for _, a := range []ask{legacy(id, "1", "tools/call", toolCall("secret-name_echo")), modern("1", "tools/call", toolCall("secret-name_echo"))} {
			got := w.send(t, a)
			if want := `{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"` + tt.text + `"}}`; got.status != 200 || got.body != want {
				t.Errorf("%s: %d %s, want 200 %s", tt.name, got.status, got.body, want)
			}
		}
	}
	probe.Close()
	got := w.send(t, modern("1", "tools/call", toolCall("secret-name_echo")))
	if !strings.Contains(got.body, `"message":"the server behind this gateway is not available"`) {
		t.Errorf("closed: %s", got.body)
	}
}

// TestProgress: a lone response is JSON; with anything before it the answer is an event stream.
func TestProgress(t *testing.T) {
	w := newWorld(t, map[string]*mcptest.HTTP{"a": mcptest.NewHTTP(t, mcptest.Options{})})
	id := w.open(t, "ann", "{}")
	if got := w.send(t, legacy(id, "1", "tools/call", toolCall("a_echo"))); got.header.Get("Content-Type") != "application/json" {
		t.Errorf("a lone response is %s", got.header.Get("Content-Type"))
	}
	s := w.stream(t, legacy(id, `"p"`, "tools/call", `"name":"a_progress","arguments":{"count":2},"_meta":{"progressToken":"tok"}`))
	for i := range 2 {
		var m struct {
			Method string
			Params struct {
				ProgressToken string
				Progress      int
			}
		}
		if got := s.message(t); json.Unmarshal([]byte(got), &m) != nil || m.Method != "notifications/progress" || m.Params.ProgressToken != "tok" || m.Params.Progress != i+1 {
			t.Errorf("event %d: %s", i, got)
		}
	}
	if got := s.message(t); !strings.Contains(got, `"id":"p"`) || !strings.Contains(got, "done") {
		t.Errorf("the result: %s", got)
	}
	if got := s.message(t); got != "end" {
		t.Errorf("after the result: %s", got)
	}
	for name, want := range map[string]string{"Cache-Control": "no-cache", "X-Accel-Buffering": "no"} {
		if got := s.resp.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// TestDisconnect: a legacy client that goes away cancels nothing, a modern one its call.
func TestDisconnect(t *testing.T) {
	for _, tt := range []struct {
		name   string
		ask    func(id string) ask
		cancel bool
	}{
		{"legacy", func(id string) ask { return legacy(id, "1", "tools/call", toolCall("a_wait")) }, false},
		{"modern", func(string) ask { return modern("1", "tools/call", toolCall("a_wait")) }, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := newWatched(t, mcptest.Options{})
			w := newWorld(t, map[string]*mcptest.HTTP{"a": a.HTTP})
			id := w.open(t, "ann", "{}")
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			gone := make(chan error, 1)
			go func() {
				_, err := http.DefaultClient.Do(w.request(t, ctx, tt.ask(id)))
				gone <- err
			}()
			wait(t, a.arrived, is("tools/call"))
			leave()
			if err := <-gone; err == nil {
				t.Fatal("answered, although the tool waits")
			}
			wait(t, w.left, func(struct{}) bool { return true }) // the gateway knows
			if !tt.cancel {
				// Another call comes and goes; the first is still running.
				if got := w.send(t, legacy(id, "2", "tools/call", toolCall("a_echo"))); got.status != 200 {
					t.Fatal(got)
				}
				wait(t, a.ended, func(e ended) bool {
					if e.cancelled {
						t.Errorf("%s was cancelled", e.method)
					}
					return e.method == "tools/call"
				})
				a.Release()
			}
			if got := wait(t, a.ended, func(e ended) bool { return e.method == "tools/call" }); got.cancelled != tt.cancel {
				t.Errorf("cancelled %v, want %v", got.cancelled, tt.cancel)
			}
			if got := a.Count("notifications/cancelled", ""); got != 0 {
				t.Errorf("%d notifications/cancelled, want none: a modern backend sees the stream close", got)
			}
		})
	}
}

// TestCancelled: the notification of a legacy client cancels the call at its backend, and no other.
func TestCancelled(t *testing.T) {
	a := newWatched(t, mcptest.Options{Era: mcptest.Legacy})
	w := newWorld(t, map[string]*mcptest.HTTP{"a": a.HTTP})
	id, other := w.open(t, "ann", "{}"), w.open(t, "ann", "{}")
	done := make(chan answer, 1)
	go func() { done <- w.send(t, legacy(id, "77", "tools/call", toolCall("a_wait"))) }()
	wait(t, a.arrived, is("tools/call"))
	cancel := func(session, request string) {
		t.Helper()
		got := w.send(t, ask{session: session, body: `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":` + request + `,"reason":"bored"}}`})
		if got.status != 202 || got.body != "" {
			t.Errorf("%d %s, want 202", got.status, got.body)
		}
	}
	cancel(id, `"77"`) // another type is another id
	cancel(other, "77")
	cancel(id, "78")
	if got := a.Count("notifications/cancelled", ""); got != 0 {
		t.Errorf("%d cancellations of calls that do not run", got)
	}
	cancel(id, "77")
	if got := <-done; !strings.Contains(got.body, `"id":77,"error":{"code":-32603`) {
		t.Errorf("the call: %s", got.body)
	}
	if got := a.Count("notifications/cancelled", ""); got != 1 {
		t.Errorf("the backend was told %d times, want 1", got)
	}
}

// TestElicit: a backend's question goes out on the stream of the call that it belongs to, and the answer comes back.
func TestElicit(t *testing.T) {
	a := newWatched(t, mcptest.Options{Era: mcptest.Legacy})
	w := newWorld(t, map[string]*mcptest.HTTP{"a": a.HTTP})
	id := w.open(t, "ann", `{"elicitation":{},"experimental":{"x":{}}}`)
	s := w.stream(t, legacy(id, "5", "tools/call", toolCall("a_elicit")))
	var q struct {
		ID     json.RawMessage
		Method string
		Params struct{ Message string }
	}
	if got := s.message(t); json.Unmarshal([]byte(got), &q) != nil || q.Method != "elicitation/create" || q.Params.Message != "a asks: Really?" || string(q.ID) != `"vmcp-1"` {
		t.Fatalf("the question: %s", got)
	}
	reply := func(caller, session, id string) int {
		t.Helper()
		return w.send(t, ask{caller: caller, session: session, body: `{"jsonrpc":"2.0","id":` + id + `,"result":{"action":"accept","content":{"confirm":true}}}`}).status
	}
	// Not asked, or not of whom it was asked: dropped, and the question stands.
	if got := reply("ann", id, `"vmcp-2"`); got != 202 {
		t.Errorf("an answer to no question: %d, want 202", got)
	}
	if got := reply("ann", w.open(t, "ann", "{}"), `"vmcp-1"`); got != 202 {
		t.Errorf("an answer from another session: %d, want 202", got)
	}
	if got := reply("bob", id, `"vmcp-1"`); got != 404 {
		t.Errorf("an answer from another principal: %d, want 404", got)
	}
	if got := reply("ann", id, string(q.ID)); got != 202 {
		t.Errorf("the answer: %d, want 202", got)
	}
	if got := s.message(t); !strings.Contains(got, "answer: accept") || !strings.Contains(got, `"id":5`) {
		t.Errorf("the result: %s", got)
	}
	// Once is enough.
	posted := a.Count("", "")
	if got := reply("ann", id, string(q.ID)); got != 202 || a.Count("", "") != posted {
		t.Errorf("a second answer: %d, and the backend got %d posts, want %d", got, a.Count("", ""), posted)
	}
}

// TestElicitGone: with nobody there to ask, the backend learns that at once.
func TestElicitGone(t *testing.T) {
	ask, answered := make(chan struct{}), make(chan string, 1)
	h := mcptest.NewHTTP(t, mcptest.Options{Era: mcptest.Legacy, Wrap: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(strings.NewReader(string(body)))
			switch text := string(body); {
			case strings.Contains(text, `"tools/call"`):
				rw.Header().Set("Content-Type", "text/event-stream")
				io.WriteString(rw, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"level\":\"info\"}}\n\n")
				http.NewResponseController(rw).Flush()
				<-ask
				io.WriteString(rw, "data: {\"jsonrpc\":\"2.0\",\"id\":\"q\",\"method\":\"elicitation/create\",\"params\":{}}\n\n")
				http.NewResponseController(rw).Flush()
				<-r.Context().Done()
			case strings.Contains(text, `"id":"q"`):
				answered <- text
				rw.WriteHeader(http.StatusAccepted)
			default:
				next.ServeHTTP(rw, r)
			}
		})
	}})
	w := newWorld(t, map[string]*mcptest.HTTP{"a": h})
	id := w.open(t, "ann", `{"elicitation":{}}`)
	s := w.stream(t, legacy(id, "1", "tools/call", toolCall("a_echo")))
	if got := s.message(t); !strings.Contains(got, "notifications/message") {
		t.Fatalf("%s", got)
	}
	s.cancel()
	wait(t, w.left, func(struct{}) bool { return true })
	close(ask)
	if got := wait(t, answered, func(string) bool { return true }); !strings.Contains(got, "-32601") {
		t.Errorf("the backend was answered %s, want -32601", got)
	}
	h.Close() // ends the call
}

// TestDeleteDuringCall: DELETE ends the session, not the call that runs in it.
func TestDeleteDuringCall(t *testing.T) {
	a := newWatched(t, mcptest.Options{})
	w := newWorld(t, map[string]*mcptest.HTTP{"a": a.HTTP})
	id := w.open(t, "ann", "{}")
	done := make(chan answer, 1)
	go func() { done <- w.send(t, legacy(id, "1", "tools/call", toolCall("a_wait"))) }()
	wait(t, a.arrived, is("tools/call"))
	if got := w.send(t, ask{verb: "DELETE", session: id}); got.status != 204 {
		t.Errorf("DELETE: %d", got.status)
	}
	a.Release()
	if got := <-done; !strings.Contains(got.body, "released") {
		t.Errorf("the call: %d %s", got.status, got.body)
	}
}
