package mcpwire

import (
	"strings"
	"testing"
)

// TestParseReply: one JSON-RPC message and nothing else, whatever stands in its parts.
func TestParseReply(t *testing.T) {
	for _, tt := range []struct {
		text  string
		kind  Kind
		wrong string // in the error
	}{
		{text: `{"jsonrpc":"2.0","id":1,"result":{}}`, kind: KindResponse},
		{text: ` {"jsonrpc":"2.0","id":"a","error":{"code":-32000,"message":"x"}} ` + "\n", kind: KindResponse},
		{text: `{"jsonrpc":"2.0","id":null,"error":{}}`, kind: KindResponse},
		{text: `{"jsonrpc":"2.0","id":1,"method":"ping"}`, kind: KindRequest},
		{text: `{"jsonrpc":"2.0","method":"notifications/progress","params":[]}`, kind: KindNotification},
		{text: `{"jsonrpc":"2.0","id":1,"result":{"a":1,"a":2}}`, kind: KindResponse}, // within a part twice is the client's to judge
		{text: `{"jsonrpc":"1.0","id":1,"result":{}}`, wrong: `jsonrpc is not "2.0"`},
		{text: `{"id":1,"result":{}}`, wrong: `jsonrpc is not "2.0"`},
		{text: `{"jsonrpc":"2.0","id":1,"result":{}}{}`, wrong: "text after the document"},
		{text: `{"jsonrpc":"2.0","id":1,"result":{}} x`, wrong: "text after the document"},
		{text: `{"jsonrpc":"2.0","id":1,"id":1,"result":{}}`, wrong: "twice"},
		{text: `{"jsonrpc":"2.0","id":1.5,"result":{}}`, wrong: "id is neither"},
		{text: `{"jsonrpc":"2.0","id":1,"method":7}`, wrong: "method is no string"},
		{text: `{"jsonrpc":"2.0","id":1,"method":"x","result":{}}`, wrong: "more than one"},
		{text: `{"jsonrpc":"2.0","id":1,"error":{},"result":{}}`, wrong: "more than one"},
		{text: `{"jsonrpc":"2.0","id":1}`, wrong: "none of"},
		{text: `[{"jsonrpc":"2.0","id":1,"result":{}}]`, wrong: "not a JSON object"},
		{text: `{"jsonrpc":"2.0"`, wrong: "EOF"},
		{text: ``, wrong: "not a JSON object"},
	} {
		r, err := ParseReply([]byte(tt.text))
		switch {
		case tt.wrong == "" && (err != nil || r.Kind != tt.kind):
			t.Errorf("%s: %v, %v, want %v", tt.text, r.Kind, err, tt.kind)
		case tt.wrong != "" && (err == nil || !strings.Contains(err.Error(), tt.wrong)):
			t.Errorf("%s: %v, want %q", tt.text, err, tt.wrong)
		}
	}
}

// TestReplyParts: each part is the bytes as they were written, and an object where it is one.
func TestReplyParts(t *testing.T) {
	text := func(o Object, ok bool) string {
		if !ok {
			return "none"
		}
		return string(o.Bytes())
	}
	for _, tt := range []struct {
		text, result, params, failure string
		code                          int
	}{
		{`{"jsonrpc":"2.0","id":1,"result":{ "a":1 }}`, `{ "a":1 }`, "none", "none", 0},
		{`{"jsonrpc":"2.0","id":1,"result":[]}`, "none", "none", "none", 0},
		{`{"jsonrpc":"2.0","id":1,"result":{"a":1,"a":2}}`, "none", "none", "none", 0},
		{`{"jsonrpc":"2.0","id":1,"error":{"code":-32000}}`, "none", "none", `{"code":-32000}`, -32000},
		{`{"jsonrpc":"2.0","id":1,"error":"no"}`, "none", "none", "none", 0},
		{`{"jsonrpc":"2.0","id":1,"error":{"code":"x"}}`, "none", "none", `{"code":"x"}`, 0},
		{`{"jsonrpc":"2.0","method":"m","params":{"uri":"u"}}`, "none", `{"uri":"u"}`, "none", 0},
	} {
		r, err := ParseReply([]byte(tt.text))
		if err != nil {
			t.Fatalf("%s: %v", tt.text, err)
		}
		if got := text(r.Result()); got != tt.result || r.ResultSpan.Exists() != strings.Contains(tt.text, `"result"`) {
			t.Errorf("%s: result %s, there: %v", tt.text, got, r.ResultSpan.Exists())
		}
		if got := text(r.Params()); got != tt.params || r.ParamsSpan.Exists() != strings.Contains(tt.text, `"params"`) {
			t.Errorf("%s: params %s, there: %v", tt.text, got, r.ParamsSpan.Exists())
		}
		if got := text(r.Error()); got != tt.failure || r.ErrorSpan.Exists() != strings.Contains(tt.text, `"error"`) {
			t.Errorf("%s: error %s, there: %v", tt.text, got, r.ErrorSpan.Exists())
		}
		if got := r.ErrorCode(); got != tt.code {
			t.Errorf("%s: code %d", tt.text, got)
		}
	}
}

func TestUnquote(t *testing.T) {
	for raw, want := range map[string]string{`""`: "", `"a\n\u00e9"`: "a\né"} {
		if got, ok := Unquote([]byte(raw)); !ok || got != want {
			t.Errorf("%s: %q, %v", raw, got, ok)
		}
	}
	for _, raw := range []string{``, `"`, `7`, `{}`, `"a`, `"\x"`} {
		if got, ok := Unquote([]byte(raw)); ok {
			t.Errorf("%s: %q, and is no string", raw, got)
		}
	}
}
