package e2e

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"vmcp/internal/mcptest"
	"vmcp/internal/mcpwire"
)

const (
	allowedTool   = "kubernetes-backend_get_pods"
	forbiddenTool = "kubernetes-backend_delete_namespace"
)

// TestRefused is the corpus of ways around a decision: what one reader may take for the allowed call and another for the
// forbidden one. Each is refused, and the backend sees nothing of it. A modern message is sent with the headers of the
// allowed call, so that no header gives it away.
func TestRefused(t *testing.T) {
	h, kubernetes := kubernetesOverHTTP(t)
	w := start(t, guide, without("github-backend"), kubernetes)
	legacy := &caller{w: w, token: w.token("ann", "mcp-developers")}
	modern := &caller{w: w, token: legacy.token, modern: true}
	for _, c := range []*caller{legacy, modern} { // the door is open for what is allowed, and closed for what is not
		if a := c.call(t, allowedTool, `{"namespace":"shop"}`); !a.ok() {
			t.Fatalf("allowed: %d %s", a.status, a.body)
		}
		if a := c.call(t, forbiddenTool, `{"namespace":"staging"}`); !denied(a, mcpwire.ItemTool, forbiddenTool) {
			t.Fatalf("forbidden: %d %s", a.status, a.body)
		}
	}
	if !h.Saw("get_pods") || h.Saw("delete_namespace") {
		t.Fatalf("the backend was asked for %q", asked(h))
	}
	nothingSeen := func(t *testing.T) {
		t.Helper()
		if got := asked(h); len(got) > 0 {
			t.Errorf("the backend was asked for %q", got)
			h.Reset()
		}
	}
	h.Reset()
	t.Run("json", func(t *testing.T) { refusedJSON(t, legacy, modern, nothingSeen) })
	t.Run("headers", func(t *testing.T) { refusedHeaders(t, legacy, modern, nothingSeen) })
	t.Run("http", func(t *testing.T) { refusedHTTP(t, legacy, nothingSeen) })
	t.Run("wire", func(t *testing.T) { refusedWire(t, legacy, nothingSeen) })
	t.Run("h2", func(t *testing.T) { refusedHTTP2(t, legacy, h, nothingSeen) })
}

// refusedJSON: in a body OK and NO stand for the two tools, META for what a modern request says of its client.
func refusedJSON(t *testing.T, legacy, modern *caller, nothingSeen func(*testing.T)) {
	const head, args = `{"jsonrpc":"2.0","id":1,"method":"tools/call",`, `"arguments":{"namespace":"shop"}`
	params := func(members string) string { return head + `"params":{META` + members + `}}` }
	deep := strings.Repeat(`{"a":`, 10_000) + "1" + strings.Repeat("}", 10_000)
	for _, c := range []struct {
		name, body string
		code       int // of the 400; 0: the answer is a denial with 200
	}{
		// One member twice, by any spelling.
		{"method twice", `{"jsonrpc":"2.0","id":1,"method":"tools/list","method":"tools/call","params":{META"name":"NO",` + args + `}}`, -32600},
		{"method twice, the other way", `{"jsonrpc":"2.0","id":1,"method":"tools/call","method":"tools/list","params":{META"name":"NO",` + args + `}}`, -32600},
		{"id twice", `{"jsonrpc":"2.0","id":1,"id":2,"method":"tools/call","params":{META"name":"OK",` + args + `}}`, -32600},
		{"params twice", head + `"params":{META"name":"OK",` + args + `},"params":{META"name":"NO",` + args + `}}`, -32600},
		{"name twice", params(`"name":"OK","name":"NO",` + args), -32600},
		{"name twice, the other way", params(`"name":"NO","name":"OK",` + args), -32600},
		{"name twice and equal", params(`"name":"OK","name":"OK",` + args), -32600},
		{"name and Name", params(`"name":"OK","Name":"NO",` + args), -32600},
		{"NAME and name", params(`"NAME":"NO","name":"OK",` + args), -32600},
		{"Name alone", params(`"Name":"NO",` + args), -32600},
		{"name in escapes", params(`"name":"OK","na\u006de":"NO",` + args), -32600},
		{"Name in escapes", params(`"name":"OK","\u004eame":"NO",` + args), -32600},
		{"METHOD", strings.Replace(params(`"name":"OK",`+args), `"method"`, `"METHOD":"tools/list","method"`, 1), -32600},
		{"Method alone", strings.Replace(params(`"name":"NO",`+args), `"method"`, `"Method"`, 1), -32600},
		{"paramſ", head + `"params":{META"name":"OK",` + args + `},"param\u017f":{"name":"NO"}}`, -32600},
		{"Params", head + `"params":{META"name":"OK",` + args + `},"Params":{"name":"NO"}}`, -32600},
		{"ID", strings.Replace(params(`"name":"OK",`+args), `"id"`, `"ID":2,"id"`, 1), -32600},
		{"JSONRPC", strings.Replace(params(`"name":"OK",`+args), `"jsonrpc"`, `"JsonRpc":"2.0","jsonrpc"`, 1), -32600},
		{"Arguments", params(`"name":"OK",` + args + `,"Arguments":{"namespace":"staging"}`), -32600},
		{"argumentſ", params(`"name":"OK",` + args + `,"argument\u017f":{"namespace":"staging"}`), -32600},
		{"arguments twice", params(`"name":"OK",` + args + `,` + args), -32600},
		{"an argument twice", params(`"name":"OK","arguments":{"namespace":"shop","namespace":"staging"}`), -32600},
		{"an argument twice, in escapes", params(`"name":"OK","arguments":{"namespace":"shop","n\u0061mespace":"staging"}`), -32600},
		{"an argument in two cases", params(`"name":"OK","arguments":{"namespace":"shop","Namespace":"staging"}`), -32600},
		{"an argument in another case", params(`"name":"OK","arguments":{"NameSpace":"staging"}`), -32600},
		{"an argument with a long s", params(`"name":"OK","arguments":{"name\u017fpace":"staging"}`), -32600},
		{"undeclared twins with a Kelvin sign", params(`"name":"OK","arguments":{"namespace":"shop","keep":1,"\u212aeep":2}`), -32600},
		{"undeclared twins in two cases", params(`"name":"OK","arguments":{"namespace":"shop","keep":1,"Keep":2}`), -32600},
		{"twice deep in arguments", params(`"name":"OK","arguments":{"namespace":"shop","x":{"a":1,"a":2}}`), -32600},
		{"twice in an array in arguments", params(`"name":"OK","arguments":{"namespace":"shop","x":[{"a":1,"a":2}]}`), -32600},
		{"twice in _meta", params(`"name":"OK",` + args + `,"x":{"a":1,"a":2}`), -32600},
		{"_Meta", params(`"name":"OK",` + args + `,"_Meta":{}`), -32600},
		{"twice at the top, unknown", strings.Replace(params(`"name":"OK",`+args), `"id"`, `"x":1,"x":2,"id"`, 1), -32600},

		// Not one JSON object in UTF-8.
		{"a second document", params(`"name":"OK",`+args) + params(`"name":"NO",`+args), -32700},
		{"a second line", params(`"name":"OK",`+args) + "\n" + params(`"name":"NO",`+args), -32700},
		{"garbage after", params(`"name":"OK",`+args) + "x", -32700},
		{"NUL after", params(`"name":"OK",`+args) + "\x00", -32700},
		{"a comment", params(`"name":"OK",/* "name":"NO", */` + args), -32700},
		{"a BOM", "\ufeff" + params(`"name":"OK",`+args), -32700},
		{"UTF-16", utf16(params(`"name":"NO",` + args)), -32700},
		{"invalid UTF-8 in the name", params(`"name":"OK` + "\xff" + `",` + args), -32700},
		{"overlong UTF-8", params(`"name":"OK` + "\xc1\xae" + `",` + args), -32700},
		{"a lone surrogate", params(`"name":"OK\ud800",` + args), -32700},
		{"a lone surrogate in arguments", params(`"name":"OK","arguments":{"namespace":"\udead"}`), -32700},
		{"single quotes", params(`'name':'NO',` + args), -32700},
		{"a comma at the end", params(`"name":"NO",` + args + `,`), -32700},
		{"NaN", params(`"name":"OK","arguments":{"namespace":NaN}`), -32700},
		{"a control character", params(`"name":"OK` + "\n" + `",` + args), -32700},
		{"cut off", head + `"params":{META"name":"OK",`, -32700},
		{"white space only", "  \n", -32700},
		{"a batch", `[` + params(`"name":"OK",`+args) + `,` + params(`"name":"NO",`+args) + `]`, -32600},
		{"a batch of one", `[` + params(`"name":"OK",`+args) + `]`, -32600},
		{"an empty batch", `[]`, -32600},
		{"a string", `"tools/call"`, -32600},
		{"null", `null`, -32600},

		// JSON, but no JSON-RPC 2.0.
		{"no jsonrpc", `{"id":1,"method":"tools/call","params":{META"name":"OK",` + args + `}}`, -32600},
		{"jsonrpc 1.0", strings.Replace(params(`"name":"OK",`+args), `"2.0"`, `"1.0"`, 1), -32600},
		{"jsonrpc a number", strings.Replace(params(`"name":"OK",`+args), `"2.0"`, `2.0`, 1), -32600},
		{"id null", strings.Replace(params(`"name":"OK",`+args), `"id":1`, `"id":null`, 1), -32600},
		{"id a fraction", strings.Replace(params(`"name":"OK",`+args), `"id":1`, `"id":1.5`, 1), -32600},
		{"id an object", strings.Replace(params(`"name":"OK",`+args), `"id":1`, `"id":{}`, 1), -32600},
		{"method and result", strings.Replace(params(`"name":"OK",`+args), `"id":1`, `"id":1,"result":{}`, 1), -32600},
		{"method and error", strings.Replace(params(`"name":"OK",`+args), `"id":1`, `"id":1,"error":{"code":1,"message":""}`, 1), -32600},
		{"method a number", strings.Replace(params(`"name":"OK",`+args), `"tools/call"`, `7`, 1), -32600},
		{"params an array", head + `"params":["OK"]}`, -32600},
		{"params a string", head + `"params":"OK"}`, -32600},
		{"_meta an array", head + `"params":{"_meta":[],"name":"OK",` + args + `}}`, -32600},
		{"arguments an array", params(`"name":"OK","arguments":["shop"]`), -32602},
		{"arguments a string", params(`"name":"OK","arguments":"{}"`), -32602},
		{"name a number", params(`"name":7,` + args), -32602},
		{"name null", params(`"name":null,` + args), -32602},
		{"name an array", params(`"name":["OK"],` + args), -32602},
		{"name empty", params(`"name":"",` + args), -32602},
		{"no name", params(args), -32602},
		{"10,000 levels", params(`"name":"OK","arguments":{"namespace":` + deep + `}`), -32600},

		// Names that only look like the allowed one.
		{"a key with a dot", head + `"params.name":"OK","params":{META"name":"NO",` + args + `}}`, 0},
		{"a member with a dot in params", params(`"a.b":{"name":"OK"},"name":"NO",` + args), 0},
		{"a blank after the name", params(`"name":"OK ",` + args), 0},
		{"a line break after the name", params(`"name":"OK\n",` + args), 0},
		{"a zero-width space in the name", params(`"name":"OK\u200b",` + args), 0},
		{"the name in upper case", params(`"name":"KUBERNETES-BACKEND_GET_PODS",` + args), 0},
		{"the name with a Kelvin sign", params(`"name":"\u212aubernetes-backend_get_pods",` + args), 0},
		{"the name in wide letters", params(`"name":"kubernetes-backend_get_pod\uff53",` + args), 0},
		{"right-to-left override", params(`"name":"\u202eOK",` + args), 0},
		{"the prefix twice", params(`"name":"kubernetes-backend_OK",` + args), 0},
		{"the prefix alone", params(`"name":"kubernetes-backend_",` + args), 0},
		{"a name of 300 letters", params(`"name":"OK` + strings.Repeat("x", 300) + `",` + args), 0},
		{"__proto__ brings a name", params(`"__proto__":{"name":"OK"},"name":"NO",` + args), 0},
		{"padding before params", strings.Replace(params(`"name":"NO",`+args), `"params"`, `"pad":"`+strings.Repeat("x", 8193)+`","params"`, 1), 0},
		{"padding in blanks", strings.Replace(params(`"name":"NO",`+args), `"params"`, strings.Repeat(" ", 70_000)+`"params"`, 1), 0},
	} {
		for _, who := range []*caller{legacy, modern} {
			fill := strings.NewReplacer("OK", allowedTool, "NO", forbiddenTool, "META", "")
			era := "legacy"
			r := request{token: who.token, session: who.session}
			if who.modern {
				era = "modern"
				fill = strings.NewReplacer("OK", allowedTool, "NO", forbiddenTool, "META", meta+",")
				r.header = who.message("tools/call", "", allowedTool).header
			}
			t.Run(c.name+"/"+era, func(t *testing.T) {
				r.body = fill.Replace(c.body)
				a := who.w.send(t, r)
				switch {
				case c.code == 0 && who.modern: // the header gives another name
					if a.status != 400 || a.code() != mcpwire.CodeHeaderMismatch {
						t.Errorf("%d %.300s, want 400 -32020", a.status, a.body)
					}
				case c.code == 0:
					if e := a.reply().Error; a.status != 200 || a.code() != mcpwire.CodeInvalidParams || !strings.HasPrefix(e.Message, "unknown tool, or not permitted: ") {
						t.Errorf("%d %.300s, want the usual denial", a.status, a.body)
					}
				case a.status != 400 || a.code() != c.code:
					t.Errorf("%d %.300s, want 400 %d", a.status, a.body, c.code)
				}
				if got := a.header.Get("Content-Type"); got != "application/json" {
					t.Errorf("Content-Type %q", got)
				}
				nothingSeen(t)
			})
		}
	}
	t.Run("no id", func(t *testing.T) { // a call as a notification: taken, and dropped
		body := strings.NewReplacer("OK", allowedTool, "META", "", `"id":1,`, "").Replace(params(`"name":"OK",` + args))
		if a := legacy.w.send(t, request{token: legacy.token, session: legacy.session, body: body}); a.status != 202 || a.body != "" {
			t.Errorf("%d %s, want 202", a.status, a.body)
		}
		nothingSeen(t)
	})
	t.Run("an answer to no question", func(t *testing.T) {
		for _, body := range []string{`{"jsonrpc":"2.0","id":"vmcp-1","result":{"action":"accept"}}`, `{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"x"}}`} {
			if a := legacy.w.send(t, request{token: legacy.token, session: legacy.session, body: body}); a.status != 202 || a.body != "" {
				t.Errorf("%d %s, want 202", a.status, a.body)
			}
		}
		nothingSeen(t)
	})
	t.Run("other methods", func(t *testing.T) { // HM-4
		for _, m := range []string{"tools/Call", "tools/call ", "/tools/call", "tools/call\u200b", "tool/call", "x", "rpc.discover", "tasks/get", "sampling/createMessage", "elicitation/create", "roots/list"} {
			body := `{"jsonrpc":"2.0","id":1,"method":` + quoted(m) + `,"params":{"name":"` + allowedTool + `"}}`
			if a := legacy.w.send(t, request{token: legacy.token, session: legacy.session, body: body}); a.status != 200 || a.code() != mcpwire.CodeMethodNotFound {
				t.Errorf("legacy %q: %d %s", m, a.status, a.body)
			}
			r := modern.message("x", "", "")
			r.body = strings.Replace(r.body, `"x"`, quoted(m), 1)
			r.header.Set("Mcp-Method", strings.TrimRight(m, " "))
			if a := modern.w.send(t, r); !(a.status == 404 && a.code() == mcpwire.CodeMethodNotFound || a.status == 400 && a.code() == mcpwire.CodeHeaderMismatch) {
				t.Errorf("modern %q: %d %s", m, a.status, a.body)
			}
		}
		for _, m := range []string{"initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"} {
			if a := modern.ask(t, m, "", ""); a.status != 404 || a.code() != mcpwire.CodeMethodNotFound {
				t.Errorf("modern %s: %d %s", m, a.status, a.body)
			}
		}
		for _, m := range []string{"server/discover", "subscriptions/listen"} {
			if a := legacy.ask(t, m, "", ""); a.status != 200 || a.code() != mcpwire.CodeMethodNotFound {
				t.Errorf("legacy %s: %d %s", m, a.status, a.body)
			}
		}
		nothingSeen(t)
	})
}

func utf16(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		b.Write([]byte{c, 0})
	}
	return b.String()
}

// refusedHeaders: headers that say something else than the body. The body asks for the forbidden tool where nothing else
// is said.
func refusedHeaders(t *testing.T, legacy, modern *caller, nothingSeen func(*testing.T)) {
	call := func(tool string) string { return `"name":"` + tool + `","arguments":{"namespace":"shop"}` }
	for _, c := range []struct {
		name   string
		who    *caller
		params string
		header http.Header // replaces those of a good request for the allowed tool; nil values are taken away
		status int
		code   int
	}{
		{"Mcp-Name allowed, body forbidden", modern, call(forbiddenTool), nil, 400, -32020},
		{"Mcp-Name forbidden, body allowed", modern, call(allowedTool), http.Header{"Mcp-Name": {forbiddenTool}}, 400, -32020},
		{"both forbidden", modern, call(forbiddenTool), http.Header{"Mcp-Name": {forbiddenTool}}, 200, -32602},
		{"both forbidden, in base64", modern, call(forbiddenTool), http.Header{"Mcp-Name": {base64Header(forbiddenTool)}}, 200, -32602},
		{"base64 of the forbidden", modern, call(allowedTool), http.Header{"Mcp-Name": {base64Header(forbiddenTool)}}, 400, -32020},
		{"base64 twice", modern, call(allowedTool), http.Header{"Mcp-Name": {base64Header(base64Header(allowedTool))}}, 400, -32020},
		{"base64 marker in upper case", modern, call(allowedTool), http.Header{"Mcp-Name": {strings.Replace(base64Header(allowedTool), "base64", "BASE64", 1)}}, 400, -32020},
		{"no base64", modern, call(allowedTool), http.Header{"Mcp-Name": {"=?base64?!!?="}}, 400, -32020},
		{"base64 without its end", modern, call(allowedTool), http.Header{"Mcp-Name": {strings.TrimSuffix(base64Header(allowedTool), "?=")}}, 400, -32020},
		{"base64 without padding", modern, call(allowedTool), http.Header{"Mcp-Name": {strings.Replace(base64Header(allowedTool+"x"), "=?=", "?=", 1)}}, 400, -32020},
		{"Mcp-Name in upper case", modern, call(allowedTool), http.Header{"Mcp-Name": {strings.ToUpper(allowedTool)}}, 400, -32020},
		{"no Mcp-Name", modern, call(allowedTool), http.Header{"Mcp-Name": nil}, 400, -32020},
		{"Mcp-Name twice", modern, call(allowedTool), http.Header{"Mcp-Name": {allowedTool, forbiddenTool}}, 400, -32600},
		{"Mcp-Name twice, the other way", modern, call(forbiddenTool), http.Header{"Mcp-Name": {forbiddenTool, allowedTool}}, 400, -32600},
		{"Mcp-Name twice and equal", modern, call(allowedTool), http.Header{"Mcp-Name": {allowedTool, allowedTool}}, 400, -32600},
		{"Mcp-Name with two names", modern, call(allowedTool), http.Header{"Mcp-Name": {allowedTool + "," + forbiddenTool}}, 400, -32020},
		{"Mcp-Name of 9 KiB", modern, call(allowedTool), http.Header{"Mcp-Name": {strings.Repeat("x", 9<<10)}}, 400, -32600},
		{"Mcp-Method of a list", modern, call(forbiddenTool), http.Header{"Mcp-Method": {"tools/list"}, "Mcp-Name": {forbiddenTool}}, 400, -32020},
		{"Mcp-Method of another call", modern, call(allowedTool), http.Header{"Mcp-Method": {"prompts/get"}}, 400, -32020},
		{"Mcp-Method in upper case", modern, call(allowedTool), http.Header{"Mcp-Method": {"TOOLS/CALL"}}, 400, -32020},
		{"no Mcp-Method", modern, call(allowedTool), http.Header{"Mcp-Method": nil}, 400, -32020},
		{"Mcp-Method twice", modern, call(allowedTool), http.Header{"Mcp-Method": {"tools/call", "tools/list"}}, 400, -32600},
		{"the version twice", modern, call(allowedTool), http.Header{"Mcp-Protocol-Version": {"2026-07-28", "2025-11-25"}}, 400, -32600},
		{"the versions in one line", modern, call(allowedTool), http.Header{"Mcp-Protocol-Version": {"2026-07-28, 2025-11-25"}}, 400, -32020},
		{"a modern body under an older version", modern, call(allowedTool), http.Header{"Mcp-Protocol-Version": {"2025-11-25"}}, 400, -32020},
		{"a modern body under no version", modern, call(allowedTool), http.Header{"Mcp-Protocol-Version": nil}, 400, -32020},
		{"a version to come", modern, strings.Replace(call(allowedTool)+","+meta, "2026-07-28", "2031-01-01", 1), http.Header{"Mcp-Protocol-Version": {"2031-01-01"}}, 400, -32022},
		{"a version that never was", modern, strings.Replace(call(allowedTool)+","+meta, "2026-07-28", "latest", 1), http.Header{"Mcp-Protocol-Version": {"latest"}}, 400, -32022},
		{"no _meta", modern, call(allowedTool) + `,"_meta":{}`, nil, 400, -32602},
		{"no client capabilities", modern, call(allowedTool) + `,"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}`, nil, 400, -32602},
		{"a version in _meta that is no string", modern, call(allowedTool) + `,"_meta":{"io.modelcontextprotocol/protocolVersion":1}`, nil, 400, -32600},

		{"legacy with a forged Mcp-Name", legacy, call(forbiddenTool), http.Header{"Mcp-Name": {allowedTool}, "Mcp-Method": {"tools/call"}}, 200, -32602},
		{"legacy with a forged Mcp-Method", legacy, call(forbiddenTool), http.Header{"Mcp-Protocol-Version": {"2025-11-25"}, "Mcp-Method": {"tools/list"}}, 200, -32602},
		{"legacy that says 2026-07-28", legacy, call(allowedTool), http.Header{"Mcp-Protocol-Version": {"2026-07-28"}}, 400, -32602},
		{"legacy with modern _meta", legacy, call(allowedTool) + "," + meta, http.Header{"Mcp-Protocol-Version": {"2025-11-25"}}, 400, -32020},
		{"another version than the session's", legacy, call(allowedTool), http.Header{"Mcp-Protocol-Version": {"2025-06-18"}}, 400, -32600},
		{"two sessions", legacy, call(allowedTool), http.Header{"Mcp-Session-Id": {"SESSION", "SESSION"}}, 400, -32600},
		{"no session", legacy, call(allowedTool), http.Header{"Mcp-Session-Id": nil}, 400, -32600},
		{"another session", legacy, call(allowedTool), http.Header{"Mcp-Session-Id": {"somebody-elses"}}, 404, -32600},
		{"a modern client with a session, forbidden", modern, call(forbiddenTool), http.Header{"Mcp-Session-Id": {"SESSION"}, "Mcp-Name": {forbiddenTool}}, 200, -32602},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := c.who.message("tools/call", "PARAMS", allowedTool)
			if strings.Contains(c.params, `"_meta"`) {
				r.body = strings.Replace(r.body, ","+meta, "", 1)
			}
			r.body = strings.Replace(r.body, "PARAMS", c.params, 1)
			if r.header == nil {
				r.header = http.Header{}
			}
			if _, own := c.header["Mcp-Session-Id"]; own {
				r.session = ""
			}
			for name, values := range c.header {
				r.header[name] = nil
				for _, v := range values {
					r.header[name] = append(r.header[name], strings.Replace(v, "SESSION", legacy.session, 1))
				}
			}
			a := c.who.w.send(t, r)
			if a.status != c.status || a.code() != c.code || a.header.Get("Content-Type") != "application/json" {
				t.Errorf("%d %.300s, want %d %d", a.status, a.body, c.status, c.code)
			}
			if id := string(a.reply().ID); a.status == 200 && id != "1" {
				t.Errorf("the answer has id %s", id)
			}
			nothingSeen(t)
		})
	}
	t.Run("modern GET and DELETE", func(t *testing.T) {
		for _, method := range []string{"GET", "DELETE"} {
			a := modern.w.send(t, request{method: method, token: modern.token, header: http.Header{"Mcp-Protocol-Version": {"2026-07-28"}}})
			if a.status != 405 || a.header.Get("Allow") != "POST" {
				t.Errorf("%s: %d %v, want 405", method, a.status, a.header)
			}
		}
	})
}

func base64Header(s string) string {
	return "=?base64?" + base64String(s) + "?="
}

// refusedHTTP: the frame around the message.
func refusedHTTP(t *testing.T, who *caller, nothingSeen func(*testing.T)) {
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	io.WriteString(z, toolCall(allowedTool))
	z.Close()
	w := who.w
	big := strings.Replace(toolCall(allowedTool), "staging", strings.Repeat("x", 4<<20), 1)
	ok, no := toolCall(allowedTool), toolCall(forbiddenTool)
	for _, c := range []struct {
		name   string
		r      request
		status int
		code   int // 0: no JSON-RPC body is asked for
	}{
		{"a body over 4 MiB", request{body: big}, 413, -32600},
		{"no body", request{}, 400, -32700},
		{"gzip", request{body: zipped.String(), header: http.Header{"Content-Encoding": {"gzip"}}}, 415, -32600},
		{"said to be gzip", request{body: ok, header: http.Header{"Content-Encoding": {"gzip"}}}, 415, -32600},
		{"br", request{body: ok, header: http.Header{"Content-Encoding": {"br"}}}, 415, -32600},
		{"two encodings", request{body: ok, header: http.Header{"Content-Encoding": {"identity", "gzip"}}}, 415, -32600},
		{"text/plain", request{body: ok, header: http.Header{"Content-Type": {"text/plain"}}}, 415, -32600},
		{"a form", request{body: ok, header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}}, 415, -32600},
		{"multipart", request{body: ok, header: http.Header{"Content-Type": {"multipart/form-data; boundary=x"}}}, 415, -32600},
		{"a JSON patch", request{body: ok, header: http.Header{"Content-Type": {"application/json-patch+json"}}}, 415, -32600},
		{"another charset", request{body: ok, header: http.Header{"Content-Type": {"application/json; charset=utf-7"}}}, 415, -32600},
		{"two content types", request{body: ok, header: http.Header{"Content-Type": {"application/json", "text/plain"}}}, 415, -32600},

		{"PUT", request{method: "PUT", body: ok}, 405, -32600},
		{"PATCH", request{method: "PATCH", body: ok}, 405, -32600},
		{"HEAD", request{method: "HEAD"}, 405, 0},
		{"TRACE", request{method: "TRACE"}, 405, -32600},
		{"OPTIONS without Origin", request{method: "OPTIONS", body: ok}, 405, -32600},
		{"post", request{method: "post", body: ok}, 400, -32600},
		{"POSTX", request{method: "POSTX", body: ok}, 400, -32600},
		{"GET with a body", request{method: "GET", body: ok}, 400, -32600},
		{"DELETE with a body", request{method: "DELETE", body: ok}, 400, -32600},

		{"/mcp/", request{body: ok, url: w.aud + "/mcp/"}, 404, -32600},
		{"/MCP", request{body: ok, url: w.aud + "/MCP"}, 404, -32600},
		{"/mcp;x=1", request{body: ok, url: w.aud + "/mcp;x=1"}, 404, -32600},
		{"/mcp%2f", request{body: ok, url: w.aud + "/mcp%2f"}, 400, -32600},
		{"/mcp%5c", request{body: ok, url: w.aud + "/mcp%5c"}, 400, -32600},
		{"/mcp/..%2fmcp", request{body: ok, url: w.aud + "/mcp/..%2fmcp"}, 400, -32600},
		{"/mcpx", request{body: ok, url: w.aud + "/mcpx"}, 404, -32600},
		{"/", request{body: ok, url: w.aud + "/"}, 404, -32600},
		{"/oauth/../mcp", request{body: no, url: w.aud + "/oauth/../mcp"}, 200, -32602},
		{"well-known/../mcp", request{body: no, url: w.aud + "/.well-known/oauth-protected-resource/../../mcp"}, 200, -32602},
		{"/x/..;/mcp", request{body: no, url: w.aud + "/x/..;/mcp"}, 200, -32602},
		{"//mcp", request{body: no, url: w.aud + "//mcp"}, 200, -32602},
		{"/./mcp", request{body: no, url: w.aud + "/./mcp"}, 200, -32602},
		{"/%6dcp", request{body: no, url: w.aud + "/%6dcp"}, 200, -32602},
		{"a query", request{body: no, url: w.URL + "?tool=" + allowedTool}, 200, -32602},
		{"a message to the metadata document", request{body: ok, url: w.aud + "/.well-known/oauth-protected-resource/mcp"}, 405, -32600},

		{"a header with an underscore", request{body: ok, header: http.Header{"Mcp_Name": {allowedTool}}}, 400, 0},
		{"X-HTTP-Method-Override", request{body: no, header: http.Header{"X-Http-Method-Override": {"GET"}}}, 200, -32602},
		{"X-Original-URL", request{body: no, header: http.Header{"X-Original-Url": {"/.well-known/oauth-protected-resource"}}}, 200, -32602},
		{"X-Rewrite-URL", request{body: no, header: http.Header{"X-Rewrite-Url": {"/oauth/token"}}}, 200, -32602},
		{"x-envoy-original-path", request{body: no, header: http.Header{"X-Envoy-Original-Path": {"/oauth/token"}}}, 200, -32602},
		{"X-Forwarded-For", request{body: no, header: http.Header{"X-Forwarded-For": {"10.0.0.1"}}}, 200, -32602},
		{"101 headers", request{body: ok, header: many(101)}, 431, 0},
		{"64 KiB of headers", request{body: ok, header: http.Header{"X-Long": {strings.Repeat("x", 64<<10)}}}, 431, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.r.token, c.r.session = who.token, who.session
			a, err := w.try(c.r)
			if err != nil { // a body that nobody reads to its end
				t.Fatal(err)
			}
			if a.status != c.status || c.code != 0 && a.code() != c.code {
				t.Errorf("%d %.300s, want %d %d", a.status, a.body, c.status, c.code)
			}
			nothingSeen(t)
		})
	}
	t.Run("chunks without a length", func(t *testing.T) {
		for body, want := range map[string]int{no: 200, big: 413} {
			req, err := http.NewRequest("POST", w.URL, struct{ io.Reader }{strings.NewReader(body)})
			if err != nil {
				t.Fatal(err)
			}
			req.Header = http.Header{"Authorization": {"Bearer " + who.token}, "Mcp-Session-Id": {who.session}, "Content-Type": {"application/json"}}
			resp, err := plain.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			text, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != want || !strings.Contains(string(text), `"error"`) {
				t.Errorf("%d %s, want %d", resp.StatusCode, text, want)
			}
		}
		nothingSeen(t)
	})
}

func many(n int) http.Header {
	h := http.Header{}
	for i := range n {
		h.Set(fmt.Sprintf("X-H%d", i), "x")
	}
	return h
}

// refusedWire: bytes that no HTTP library would send. HEADERS and BODY stand for those of the forbidden call.
func refusedWire(t *testing.T, who *caller, nothingSeen func(*testing.T)) {
	w := who.w
	no := toolCall(forbiddenTool)
	length := fmt.Sprintf("Content-Length: %d\r\n", len(no))
	chunked := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(no), no)
	headers := "Content-Type: application/json\r\nAuthorization: Bearer " + who.token + "\r\nMcp-Session-Id: " + who.session + "\r\nConnection: close\r\n"
	host := "Host: localhost:" + w.Listen[len("127.0.0.1:"):] + "\r\n"
	for _, c := range []struct {
		name, text string
		status     int // 0: any 4xx or 5xx, or the connection is closed; -1: that, or the usual denial
	}{
		{"the plain denial", "POST /mcp HTTP/1.1\r\n" + host + headers + length + "\r\n" + no, 200},
		{"Content-Length and chunks", "POST /mcp HTTP/1.1\r\n" + host + headers + length + "Transfer-Encoding: chunked\r\n\r\n" + chunked, 0},
		{"two lengths", "POST /mcp HTTP/1.1\r\n" + host + headers + length + "Content-Length: 5\r\n\r\n" + no, 0},
		{"two equal lengths in one line", "POST /mcp HTTP/1.1\r\n" + host + headers + fmt.Sprintf("Content-Length: %d, %d\r\n\r\n", len(no), len(no)) + no, 0},
		{"a negative length", "POST /mcp HTTP/1.1\r\n" + host + headers + "Content-Length: -1\r\n\r\n" + no, 0},
		{"an unknown transfer coding", "POST /mcp HTTP/1.1\r\n" + host + headers + "Transfer-Encoding: xchunked\r\n\r\n" + chunked, 0},
		{"gzip as a transfer coding", "POST /mcp HTTP/1.1\r\n" + host + headers + "Transfer-Encoding: gzip, chunked\r\n\r\n" + chunked, 0},
		{"chunk extensions", "POST /mcp HTTP/1.1\r\n" + host + headers + "Transfer-Encoding: chunked\r\n\r\n" + strings.Replace(chunked, "\r\n", ";x=y\r\n", 1), 200},
		{"a chunk length in words", "POST /mcp HTTP/1.1\r\n" + host + headers + "Transfer-Encoding: chunked\r\n\r\nxyz\r\n" + no, 0},
		{"a carriage return alone in a header", "POST /mcp HTTP/1.1\r\n" + host + headers + length + "X: y\rx-vmcp-decision: a.b.c\r\n\r\n" + no, -1},
		{"line feeds alone", strings.ReplaceAll("POST /mcp HTTP/1.1\r\n"+host+headers+length+"x-vmcp-decision: a.b.c\r\n\r\n", "\r\n", "\n") + no, -1},
		{"a folded header", "POST /mcp HTTP/1.1\r\n" + host + headers + length + "X: y\r\n\tx-vmcp-decision: a.b.c\r\n\r\n" + no, -1},
		{"a blank before the colon", "POST /mcp HTTP/1.1\r\n" + host + headers + length + "Mcp-Name : x\r\n\r\n" + no, 0},
		{"NUL in a header", "POST /mcp HTTP/1.1\r\n" + host + headers + length + "X: a\x00b\r\n\r\n" + no, 0},
		{"two Hosts", "POST /mcp HTTP/1.1\r\n" + host + "Host: evil.example\r\n" + headers + length + "\r\n" + no, 0},
		{"no Host", "POST /mcp HTTP/1.1\r\n" + headers + length + "\r\n" + no, 0},
		{"a foreign URL in the request line", "POST http://evil.example/mcp HTTP/1.1\r\n" + host + headers + length + "\r\n" + no, 403},
		{"our URL in the request line, a foreign Host", "POST http://evil.example/mcp HTTP/1.1\r\nHost: evil.example\r\n" + headers + length + "\r\n" + no, 403},
		{"a person in the URL", "POST http://ann@localhost/mcp HTTP/1.1\r\n" + host + headers + length + "\r\n" + no, 0},
		{"HTTP/1.0", "POST /mcp HTTP/1.0\r\n" + host + headers + length + "\r\n" + no, 0},
		{"HTTP/0.9", "POST /mcp\r\n", 0},
		{"CONNECT", "CONNECT localhost:22 HTTP/1.1\r\n" + host + headers + "\r\n", 0},
		{"a WebSocket", "GET /mcp HTTP/1.1\r\n" + host + strings.Replace(headers, "Connection: close", "Connection: Upgrade", 1) + "Upgrade: websocket\r\nSec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\nSec-WebSocket-Version: 13\r\n\r\n", 0},
		{"h2c by Upgrade", "POST /mcp HTTP/1.1\r\n" + host + strings.Replace(headers, "Connection: close", "Connection: Upgrade, HTTP2-Settings", 1) + "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n" + length + "\r\n" + no, 200},
		{"Expect: 100-continue", "POST /mcp HTTP/1.1\r\n" + host + headers + length + "Expect: 100-continue\r\n\r\n" + no, 200},
		{"a trailer", "POST /mcp HTTP/1.1\r\n" + host + headers + "Transfer-Encoding: chunked\r\nTrailer: x-vmcp-decision, mcp-name\r\n\r\n" +
			strings.TrimSuffix(chunked, "\r\n") + "x-vmcp-decision: a.b.c\r\nMcp-Name: " + allowedTool + "\r\n\r\n", 200},
		{"a second request in the body's place", "POST /mcp HTTP/1.1\r\n" + host + headers + "Content-Length: 0\r\n\r\n" +
			"POST /mcp HTTP/1.1\r\n" + host + headers + length + "\r\n" + no, 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, err := net.Dial("tcp", w.Listen)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(15 * time.Second))
			if _, err := io.WriteString(conn, c.text); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			for err == nil && resp.StatusCode == 100 {
				resp, err = http.ReadResponse(bufio.NewReader(io.MultiReader(resp.Body, conn)), nil)
			}
			var a answer
			if err == nil {
				body, _ := io.ReadAll(resp.Body)
				a = answer{resp.StatusCode, resp.Header, string(body)}
			}
			switch {
			case c.status == -1 && denied(a, mcpwire.ItemTool, forbiddenTool):
			case c.status == 200:
				if !denied(a, mcpwire.ItemTool, forbiddenTool) {
					t.Errorf("%v: %d %s, want the usual denial", err, a.status, a.body)
				}
			case c.status > 0 && a.status != c.status, c.status <= 0 && err == nil && (a.status < 400 || a.status > 501):
				t.Errorf("%v: %d %s, want %d", err, a.status, a.body, c.status)
			}
			nothingSeen(t)
		})
	}
}

// refusedHTTP2: the same door, entered by HTTP/2 with prior knowledge.
func refusedHTTP2(t *testing.T, who *caller, h *mcptest.HTTP, nothingSeen func(*testing.T)) {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: &http.Transport{Protocols: &protocols}}
	t.Cleanup(client.CloseIdleConnections)
	send := func(t *testing.T, body io.Reader, header, trailer http.Header) (answer, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, "POST", who.w.URL, body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header = http.Header{"Authorization": {"Bearer " + who.token}, "Mcp-Session-Id": {who.session}, "Content-Type": {"application/json"}}
		for name, values := range header {
			req.Header[name] = values
		}
		req.Trailer = trailer
		resp, err := client.Do(req)
		if err != nil {
			return answer{}, err
		}
		defer resp.Body.Close()
		if resp.ProtoMajor != 2 {
			t.Errorf("spoke %s", resp.Proto)
		}
		text, err := io.ReadAll(resp.Body)
		return answer{resp.StatusCode, resp.Header, string(text)}, err
	}
	stream := func(s string) io.Reader { return struct{ io.Reader }{strings.NewReader(s)} } // no length
	no, ok := toolCall(forbiddenTool), toolCall(allowedTool)
	for _, c := range []struct {
		name            string
		body            io.Reader
		header, trailer http.Header
		status, code    int
	}{
		{"the plain denial", strings.NewReader(no), nil, nil, 200, -32602},
		{"no length", stream(no), nil, nil, 200, -32602},
		{"trailers with a seal", stream(no), nil, http.Header{"X-Vmcp-Decision": {"a.b.c"}, "Mcp-Name": {allowedTool}}, 200, -32602},
		{"trailers with another token", stream(no), nil, http.Header{"Authorization": {"Bearer x"}}, 200, -32602},
		{"trailers after a body that is cut off", stream(no[:len(no)-2]), nil, http.Header{"X-Rest": {"}}"}}, 400, -32700},
		{"trailers after two documents", stream(no + ok), nil, http.Header{"X": {"y"}}, 400, -32700},
		{"a forged seal", strings.NewReader(no), http.Header{"x-vmcp-decision": {"a.b.c"}}, nil, 200, -32602},
		{"a forged seal twice", strings.NewReader(no), http.Header{"x-vmcp-decision": {"a.b.c", "d.e.f"}}, nil, 200, -32602},
		{"a header with an underscore", strings.NewReader(ok), http.Header{"x_vmcp_decision": {"a.b.c"}}, nil, 0, 0},
		{"over 4 MiB", stream(strings.Replace(ok, "staging", strings.Repeat("x", 4<<20), 1)), nil, nil, 413, -32600},
		{"twin names", strings.NewReader(strings.Replace(ok, `"name"`, `"Name":"x","name"`, 1)), nil, nil, 400, -32600},
		{"two tokens", strings.NewReader(ok), http.Header{"Authorization": {"Bearer " + who.token, "Bearer " + who.token}}, nil, 400, -32600},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, err := send(t, c.body, c.header, c.trailer)
			if c.status == 0 { // refused by status or by a reset of the stream
				if err == nil && a.status/100 != 4 {
					t.Errorf("%d %s", a.status, a.body)
				}
			} else if err != nil || a.status != c.status || a.code() != c.code {
				t.Errorf("%v: %d %.300s, want %d %d", err, a.status, a.body, c.status, c.code)
			}
			nothingSeen(t)
		})
	}
	t.Run("and what is allowed passes", func(t *testing.T) {
		a, err := send(t, stream(ok), nil, http.Header{"X-Sum": {"1"}})
		if err != nil || !a.ok() || !slices.Contains(asked(h), "tools/call get_pods") {
			t.Errorf("%v: %d %s", err, a.status, a.body)
		}
		h.Reset()
	})
}
