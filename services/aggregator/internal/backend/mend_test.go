package backend

import "testing"

func TestMend(t *testing.T) {
	for _, test := range []struct{ in, want string }{ // want empty: it stays what it is, and is refused
		{"\xef\xbb\xbf" + `{"jsonrpc":"2.0","id":1,"result":{}}`, `{"jsonrpc":"2.0","id":1,"result":{}}`},
		{`{"jsonrpc":"2.0","id":1,"result":{},"error":null,"method":null}`, `{"jsonrpc":"2.0","id":1,"result":{}}`},
		{`{"jsonrpc":"2.0","id":1,"result":null,"error":{"code":1}}`, `{"jsonrpc":"2.0","id":1,"error":{"code":1}}`},
		{`{"jsonrpc":"2.0","id":1,"result":null,"error":null}`, `{"jsonrpc":"2.0","id":1,"result":null}`},
		{`{"jsonrpc":"2.0","id":1,"result":[ ]}`, `{"jsonrpc":"2.0","id":1,"result":{}}`},
		{`{"jsonrpc":"2.0","id":1,"result":[0]}`, `{"jsonrpc":"2.0","id":1,"result":[0]}`},
		{`{"jsonrpc":"2.0","id":7.0,"result":{"a":7.0}}`, `{"jsonrpc":"2.0","id":7,"result":{"a":7.0}}`},
		{`{"jsonrpc":"2.0","id":7.5,"result":{}}`, ""},
		{`{"jsonrpc":"2.0","id":1,"result":{"a":"\ud83d","b":"\ud83d\ude00","c":"\\ud83d","d":"\ude00\ud83d"}}`,
			`{"jsonrpc":"2.0","id":1,"result":{"a":"\ufffd","b":"\ud83d\ude00","c":"\\ud83d","d":"\ufffd\ufffd"}}`},
		{"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"a\":\"\xff\xfeb\xed\xa0\x80\"}}", "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"a\":\"\uFFFDb\uFFFD\"}}"},
		{`{"jsonrpc":"2.0","id":1,"result":{}}{}`, ""},
		{`{"level":"info","error":null}`, ""},
		{`{"jsonrpc":"2.0","id":1,"result":"\ud83`, ""},
		{`\u`, ""},
	} {
		r, err := parse([]byte(test.in))
		if (err == nil) != (test.want != "") || err == nil && string(r.Body.Text) != test.want {
			t.Errorf("%s:\ngot  %s, %v\nwant %s", test.in, r.Body.Text, err, test.want)
		}
	}
}
