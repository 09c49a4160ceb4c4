package gateway

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"vmcp/internal/await"
	"vmcp/internal/mcptest"
	"vmcp/internal/mcpwire"
	gatewayv1 "vmcp/proto/gateway/v1"
)

// TestDeclines: a backend that asks without end, and takes no answer, does not fill the gateway with answers.
func TestDeclines(t *testing.T) {
	var subscribed atomic.Value // session id at the backend
	var inFlight atomic.Int64
	listed := make(chan struct{}, 100)
	h := mcptest.NewHTTP(t, mcptest.Options{Era: mcptest.Legacy, Wrap: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(strings.NewReader(string(body)))
			switch text := string(body); {
			case r.Method == "GET" && r.Header.Get("Mcp-Session-Id") == subscribed.Load():
				rw.Header().Set("Content-Type", "text/event-stream")
				for i := range 500 {
					fmt.Fprintf(rw, "data: {\"jsonrpc\":\"2.0\",\"id\":\"q%d\",\"method\":\"elicitation/create\",\"params\":{}}\n\n", i)
				}
				// When the lists are read again, everything before this was read too.
				io.WriteString(rw, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}\n\n")
				http.NewResponseController(rw).Flush()
				<-r.Context().Done()
			case strings.Contains(text, `"id":"q`):
				inFlight.Add(1)
				<-r.Context().Done()
			case strings.Contains(text, `"resources/subscribe"`):
				subscribed.Store(r.Header.Get("Mcp-Session-Id"))
				rw.Header().Set("Content-Type", "application/json")
				id, _, _ := strings.Cut(text[strings.Index(text, `"id":`)+5:], ",")
				io.WriteString(rw, `{"jsonrpc":"2.0","id":`+id+`,"result":{}}`)
			default:
				if strings.Contains(text, `"tools/list"`) && subscribed.Load() != nil {
					listed <- struct{}{}
				}
				next.ServeHTTP(rw, r)
			}
		})
	}})
	w := newWorld(t, map[string]*mcptest.HTTP{"a": h})
	// Of a client that cannot be asked the stream opens with the subscription.
	if got := w.send(t, legacy(w.open(t, "ann", `{}`), "1", "resources/subscribe", `"uri":"test://hello"`)); got.status != 200 {
		t.Fatal(got)
	}
	wait(t, listed, func(struct{}) bool { return true })
	if got := inFlight.Load(); got == 0 || got > maxDeclines {
		t.Errorf("%d answers are on their way to the backend, want 1 to %d", got, maxDeclines)
	}
}

// TestLateAnswer: a server may ask and not wait with the result of the call; the answer reaches it all the same, once.
func TestLateAnswer(t *testing.T) {
	h := mcptest.NewRaw(t, mcptest.Legacy, map[string]mcptest.Answer{
		"tools/list": mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"result":{"tools":[{"name":"x","inputSchema":{"type":"object"}}]}}`),
		"tools/call": mcptest.SSE(`data: {"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{}}` + "\n\n" +
			`data: {"jsonrpc":"2.0","id":ID,"result":{"content":[]}}` + "\n\n"),
	})
	w := newWorld(t, map[string]*mcptest.HTTP{"a": h})
	id := w.open(t, "ann", `{"elicitation":{}}`)
	if got := w.send(t, legacy(id, "1", "tools/call", toolCall("a_x"))); !strings.Contains(got.body, `"id":"vmcp-1"`) || !strings.Contains(got.body, `"content":[]`) {
		t.Fatal(got)
	}
	for range 2 {
		if got := w.send(t, ask{session: id, body: `{"jsonrpc":"2.0","id":"vmcp-1","result":{"action":"accept"}}`}); got.status != 202 {
			t.Errorf("the answer: %d", got.status)
		}
	}
	var answers []string
	for _, r := range h.Requests() {
		if r.Method == "" && r.HTTP == "POST" {
			answers = append(answers, string(r.Body))
		}
	}
	if want := []string{`{"jsonrpc":"2.0","id":"q","result":{"action":"accept"}}`}; !slices.Equal(answers, want) {
		t.Errorf("the backend got %q, want %q", answers, want)
	}
}

// TestWithdrawn: a server takes a question back under the id that the client knows, and nobody else's.
func TestWithdrawn(t *testing.T) {
	question := `data: {"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{}}` + "\n\n"
	withdrawn := func(id string) string {
		return `data: {"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":` + id + `}}` + "\n\n"
	}
	answers := map[string]mcptest.Answer{
		"tools/list": mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"result":{"tools":[{"name":"x","inputSchema":{"type":"object"}}]}}`),
		"tools/call": mcptest.SSE(question + withdrawn(`"other"`) + withdrawn(`"q"`) + withdrawn(`"q"`) + `data: {"jsonrpc":"2.0","id":ID,"result":{}}` + "\n\n"),
	}
	w := newWorld(t, map[string]*mcptest.HTTP{"a": mcptest.NewRaw(t, mcptest.Legacy, answers)})
	got := w.send(t, legacy(w.open(t, "ann", `{"elicitation":{}}`), "1", "tools/call", toolCall("a_x")))
	if n := strings.Count(got.body, "notifications/cancelled"); n != 1 || !strings.Contains(got.body, `"params":{"requestId":"vmcp-1"}`) {
		t.Errorf("the client got %s", got.body)
	}
	if got := w.send(t, modern("1", "tools/call", toolCall("a_x"))); strings.Contains(got.body, "cancelled") {
		t.Errorf("who was asked nothing got %s", got.body)
	}
}

// TestStandalone: a backend's standalone stream is open where somebody gets what comes there: a client that follows its
// own, before or after the first call, or one that said that it can be asked, which is then told that nobody listens.
func TestStandalone(t *testing.T) {
	h := mcptest.NewRaw(t, mcptest.Legacy, map[string]mcptest.Answer{
		"GET":        {Type: "text/event-stream", Hold: true},
		"tools/list": mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"result":{"tools":[{"name":"x","inputSchema":{"type":"object"}}]}}`),
		"tools/call": mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"result":{"content":[]}}`),
	})
	w := newWorld(t, map[string]*mcptest.HTTP{"a": h})
	// calls makes a call and returns the session in which the backend got it.
	calls := func(id string) string {
		t.Helper()
		if got := w.send(t, legacy(id, "1", "tools/call", toolCall("a_x"))); got.status != 200 {
			t.Fatal(got)
		}
		requests := h.Requests()
		for i := range requests {
			if r := requests[len(requests)-1-i]; r.Method == "tools/call" {
				return r.Header.Get("Mcp-Session-Id")
			}
		}
		return ""
	}
	streams := func(session string) bool {
		return slices.ContainsFunc(h.Requests(), func(r mcptest.Request) bool {
			return r.HTTP == "GET" && r.Header.Get("Mcp-Session-Id") == session
		})
	}
	quiet := calls(w.open(t, "ann", `{"roots":{}}`)) // of roots the backend is not told
	asked := calls(w.open(t, "ann", `{"elicitation":{}}`))
	before, after := w.open(t, "ann", `{}`), w.open(t, "ann", `{}`)
	w.get(t, before, nil)
	follows := []string{asked, calls(before), calls(after)}
	w.get(t, after, nil)
	for _, session := range follows {
		await.That(t, "the stream is open", func() bool { return streams(session) })
	}
	if streams(quiet) {
		t.Error("a stream is open that nobody can be told of")
	}
}

// TestUnsolicited: what a backend sends by itself goes to the open stream of the session that it is for, as far as the
// caller may have it; a question with no stream open is refused.
func TestUnsolicited(t *testing.T) {
	h := mcptest.NewRaw(t, mcptest.Legacy, map[string]mcptest.Answer{
		"GET":                      {Type: "text/event-stream", Hold: true},
		"tools/list":               mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"result":{"tools":[]}}`),
		"prompts/list":             mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"result":{"prompts":[]}}`),
		"resources/list":           mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"result":{"resources":[{"uri":"test://hello","name":"hello"}]}}`),
		"resources/templates/list": mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"result":{"resourceTemplates":[]}}`),
		"resources/subscribe":      mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"result":{}}`),
	})
	w := newWorld(t, map[string]*mcptest.HTTP{"a": h})
	id := w.open(t, "ann", `{"elicitation":{}}`)
	if got := w.send(t, legacy(id, "1", "resources/subscribe", `"uri":"test://hello"`)); got.status != 200 {
		t.Fatal(got)
	}
	var session string // at the backend; the gateway's own listing has another
	// answered is what the backend was last told in answer to a question.
	answered := func(id string) (text string) {
		t.Helper()
		await.That(t, id+" is answered", func() bool {
			for _, r := range h.Requests() {
				if r.Method == "" && strings.Contains(string(r.Body), `"id":"`+id+`"`) {
					text = string(r.Body)
				}
			}
			return text != ""
		})
		return text
	}
	for _, r := range h.Requests() {
		if r.Method == "resources/subscribe" {
			session = r.Header.Get("Mcp-Session-Id")
		}
	}
	send := func(message string) { t.Helper(); h.Push(t, session, message) }

	// No stream: refused at once.
	send(`{"jsonrpc":"2.0","id":"q1","method":"elicitation/create","params":{}}`)
	if got := answered("q1"); !strings.Contains(got, "-32601") {
		t.Errorf("a question with no stream open was answered %s", got)
	}

	s := w.get(t, id, nil)
	send(`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"test://hello"}}`)
	if got, want := s.message(t), `{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"test://hello"}}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	send(`{"jsonrpc":"2.0","id":"q2","method":"elicitation/create","params":{"x":1.0}}`)
	if got, want := s.message(t), `{"jsonrpc":"2.0","id":"vmcp-1","method":"elicitation/create","params":{"x":1.0}}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := w.send(t, ask{session: id, body: `{"jsonrpc":"2.0","id":"vmcp-1","result":{"role":"assistant"}}`}); got.status != 202 {
		t.Errorf("the answer: %d", got.status)
	}
	if got, want := answered("q2"), `{"jsonrpc":"2.0","id":"q2","result":{"role":"assistant"}}`; got != want {
		t.Errorf("the backend got %s, want %s", got, want)
	}

	// Each delivery about an item is judged.
	w.judgeBy(func(r *gatewayv1.PermittedRequest) (*gatewayv1.PermittedResponse, error) {
		resp := &gatewayv1.PermittedResponse{PolicyRevision: "rev-1", View: "view-1"}
		if len(r.Names) == 1 && r.Names[0] == "test://mine" && mcpwire.ItemKind(r.Kind) == mcpwire.ItemResource {
			resp.Indexes = []uint32{0}
		}
		return resp, nil
	})
	for _, uri := range []string{"test://secret", "-", "", "test://mine"} {
		send(`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"` + uri + `"}}`)
	}
	if got := s.message(t); !strings.Contains(got, "test://mine") {
		t.Errorf("delivered %s, want only what the caller may read", got)
	}
	w.judgeBy(func(*gatewayv1.PermittedRequest) (*gatewayv1.PermittedResponse, error) {
		return nil, status.Error(codes.Unavailable, "away")
	})
	send(`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"test://mine"}}`)
	send(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info"}}`)
	w.judgeBy(func(r *gatewayv1.PermittedRequest) (*gatewayv1.PermittedResponse, error) {
		if r.Kind != gatewayv1.ItemKind_ITEM_KIND_TOKEN || len(r.Names) > 0 { // a message about no item
			return nil, status.Error(codes.Unavailable, "asked about more than the token")
		}
		return nil, status.Error(codes.Unauthenticated, "revoked")
	})
	send(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info"}}`)
	if got := s.message(t); got != "end" {
		t.Errorf("after a refusal: %s, want the end and nothing that authz did not answer for", got)
	}
}
