package gateway

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vmcp/internal/keyring/keyringtest"
	"vmcp/internal/mcptest"
	"vmcp/internal/mcpwire"
	gatewayv1 "vmcp/proto/gateway/v1"
)

// TestRequestState: what a server gives one caller to bring back is good for that caller, in that call, and for nobody and
// nothing else; the server gets its own words.
func TestRequestState(t *testing.T) {
	h := mcptest.NewHTTP(t, mcptest.Options{Era: mcptest.Modern})
	w := newWorld(t, map[string]*mcptest.HTTP{"a": h})
	call := func(caller, tool, arguments, more string) answer {
		a := modern("1", "tools/call", `"name":"`+tool+`","arguments":`+arguments+more)
		a.caller = caller
		a.body = strings.Replace(a.body, "«meta»", strings.Replace(modernMeta, `Capabilities":{}`, `Capabilities":{"elicitation":{}}`, 1), 1)
		return w.send(t, a)
	}
	first := call("ann", "a_elicit", `{"text":"x","count":1}`, "")
	var got struct{ Result struct{ RequestState string } }
	if err := json.Unmarshal([]byte(first.body), &got); err != nil || got.Result.RequestState == "" || strings.Contains(first.body, "asked\"") {
		t.Fatalf("%s, %v", first.body, err)
	}
	if !strings.Contains(first.body, `"message":"a asks: Really?"`) {
		t.Errorf("the question does not say who asks: %s", first.body)
	}
	back := `,"inputResponses":{"confirm":{"action":"accept","content":{"confirm":true}}},"requestState":"` + got.Result.RequestState + `"`
	for _, tt := range []struct{ name, caller, tool, arguments, more string }{
		{"another caller", "bob", "a_elicit", `{"text":"x","count":1}`, back},
		{"another tool", "ann", "a_echo", `{"text":"x","count":1}`, back},
		{"other arguments", "ann", "a_elicit", `{"text":"y","count":1}`, back},
		{"a number written otherwise", "ann", "a_elicit", `{"text":"x","count":1.0}`, back},
		{"no arguments", "ann", "a_elicit", `{}`, back},
		{"changed", "ann", "a_elicit", `{"text":"x","count":1}`, strings.Replace(back, got.Result.RequestState, got.Result.RequestState[:len(got.Result.RequestState)-1], 1)},
		{"the server's own words", "ann", "a_elicit", `{"text":"x","count":1}`, strings.Replace(back, got.Result.RequestState, "asked", 1)},
		{"no string", "ann", "a_elicit", `{"text":"x","count":1}`, `,"requestState":{}`},
	} {
		before := h.Count("tools/call", "")
		if got := call(tt.caller, tt.tool, tt.arguments, tt.more); !strings.Contains(got.body, "-32602") || !strings.Contains(got.body, "params.requestState") {
			t.Errorf("%s: %d %s", tt.name, got.status, got.body)
		}
		if h.Count("tools/call", "") != before {
			t.Errorf("%s: the server was called", tt.name)
		}
	}
	if got := call("ann", "a_elicit", `{ "count":1, "te\u0078t":"x" }`, back); !strings.Contains(got.body, "answer: accept") {
		t.Errorf("brought back: %d %s", got.status, got.body)
	}
	requests := h.Requests()
	if body := string(requests[len(requests)-1].Body); !strings.Contains(body, `"requestState":"asked"`) {
		t.Errorf("the server got %s", body)
	}
}

func TestRequestStateExpires(t *testing.T) {
	ring := keyringtest.New(t)
	synctest.Test(t, func(t *testing.T) {
		s := stateSeal{&exchange{g: &Gateway{cfg: Config{SessionKeys: ring}}, msg: &mcpwire.Message{},
			d: &gatewayv1.Decision{Target: &gatewayv1.Target{}}}}
		sealed := s.Seal("words")
		time.Sleep(stateAge)
		if got, ok := s.Open(sealed); !ok || got != "words" {
			t.Errorf("%q, %v", got, ok)
		}
		time.Sleep(time.Second)
		if _, ok := s.Open(sealed); ok {
			t.Error("it is good for ever")
		}
	})
}
