package bridge

import (
	"fmt"
	"strings"
	"testing"

	"vmcp/internal/mcpwire"
)

func object(t *testing.T, text string) mcpwire.Object {
	t.Helper()
	o, err := mcpwire.ParseObject([]byte(text), 0, len(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return o
}

// TestRounds: a result of 2026-07-28 that asks, as what a client of 2025 is asked, and its answers as the next call.
func TestRounds(t *testing.T) {
	for _, tt := range []struct {
		name, result string
		asked        []string // requests
		responses    []string
		retry        string // members of params
	}{
		{"a form", `{"resultType":"input_required","inputRequests":{"name":{"method":"elicitation/create","params":{"mode":"form","message":"Who?","requestedSchema":{"type":"object"}}}},"requestState":"s\"1"}`,
			[]string{`{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"mode":"form","message":"hub asks: Who?","requestedSchema":{"type":"object"}}}`},
			[]string{`{"jsonrpc":"2.0","id":"q","result":{"action":"accept","content":{"name":"é", "n":1e400}}}`},
			`inputResponses={"name":{"action":"accept","content":{"name":"é", "n":1e400}}} requestState="s\"1"`},
		{"a form that is refused", `{"inputRequests":{"k":{"method":"elicitation/create","params":{"message":"Who?"}}}}`,
			[]string{`{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"message":"hub asks: Who?"}}`},
			[]string{`{"jsonrpc":"2.0","id":"q","error":{"code":-32601,"message":"no"}}`},
			`inputResponses={"k":{"action":"cancel"}}`},
		{"an address", `{"inputRequests":{"k":{"method":"elicitation/create","params":{"mode":"url","message":"Open","url":"https://a.example/x"}}}}`,
			[]string{`{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"elicitationId":"ours","mode":"url","message":"hub asks: Open","url":"https://a.example/x"}}`},
			[]string{`{"jsonrpc":"2.0","id":"q","result":{"action":"accept"}}`},
			`inputResponses={"k":{"action":"accept"}}`},
		{"several, of which one has no params", ` { "inputRequests" : { "r" : {"method":"roots/list"}, "s":{"method":"sampling/createMessage","params":{"maxTokens":1}} } } `,
			[]string{`{"jsonrpc":"2.0","id":"q","method":"roots/list"}`, `{"jsonrpc":"2.0","id":"q","method":"sampling/createMessage","params":{"maxTokens":1}}`},
			[]string{`{"jsonrpc":"2.0","id":"q","result":{"roots":[]}}`, `{"jsonrpc":"2.0","id":"q","result":{"role":"assistant"}}`},
			`inputResponses={"r":{"roots":[]},"s":{"role":"assistant"}}`},
		{"state alone", `{"requestState":"later"}`, nil, nil, `requestState="later"`},
		{"no question", `{"inputRequests":{},"requestState":""}`, nil, nil, `requestState=""`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := Read(object(t, tt.result))
			if err != nil || len(r.Questions) != len(tt.asked) {
				t.Fatalf("%d questions, %v", len(r.Questions), err)
			}
			var answers [][]byte
			for i, q := range r.Questions {
				got, _ := q.Request(mcpwire.RawID(`"q"`), "hub", "ours")
				if string(got) != tt.asked[i] {
					t.Errorf("got  %s\nwant %s", got, tt.asked[i])
				}
				if _, err := mcpwire.ParseReply(got); err != nil {
					t.Errorf("%s: %v", got, err)
				}
				a, err := q.Answer([]byte(tt.responses[i]))
				if err != nil {
					t.Fatal(err)
				}
				answers = append(answers, a)
			}
			var got []string
			for _, f := range r.Retry(answers) {
				got = append(got, f.Name+"="+string(f.Value))
			}
			if strings.Join(got, " ") != tt.retry {
				t.Errorf("got  %s\nwant %s", strings.Join(got, " "), tt.retry)
			}
		})
	}
}

// many are n members.
func many(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf(`"k%d":{}`, i))
	}
	return strings.Join(all, ",")
}

func TestReadRefuses(t *testing.T) {
	for text, want := range map[string]string{
		`{}`:                                    "without inputRequests and requestState",
		`{"inputRequests":null}`:                "without inputRequests and requestState",
		`{"inputRequests":[]}`:                  "inputRequests: not a JSON object",
		`{"inputRequests":{"a":7}}`:             "inputRequests.a: not a JSON object",
		`{"inputRequests":{"a":{"params":[]}}}`: "inputRequests.a.params: not a JSON object",
		`{"inputRequests":{"a":{},"a":{}}}`:     "twice",
		`{"requestState":{}}`:                   "requestState is no string",
		`{"requestState":"` + strings.Repeat("s", MaxState+1) + `"}`: "at most 16384",
		`{"inputRequests":{` + many(maxQuestions+1) + `}}`:           "at most 16",
	} {
		if _, err := Read(object(t, text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, want %q", text, err, want)
		}
	}
	if r, err := Read(object(t, `{"requestState":"`+strings.Repeat("s", MaxState)+`"}`)); err != nil || len(r.State) != MaxState {
		t.Errorf("the longest state: %d bytes, %v", len(r.State), err)
	}
}

// TestFits: nobody is asked what the client did not declare.
func TestFits(t *testing.T) {
	const form, url = `{"method":"elicitation/create","params":{"message":"m"}}`, `{"method":"elicitation/create","params":{"mode":"url","url":"https://a"}}`
	const sample, tools = `{"method":"sampling/createMessage","params":{}}`, `{"method":"sampling/createMessage","params":{"tools":[]}}`
	const roots = `{"method":"roots/list"}`
	for capabilities, fit := range map[string][]string{
		`{}`:                                   nil,
		`[]`:                                   nil,
		`{"elicitation":{}}`:                   {form},
		`{"elicitation":7}`:                    nil,
		`{"elicitation":{"form":{}}}`:          {form},
		`{"elicitation":{"url":{}}}`:           {url},
		`{"elicitation":{"form":{},"url":{}}}`: {form, url},
		`{"sampling":{}}`:                      {sample},
		`{"sampling":{"tools":{}}}`:            {sample, tools},
		`{"roots":{"listChanged":true}}`:       {roots},
	} {
		for _, q := range []string{form, url, sample, tools, roots, `{"method":"tools/call"}`, `{}`} {
			r, err := Read(object(t, `{"inputRequests":{"k":`+q+`}}`))
			if err != nil {
				t.Fatal(err)
			}
			want := false
			for _, f := range fit {
				want = want || f == q
			}
			if got := r.Questions[0].Fits([]byte(capabilities)); got != want {
				t.Errorf("%s with %s: %v", q, capabilities, got)
			}
		}
	}
}

func TestAnswerRefused(t *testing.T) {
	for _, method := range []string{Sample, Roots} {
		for _, response := range []string{`{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"no"}}`, `{"jsonrpc":"2.0","id":1,"result":[]}`, `x`} {
			if a, err := (Question{Method: method}).Answer([]byte(response)); err != ErrRefused {
				t.Errorf("%s, %s: %s, %v", method, response, a, err)
			}
		}
	}
}
