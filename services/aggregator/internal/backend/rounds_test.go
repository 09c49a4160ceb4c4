package backend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"vmcp/internal/mcptest"
	"vmcp/internal/mcpwire"
	"vmcp/services/aggregator/internal/bridge"
)

// askingByResult is a modern server whose tool answers by its place in the given results; the last one stays.
func askingByResult(t *testing.T, results ...string) *mcptest.HTTP {
	t.Helper()
	n := 0
	return mcptest.NewHTTP(t, mcptest.Options{Era: mcptest.Modern, Wrap: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Mcp-Method") != "tools/call" {
				next.ServeHTTP(w, r)
				return
			}
			body, _ := io.ReadAll(r.Body)
			m, err := mcpwire.ParseReply(body)
			if err != nil {
				t.Errorf("the server got %s: %v", body, err)
			}
			params, _ := m.Params()
			token := ""
			if at, ok := params.Find("_meta"); ok {
				if meta, err := mcpwire.ParseObject(body, at.Start, at.End); err == nil {
					token = string(meta.Raw("progressToken"))
				}
			}
			w.Header().Set("Content-Type", "text/event-stream")
			for _, progress := range []int{1, 2} {
				if token != "" {
					fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":%s,\"progress\":%d}}\n\n", token, progress+n/2)
				}
			}
			fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":%s}\n\n", m.ID, results[min(n, len(results)-1)])
			n++
		})
	}})
}

const (
	complete  = `{"resultType":"complete","content":[{"type":"text","text":"done"}]}`
	form      = `{"resultType":"input_required","inputRequests":{"who":{"method":"elicitation/create","params":{"message":"Who?","requestedSchema":{"type":"object"}}}},"requestState":"s1"}`
	byURL     = `{"resultType":"input_required","inputRequests":{"page":{"method":"elicitation/create","params":{"mode":"url","message":"Open","url":"https://a.example"}}}}`
	sample    = `{"resultType":"input_required","inputRequests":{"k":{"method":"sampling/createMessage","params":{"messages":[]}}}}`
	onlyState = `{"resultType":"input_required","requestState":"later"}`
)

func repeated(s string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = s
	}
	return all
}

// TestQuestionsBetweenEras: a legacy client is asked on its call's stream what a modern server asks by a result, and the
// server gets the answers by another request, until the call is done or it asks too much.
func TestQuestionsBetweenEras(t *testing.T) {
	const accepts, refuses = `"result":{"action":"accept","content":{"n":7}}`, `"error":{"code":-32601,"message":"no"}`
	for _, tt := range []struct {
		name         string
		results      []string
		capabilities string
		sampling     bool
		answers      string
		asked        int    // times
		calls        int    // that the server got
		last         string // in the last call
		want         string // in the last message
		err          error
	}{
		{name: "one round", results: []string{form, complete}, answers: accepts, asked: 1, calls: 2,
			last: `"inputResponses":{"who":{"action":"accept","content":{"n":7}}},"requestState":"s1"`, want: "done"},
		{name: "three rounds", results: append(repeated(form, 3), complete), answers: accepts, asked: 3, calls: 4, want: "done"},
		{name: "as many as may be", results: append(repeated(form, bridge.MaxRounds), complete), answers: accepts, asked: 8, calls: 9, want: "done"},
		{name: "without end", results: []string{form}, answers: accepts, asked: 8, calls: 9, err: ErrNeedsInput},
		{name: "refused", results: []string{form, complete}, answers: refuses, asked: 1, calls: 2, last: `"inputResponses":{"who":{"action":"cancel"}}`, want: "done"},
		{name: "nothing but state", results: []string{onlyState, complete}, calls: 2, last: `"requestState":"later"`, want: "done"},
		{name: "an address", results: []string{byURL, complete}, capabilities: `{"elicitation":{"form":{},"url":{}}}`, answers: `"result":{"action":"accept"}`, asked: 1, calls: 2, want: "done"},
		{name: "an address, and the client has none", results: []string{byURL, complete}, calls: 1, err: ErrNeedsInput},
		{name: "what is not declared", results: []string{form, complete}, capabilities: `{}`, calls: 1, err: ErrNeedsInput},
		{name: "what may not be asked", results: []string{sample, complete}, capabilities: `{"sampling":{}}`, calls: 1, err: ErrInvalidReply},
		{name: "sampling", results: []string{sample, complete}, capabilities: `{"sampling":{}}`, sampling: true, answers: `"result":{"role":"assistant"}`, asked: 1, calls: 2,
			last: `"inputResponses":{"k":{"role":"assistant"}}`, want: "done"},
		{name: "sampling, refused", results: []string{sample, complete}, capabilities: `{"sampling":{}}`, sampling: true, answers: refuses, asked: 1, calls: 1, want: "does not answer what the server asks"},
		{name: "nothing at all", results: []string{`{"resultType":"input_required"}`}, calls: 1, err: ErrInvalidReply},
		{name: "a state too long", results: []string{`{"resultType":"input_required","requestState":"` + strings.Repeat("s", bridge.MaxState+1) + `"}`}, calls: 1, err: ErrInvalidReply},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := askingByResult(t, tt.results...)
			b := startHTTP(t, h.URL)
			b.cfg.Sampling = tt.sampling
			if tt.capabilities == "" {
				tt.capabilities = `{"elicitation":{}}`
			}
			s := b.Session(SessionOptions{Era: mcpwire.EraLegacy, Key: "key", Version: mcpwire.Version20251125, Capabilities: []byte(tt.capabilities)})
			defer s.Close()
			asked, completed, progress, last := 0, 0, 0.0, ""
			permitted := 0
			r := tool(t, mcpwire.EraLegacy, "1", "ask", `{"a":1}`, `"progressToken":"p"`)
			r.Again = func(context.Context) error { permitted++; return nil }
			err := s.Do(t.Context(), r, func(m Message) error {
				last = string(m.Raw)
				switch m.Method {
				case "notifications/progress":
					var n struct{ Params struct{ Progress float64 } }
					if err := json.Unmarshal(m.Raw, &n); err != nil || n.Params.Progress <= progress {
						t.Errorf("after %v: %s", progress, m.Raw)
					}
					progress = n.Params.Progress
				case "notifications/elicitation/complete":
					completed++
				}
				if m.Kind != mcpwire.KindRequest {
					return nil
				}
				asked++
				if m.Method == bridge.Elicit && !strings.Contains(last, `"message":"`+b.cfg.Name+` asks: `) {
					t.Errorf("the question does not say who asks: %s", m.Raw)
				}
				return s.Respond(t.Context(), m.From, m.ID, []byte(`{"jsonrpc":"2.0","id":`+string(m.ID)+`,`+tt.answers+`}`))
			})
			if tt.err == nil && err != nil || !errors.Is(err, tt.err) || !strings.Contains(last, tt.want) {
				t.Errorf("%s, %v, want %q, %v", last, err, tt.want, tt.err)
			}
			if asked != tt.asked || h.Count("tools/call", "") != tt.calls {
				t.Errorf("asked %d times, %d calls, want %d and %d", asked, h.Count("tools/call", ""), tt.asked, tt.calls)
			}
			if permitted != tt.calls-1 {
				t.Errorf("%d times it was asked whether the client still may, want %d", permitted, tt.calls-1)
			}
			if want := tt.name == "an address"; want != (completed == 1) {
				t.Errorf("%d elicitations completed", completed)
			}
			requests := h.Requests()
			if body := string(requests[len(requests)-1].Body); !strings.Contains(body, tt.last) || !strings.Contains(body, `"arguments":{"a":1}`) {
				t.Errorf("the last call: %s, want %s", body, tt.last)
			}
		})
	}
}

// TestQuestionEnds: a client that cancels while it is asked, or may not go on, ends the call there.
func TestQuestionEnds(t *testing.T) {
	h := askingByResult(t, form, complete)
	s := session(t, startHTTP(t, h.URL), mcpwire.EraLegacy)
	err := s.Do(t.Context(), tool(t, mcpwire.EraLegacy, "1", "ask", `{}`, ""), func(m Message) error {
		if m.Kind == mcpwire.KindRequest {
			s.Cancel(t.Context(), mcpwire.RawID("1"), "bored")
		}
		return nil
	})
	if !errors.Is(err, ErrCancelled) || h.Count("tools/call", "") != 1 {
		t.Errorf("cancelled: %v, %d calls", err, h.Count("tools/call", ""))
	}

	h = askingByResult(t, form, complete)
	s = session(t, startHTTP(t, h.URL), mcpwire.EraLegacy)
	r := tool(t, mcpwire.EraLegacy, "1", "ask", `{}`, "")
	r.Again = func(context.Context) error { return errors.New("other policies") }
	last := ""
	err = s.Do(t.Context(), r, func(m Message) error {
		if last = string(m.Raw); m.Kind == mcpwire.KindRequest {
			return s.Respond(t.Context(), m.From, m.ID, []byte(`{"jsonrpc":"2.0","id":1,"result":{"action":"accept"}}`))
		}
		return nil
	})
	if err != nil || !strings.Contains(last, "make the request again") || h.Count("tools/call", "") != 1 {
		t.Errorf("not permitted any more: %s, %v, %d calls", last, err, h.Count("tools/call", ""))
	}
}

// TestNotCarried: the tasks extension is declared to nobody, and what a result says of caching is for one caller.
func TestNotCarried(t *testing.T) {
	h := mcptest.NewRaw(t, mcptest.Modern, map[string]mcptest.Answer{
		"tools/call":     mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"result":{"resultType":"task","taskId":"t","status":"working"}}`),
		"resources/read": mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"result":{"resultType":"complete","contents":[],"ttlMs":5,"cacheScope":"public"}}`)})
	s := startHTTP(t, h.URL).Session(SessionOptions{Era: mcpwire.EraModern, Key: "k"})
	defer s.Close()
	r := tool(t, mcpwire.EraModern, "1", "x", `{}`, "")
	r.Message = rewritten(t, r.Message, `{"elicitation":{}}`, `{"tasks":{},"extensions":{"io.modelcontextprotocol/tasks":{},"io.modelcontextprotocol/ui":{}}}`)
	if _, err := do(s, r); !errors.Is(err, ErrInvalidReply) {
		t.Errorf("a task: %v", err)
	}
	if body := string(h.Requests()[len(h.Requests())-1].Body); !strings.Contains(body, `/clientCapabilities":{"extensions":{"io.modelcontextprotocol/ui":{}}}`) {
		t.Errorf("the backend got %s", body)
	}
	got, err := do(s, request(t, mcpwire.EraModern, "1", "resources/read", "test://a", `"uri":"test://a"`, ""))
	if err != nil || !strings.Contains(got[0], `"ttlMs":5,"cacheScope":"private"`) {
		t.Errorf("%s, %v", got, err)
	}
}
