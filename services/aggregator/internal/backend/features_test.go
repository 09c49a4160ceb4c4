package backend

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vmcp/internal/gatewayconfig"
	"vmcp/internal/mcptest"
	"vmcp/internal/mcpwire"
)

// all is what a client can do. The second spelling is roots to a lenient backend.
const all = `{"roots":{"listChanged":true},"Roots":{},"sampling":{},"elicitation":{}}`

var features = []struct {
	roots, sampling bool
	told            string // of all
	methods         string // that reach the client
}{
	{false, false, `{"elicitation":{}}`, "elicitation/create"},
	{true, false, `{"roots":{"listChanged":true},"Roots":{},"elicitation":{}}`, "elicitation/create roots/list"},
	{false, true, `{"sampling":{},"elicitation":{}}`, "elicitation/create sampling/createMessage"},
	{true, true, all, "elicitation/create roots/list sampling/createMessage"},
}

var questions = []string{"elicitation/create", "roots/list", "sampling/createMessage", "tasks/list"}

// TestFeatures: a backend is told of what its configuration lists, and may ask for nothing else.
func TestFeatures(t *testing.T) {
	asking := ""
	for i, q := range questions {
		asking += fmt.Sprintf("data: {\"jsonrpc\":\"2.0\",\"id\":\"q%d\",\"method\":%q}\n\n", i, q)
	}
	for _, test := range features {
		cfg := gatewayconfig.Backend{Transport: gatewayconfig.TransportHTTP, Roots: test.roots, Sampling: test.sampling}
		t.Run("legacy "+test.methods, func(t *testing.T) {
			h := mcptest.NewRaw(t, mcptest.Legacy, map[string]mcptest.Answer{
				"tools/call": mcptest.SSE(asking + "data: {\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{}}\n\n")})
			cfg.URL = h.URL
			s := start(t, Config{Backend: cfg}).Session(SessionOptions{Era: mcpwire.EraLegacy, Key: "k", Capabilities: []byte(all)})
			defer s.Close()
			if got := reaching(t, s); got != test.methods {
				t.Errorf("the client is asked %s, want %s", got, test.methods)
			}
			if err := s.RootsChanged(t.Context(), []byte(`{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`)); err != nil {
				t.Error(err)
			}
			if got, want := h.Count("notifications/roots/list_changed", "") == 1, test.roots; got != want {
				t.Errorf("told that the roots changed: %t, want %t", got, want)
			}
			refused := 0
			for _, r := range h.Requests() {
				if r.Method == "initialize" && !strings.Contains(string(r.Body), `"capabilities":`+test.told+`,`) {
					t.Errorf("initialize says %s, want %s", r.Body, test.told)
				}
				if strings.Contains(string(r.Body), "-32601") {
					refused++
				}
			}
			if want := len(questions) - len(strings.Fields(test.methods)); refused != want {
				t.Errorf("%d questions refused, want %d", refused, want)
			}
		})
		for _, question := range questions {
			t.Run("modern "+test.methods+" asks "+question, func(t *testing.T) {
				h := mcptest.NewRaw(t, mcptest.Modern, map[string]mcptest.Answer{
					"tools/call": mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"result":{"resultType":"input_required","inputRequests":{"k":{"method":"` + question + `"}}}}`)})
				cfg.URL = h.URL
				s := start(t, Config{Backend: cfg}).Session(SessionOptions{Era: mcpwire.EraModern, Key: "k"})
				defer s.Close()
				r := tool(t, mcpwire.EraModern, "1", "x", `{}`, "")
				r.Message = rewritten(t, r.Message, `{"elicitation":{}}`, all)
				got, err := do(s, r)
				if may := strings.Contains(test.methods, question); may != (err == nil) || !may && !errors.Is(err, ErrInvalidReply) {
					t.Errorf("got %s, %v", got, err)
				}
				if body := string(h.Requests()[len(h.Requests())-1].Body); !strings.Contains(body, `/clientCapabilities":`+test.told) {
					t.Errorf("the backend got %s, want capabilities %s", body, test.told)
				}
			})
		}
	}
}

// reaching calls a tool and returns the methods by which the client was asked.
func reaching(t *testing.T, s *Session) string {
	t.Helper()
	var asked []string
	err := s.Do(context.Background(), tool(t, mcpwire.EraLegacy, "1", "x", `{}`, ""), func(m Message) error {
		if m.Kind == mcpwire.KindRequest {
			asked = append(asked, m.Method)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return strings.Join(asked, " ")
}

// rewritten parses a modern request again with a part of its text replaced.
func rewritten(t *testing.T, m *mcpwire.Message, old, with string) *mcpwire.Message {
	t.Helper()
	again, err := mcpwire.Parse(mcpwire.Request{Method: "POST", Body: []byte(strings.Replace(string(m.Body), old, with, 1)),
		Header: func(h string) []string {
			return map[string][]string{"Mcp-Protocol-Version": {mcpwire.Version20260728}, "Mcp-Method": {m.Method}, "Mcp-Name": {m.Name}}[h]
		}})
	if err != nil {
		t.Fatal(err)
	}
	return &again
}

// TestVolunteeredRoots: roots as an answer to a question that nobody passed on do not reach the backend.
func TestVolunteeredRoots(t *testing.T) {
	for _, test := range []struct {
		answers string
		roots   bool // configured
		passes  bool
	}{
		{`{"k":{"roots":[{"uri":"file:///"}]}}`, false, false},
		{`{"a":{"action":"accept"},"k":{"Roots":[]}}`, false, false},
		{`{"k":[{"roots":[]}]}`, false, false},
		{`[]`, false, false},
		{`{"k":{"action":"accept","content":{"roots":"a field of a form"}}}`, false, true},
		{`{"k":{"roots":[]}}`, true, true},
	} {
		h := mcptest.NewRaw(t, mcptest.Modern, map[string]mcptest.Answer{
			"tools/call": mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"result":{"resultType":"complete","content":[]}}`)})
		b := start(t, Config{Backend: gatewayconfig.Backend{Transport: gatewayconfig.TransportHTTP, URL: h.URL, Roots: test.roots}})
		r := tool(t, mcpwire.EraModern, "1", "x", `{}`, "")
		r.Message = rewritten(t, r.Message, `"arguments":`, `"inputResponses":`+test.answers+`,"arguments":`)
		got, err := do(session(t, b, mcpwire.EraModern), r)
		if err != nil || strings.Contains(got[0], "-32602") == test.passes || (h.Count("tools/call", "") == 1) != test.passes {
			t.Errorf("%s: got %s, %v, want it passed on: %t", test.answers, got, err, test.passes)
		}
	}
}

// TestChildRoots: a child hears nothing of roots, though its configuration lists them.
func TestChildRoots(t *testing.T) {
	heard := filepath.Join(t.TempDir(), "heard")
	b := start(t, Config{
		Backend: gatewayconfig.Backend{Transport: gatewayconfig.TransportStdio, Roots: true},
		Command: []string{"/bin/sh", "-c", `while read -r line; do
printf '%s\n' "$line" >>` + heard + `
id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
case "$line" in
*'"initialize"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-11-25","capabilities":{}}}\n' "$id";;
*'"tools/call"'*) printf '{"jsonrpc":"2.0","id":"q","method":"roots/list"}\n'; read -r line; printf '%s\n' "$line" >>` + heard + `; printf '{"jsonrpc":"2.0","id":%s,"result":{}}\n' "$id";;
esac
done`}})
	s := b.Session(SessionOptions{Era: mcpwire.EraLegacy, Key: "k", Capabilities: []byte(all),
		OnMessage: func(m mcpwire.Reply, _ Origin) { t.Errorf("the client gets %s", m.Body.Text) }})
	defer s.Close()
	if got := reaching(t, s); got != "" {
		t.Errorf("the client is asked %s", got)
	}
	if err := s.RootsChanged(t.Context(), []byte(`{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`)); err != nil {
		t.Error(err)
	}
	if got := reaching(t, s); got != "" { // when this is answered, everything before it was heard
		t.Errorf("the client is asked %s", got)
	}
	text, err := os.ReadFile(heard)
	if err != nil || strings.Contains(string(text), "oots") || strings.Count(string(text), "-32601") != 2 {
		t.Errorf("the child heard %s, %v", text, err)
	}
}
