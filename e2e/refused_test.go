package e2e

import (
	"net/http"
	"strings"
	"testing"

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
