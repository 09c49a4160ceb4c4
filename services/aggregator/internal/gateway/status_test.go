package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"vmcp/internal/mcptest"
	"vmcp/internal/mcpwire"
	gatewayv1 "vmcp/proto/gateway/v1"
)

// TestBackendStatus: a backend's HTTP status and headers are between it and the gateway. A client gets a JSON-RPC message
// with its own id in any case, and of the status only what the protocol gives a meaning.
func TestBackendStatus(t *testing.T) {
	bodies := map[string]mcptest.Answer{
		"nothing":  {},
		"a page":   {Type: "text/html", Body: "<h1>sorry</h1>"},
		"an error": {Body: `{"jsonrpc":"2.0","id":ID,"error":{"code":-32000,"message":"its own words"}}`},
		"no id":    {Body: `{"jsonrpc":"2.0","id":null,"error":{"code":-32099,"message":"its own words"}}`},
		"a result": {Body: `{"jsonrpc":"2.0","id":ID,"result":{"resultType":"complete","content":[]}}`},
		"a stream": mcptest.SSE("data: {\"jsonrpc\":\"2.0\",\"id\":ID,\"error\":{\"code\":-32000,\"message\":\"its own words\"}}\n\n"),
	}
	headers := map[string]string{"WWW-Authenticate": `Bearer resource_metadata="https://evil.example"`, "Retry-After": "9", "Set-Cookie": "a=b",
		"Access-Control-Allow-Origin": "*", "Location": "https://evil.example", "Mcp-Session-Id": "theirs", "X-Powered-By": "it"}
	for _, status := range []int{200, 201, 202, 203, 206, 300, 301, 302, 307, 308, 400, 401, 402, 403, 404, 405, 406, 407, 409, 410, 415, 418, 421, 422, 429, 451, 500, 501, 502, 503, 504, 511, 599} {
		for what, answer := range bodies {
			for _, wire := range []mcptest.Era{mcptest.Legacy, mcptest.Modern} {
				answer.Status, answer.Header = status, headers
				h := mcptest.NewRaw(t, wire, map[string]mcptest.Answer{"tools/call": answer})
				w := newWorld(t, map[string]*mcptest.HTTP{"a": h})
				for _, a := range []ask{modern("7", "tools/call", toolCall("a_t")), legacy(w.open(t, "ann", "{}"), "7", "tools/call", toolCall("a_t"))} {
					a.target = &gatewayv1.Target{Backend: "a", Name: "t"}
					got := w.send(t, a)
					name := fmt.Sprintf("%d with %s from server %d: the client of session %q", status, what, wire, a.session)
					want := http.StatusOK
					if a.session == "" && wire == mcptest.Modern && (status == 400 || status == 404) && (what == "an error" || what == "no id") {
						want = status
					}
					if got.status != want {
						t.Errorf("%s gets status %d, want %d", name, got.status, want)
					}
					for header := range headers {
						if v := got.header.Get(header); v != "" {
							t.Errorf("%s gets %s: %s", name, header, v)
						}
					}
					body := strings.TrimSuffix(strings.TrimPrefix(got.body, "event: message\ndata: "), "\n\n")
					m, err := mcpwire.ParseReply([]byte(body))
					if err != nil || m.Kind != mcpwire.KindResponse || string(m.ID) != "7" {
						t.Errorf("%s gets %s, %v", name, got.body, err)
					}
					var said struct{ Error struct{ Message string } }
					if err := json.Unmarshal([]byte(body), &said); err != nil {
						t.Error(err)
					}
					if slices.Contains([]int{401, 403, 407}, status) && said.Error.Message != "the server behind this gateway does not accept the gateway's credentials" {
						t.Errorf("%s reads %q", name, said.Error.Message)
					}
				}
			}
		}
	}
}

// TestListStatus: no status of a backend's lists or of its stream reaches those who list.
func TestListStatus(t *testing.T) {
	for _, status := range []int{401, 403, 404, 429, 500, 503} {
		refusal := mcptest.Answer{Status: status, Body: `{"jsonrpc":"2.0","id":ID,"error":{"code":-32001,"message":"no"}}`,
			Header: map[string]string{"WWW-Authenticate": "Bearer"}}
		h := mcptest.NewRaw(t, mcptest.Legacy, map[string]mcptest.Answer{"GET": refusal, "resources/subscribe": refusal})
		w := newWorld(t, map[string]*mcptest.HTTP{"a": h})
		id := w.open(t, "ann", "{}")
		subscribe := legacy(id, "1", "resources/subscribe", `"uri":"test://x"`)
		subscribe.target = &gatewayv1.Target{Backend: "a", Name: "test://x"}
		for _, a := range []ask{subscribe, legacy(id, "1", "tools/list", ""), modern("1", "tools/list", "")} {
			if got := w.send(t, a); got.status != 200 || got.header.Get("WWW-Authenticate") != "" {
				t.Errorf("%d: %s is answered %d %v", status, a.body, got.status, got.header)
			}
		}
		if got := w.get(t, id, nil); got.resp.StatusCode != 200 {
			t.Errorf("%d: the stream: %d", status, got.resp.StatusCode)
		}
	}
}
