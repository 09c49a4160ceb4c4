package backend

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vmcp/internal/gatewayconfig"
	"vmcp/internal/mcptest"
	"vmcp/internal/mcpwire"
	"vmcp/internal/secret"
)

// odd is what no SDK would write and every byte of which must pass: unknown fields at all levels, integers
// beyond 2^53, 1e400, odd key order and white space, escapes.
const odd = `"zeta":{"b":1,"a":9007199254740993},"content":[{"weird":[1e400,-0.0,1.10],"text":"\u00e9\/é","type":"text","_meta":{"io.modelcontextprotocol/x":1}} , {"type":"hologram","data":18446744073709551617}],` +
	"\n" + `  "isError" : false,"structuredContent":{"z":[9007199254740993,{"k":1.0}]},"nothing":null`

// TestFidelity: byte equal, but for the permitted edits.
func TestFidelity(t *testing.T) {
	for _, test := range []struct {
		name      string
		server    mcptest.Era
		client    mcpwire.Era
		raw, want string // result members around odd
	}{
		{"legacy", mcptest.Legacy, mcpwire.EraLegacy,
			` {"x-envelope":1, "result":{` + odd + `,"_meta":{"v":2}},"id" : ID ,"jsonrpc":"2.0"} `,
			` {"x-envelope":1, "result":{` + odd + `,"_meta":{"v":2}},"id" : "c\u0031" ,"jsonrpc":"2.0"} `},
		{"modern", mcptest.Modern, mcpwire.EraModern,
			`{"jsonrpc":"2.0","id":ID,"result":{` + odd + `,"resultType":"complete","_meta":{"v":2,"io.modelcontextprotocol/serverInfo":{"name":"b"}}}}`,
			`{"jsonrpc":"2.0","id":"c\u0031","result":{` + odd + `,"resultType":"complete","_meta":{"v":2}}}`},
		{"legacy client, modern backend", mcptest.Modern, mcpwire.EraLegacy,
			`{"jsonrpc":"2.0","id":ID,"result":{"resultType":"complete",` + odd + `,"ttlMs":5,"cacheScope":"public"}}`,
			`{"jsonrpc":"2.0","id":"c\u0031","result":{` + odd + `}}`},
		{"modern client, legacy backend", mcptest.Legacy, mcpwire.EraModern,
			`{"jsonrpc":"2.0","id":ID,"result":{` + odd + `}}`,
			`{"jsonrpc":"2.0","id":"c\u0031","result":{"resultType":"complete",` + odd + `}}`},
	} {
		for _, stream := range []bool{false, true} {
			answer := mcptest.JSON(test.raw)
			want := test.want
			if stream {
				answer = mcptest.SSE(": hello\n\ndata:" + strings.ReplaceAll(test.raw, "\n", "\ndata: ") + "\r\n\r\n")
			}
			h := mcptest.NewRaw(t, test.server, map[string]mcptest.Answer{"tools/call": answer})
			s := session(t, startHTTP(t, h.URL), test.client)
			got, err := do(s, tool(t, test.client, `"c\u0031"`, "t", `{"n":9007199254740993,  "b":[1e400]}`, `"vendor/x":{"y":18446744073709551617}`))
			if err != nil {
				t.Errorf("%s: %v", test.name, err)
				continue
			}
			if strip(got[0]) != strip(want) {
				t.Errorf("%s, stream %v:\ngot  %s\nwant %s", test.name, stream, got[0], want)
			}
			body := string(h.Requests()[len(h.Requests())-1].Body)
			for _, part := range []string{`"arguments":{"n":9007199254740993,  "b":[1e400]}`, `"vendor/x":{"y":18446744073709551617}`, `"name":"t"`} {
				if !strings.Contains(body, part) {
					t.Errorf("%s: the request lost %s: %s", test.name, part, body)
				}
			}
			if strings.Contains(body, "modelcontextprotocol") != (test.server == mcptest.Modern) {
				t.Errorf("%s: reserved fields in the request: %s", test.name, body)
			}
		}
	}
}

// strip removes what a data line may lose at its ends.
func strip(s string) string { return strings.Trim(s, " ") }

// TestUpdatedInCall: a changed resource is no part of the call in whose stream a backend tells of it.
func TestUpdatedInCall(t *testing.T) {
	const updated = `{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"test://secret"}}`
	h := mcptest.NewRaw(t, mcptest.Legacy, map[string]mcptest.Answer{
		"tools/call": mcptest.SSE("data: " + updated + "\n\ndata: {\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{}}\n\n")})
	var outside []string
	s := startHTTP(t, h.URL).Session(SessionOptions{Era: mcpwire.EraLegacy, Key: "s", Version: mcpwire.Version20251125,
		OnMessage: func(m mcpwire.Reply, _ Origin) { outside = append(outside, string(m.Body.Text)) }})
	defer s.Close()
	got, err := do(s, tool(t, mcpwire.EraLegacy, "9", "t", `{}`, ""))
	if err != nil || len(got) != 1 || !strings.Contains(got[0], `"result"`) {
		t.Errorf("the call got %q, %v, want its response alone", got, err)
	}
	if diff := cmp.Diff([]string{updated}, outside); diff != "" {
		t.Errorf("outside of it (-want +got):\n%s", diff)
	}
}

func TestMisbehaving(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer mcptest.Answer
		want   error
	}{
		{"wrong id", mcptest.JSON(`{"jsonrpc":"2.0","id":"other","result":{}}`), ErrInvalidReply},
		{"two documents", mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"result":{}}{}`), ErrInvalidReply},
		{"not JSON", mcptest.JSON(`<html>`), ErrInvalidReply},
		{"result twice", mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"result":{},"result":{}}`), ErrInvalidReply},
		{"result is no object", mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"result":[0]}`), ErrInvalidReply},
		{"unknown resultType", mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"result":{"resultType":"task"}}`), ErrInvalidReply},
		{"accepted", mcptest.Answer{Status: 202}, ErrInvalidReply},
		{"a result with status 400", mcptest.Answer{Status: 400, Body: `{"jsonrpc":"2.0","id":ID,"result":{}}`}, ErrUnavailable},
		{"html", mcptest.Answer{Type: "text/html", Body: "hello"}, ErrInvalidReply},
		{"stream without response", mcptest.SSE("data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\"}\n\n"), ErrInvalidReply},
		{"stream cut in an event", mcptest.SSE("data: {\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{}\n"), ErrInvalidReply},
		{"endless stream", mcptest.Answer{Type: "text/event-stream", Body: ": hi\n\n", Hold: true}, ErrTimeout},
		{"stream reset", mcptest.Answer{Type: "text/event-stream", Body: ": hi\n\n", Reset: true}, ErrUnavailable},
		{"body cut", mcptest.Answer{Body: `{"jsonrpc":"2.0","id":ID,"result":{`, Reset: true}, ErrUnavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := mcptest.NewRaw(t, mcptest.Modern, map[string]mcptest.Answer{"tools/call": test.answer})
			b := start(t, Config{Backend: gatewayconfig.Backend{Timeout: 300 * time.Millisecond, Transport: gatewayconfig.TransportHTTP, URL: h.URL}})
			s := session(t, b, mcpwire.EraModern)
			_, err := do(s, tool(t, mcpwire.EraModern, "9", "t", `{}`, ""))
			var failure *Error
			if !errors.Is(err, test.want) || !errors.As(err, &failure) || !failure.Ran {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if n := h.Count("tools/call", ""); n != 1 {
				t.Errorf("sent %d times", n)
			}
		})
	}
}

// TestErrors: JSON-RPC errors pass with code, data and status, with the client's id even where the backend gave none.
func TestErrors(t *testing.T) {
	for _, test := range []struct {
		name   string
		server mcptest.Era
		client mcpwire.Era
		answer mcptest.Answer
		want   string
		status int
	}{
		{"capability", mcptest.Modern, mcpwire.EraModern,
			mcptest.Answer{Status: 400, Body: `{"jsonrpc":"2.0","id":ID,"error":{"code":-32021,"message":"m","data":{"requiredCapabilities":{"sampling":{}}}}}`},
			`{"jsonrpc":"2.0","id":9,"error":{"code":-32021,"message":"m","data":{"requiredCapabilities":{"sampling":{}}}}}`, 400},
		{"no id", mcptest.Modern, mcpwire.EraModern,
			mcptest.Answer{Status: 400, Body: `{"jsonrpc":"2.0","error":{"code":-32602,"message":"m"}}`},
			`{"id":9,"jsonrpc":"2.0","error":{"code":-32602,"message":"m"}}`, 400},
		{"null id", mcptest.Legacy, mcpwire.EraLegacy,
			mcptest.Answer{Status: 400, Body: `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"m"}}`},
			`{"jsonrpc":"2.0","id":9,"error":{"code":-32600,"message":"m"}}`, 200},
		{"-32002", mcptest.Legacy, mcpwire.EraModern,
			mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"error":{"code":-32002,"message":"m","data":1}}`),
			`{"jsonrpc":"2.0","id":9,"error":{"code":-32602,"message":"m","data":1}}`, 200},
		{"-32002 stays", mcptest.Legacy, mcpwire.EraLegacy,
			mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"error":{"code":-32002,"message":"m"}}`),
			`{"jsonrpc":"2.0","id":9,"error":{"code":-32002,"message":"m"}}`, 200},
	} {
		h := mcptest.NewRaw(t, test.server, map[string]mcptest.Answer{"tools/call": test.answer})
		s := session(t, startHTTP(t, h.URL), test.client)
		var got Message
		var raw string
		err := s.Do(t.Context(), tool(t, test.client, "9", "t", `{}`, ""), func(m Message) error {
			got, raw = m, string(m.Raw)
			return nil
		})
		if err != nil || raw != test.want || got.Status != test.status {
			t.Errorf("%s: got %d %s, %v", test.name, got.Status, raw, err)
		}
	}
}

// TestStaleSchema: -32020 proves that the call was not executed; the list is fetched anew and the call repeated once.
func TestStaleSchema(t *testing.T) {
	schema := `{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"},"deep":{"type":"object","properties":{"n":{"type":"integer","x-mcp-header":"N"}}},"flag":{"type":"boolean","x-mcp-header":"Flag"},"gone":{"type":"string","x-mcp-header":"Gone"}}}`
	h := mcptest.NewRaw(t, mcptest.Modern, map[string]mcptest.Answer{
		"tools/list": mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"result":{"tools":[{"name":"t","inputSchema":` + schema + `}]}}`),
		"tools/call": mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"error":{"code":-32020,"message":"header"}}`),
	})
	s := session(t, startHTTP(t, h.URL), mcpwire.EraModern)
	_, err := do(s, tool(t, mcpwire.EraModern, "9", "t", `{"region":" é","deep":{"n":42.0},"flag":true,"gone":null}`, ""))
	if !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	var headers []map[string][]string
	for _, r := range h.Requests() {
		if r.Method == "tools/call" {
			headers = append(headers, r.Header)
		}
	}
	if len(headers) != 2 || h.Count("tools/list", "") != 1 {
		t.Fatalf("%d calls, %d lists", len(headers), h.Count("tools/list", ""))
	}
	got := fmt.Sprint(headers[0]["Mcp-Param-Region"], headers[1]["Mcp-Param-Region"], headers[1]["Mcp-Param-N"], headers[1]["Mcp-Param-Flag"], headers[1]["Mcp-Param-Gone"])
	if want := "[] [=?base64?IMOp?=] [42] [true] []"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestResume: a legacy backend that closes the stream before the response is asked again with the last event id (HL-8).
func TestResume(t *testing.T) {
	h := mcptest.NewRaw(t, mcptest.Legacy, map[string]mcptest.Answer{
		"tools/call": mcptest.SSE("id: e1\nretry: 5\ndata:\n\nid: e2\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{}}\n\n"),
		"GET":        mcptest.SSE("id: e3\ndata: {\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{\"content\":[]}}\n\n"),
	})
	s := session(t, startHTTP(t, h.URL), mcpwire.EraLegacy)
	got, err := do(s, tool(t, mcpwire.EraLegacy, "9", "t", `{}`, ""))
	if err != nil || len(got) != 2 || got[1] != `{"jsonrpc":"2.0","id":9,"result":{"content":[]}}` {
		t.Errorf("got %s, %v", got, err)
	}
	for _, r := range h.Requests() {
		if r.HTTP == "GET" && (r.Header.Get("Last-Event-Id") != "e2" || r.Header.Get("Mcp-Session-Id") != "raw-1") {
			t.Errorf("resumed with %v", r.Header)
		}
	}
	if h.Count("tools/call", "") != 1 {
		t.Error("the call was repeated")
	}
}

// TestResumeTwice: a stream that brings nothing new is resumed from the same place.
func TestResumeTwice(t *testing.T) {
	h := mcptest.NewRaw(t, mcptest.Legacy, map[string]mcptest.Answer{
		"tools/call": mcptest.SSE("id: e1\nretry: 1\ndata:\n\n"),
		"GET":        mcptest.SSE(": nothing yet\n\n"),
	})
	s := session(t, startHTTP(t, h.URL), mcpwire.EraLegacy)
	if _, err := do(s, tool(t, mcpwire.EraLegacy, "9", "t", `{}`, "")); !errors.Is(err, ErrInvalidReply) {
		t.Errorf("got %v", err)
	}
	resumes := 0
	for _, r := range h.Requests() {
		if r.HTTP == "GET" {
			resumes++
			if got := r.Header.Get("Last-Event-Id"); got != "e1" {
				t.Errorf("resumed from %q", got)
			}
		}
	}
	if resumes != maxResumes {
		t.Errorf("%d resumes", resumes)
	}
}

// TestForeignProgress: progress of another request does not get to the client.
func TestForeignProgress(t *testing.T) {
	h := mcptest.NewRaw(t, mcptest.Modern, map[string]mcptest.Answer{"tools/call": mcptest.SSE(
		"data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":TOKEN,\"progress\":1}}\n\n" +
			"data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":999,\"progress\":2}}\n\n" +
			"data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":\"mine\",\"progress\":3}}\n\n" +
			"data: {\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{}}\n\n")})
	s := session(t, startHTTP(t, h.URL), mcpwire.EraModern)
	got, err := do(s, tool(t, mcpwire.EraModern, "9", "t", `{}`, `"progressToken":"mine"`))
	if err != nil || len(got) != 2 || !strings.Contains(got[0], `"progressToken":"mine","progress":1`) {
		t.Errorf("got %s, %v", got, err)
	}
	got, err = do(s, tool(t, mcpwire.EraModern, "9", "t", `{}`, ""))
	if err != nil || len(got) != 1 {
		t.Errorf("without a token: got %s, %v", got, err)
	}
}

// TestLogLevel: a modern client gets the log messages that its request asked for, and no others (HM-9).
func TestLogLevel(t *testing.T) {
	message := func(level string) string {
		return `data: {"jsonrpc":"2.0","method":"notifications/message","params":{"level":"` + level + `","data":1}}` + "\n\n"
	}
	h := mcptest.NewRaw(t, mcptest.Legacy, map[string]mcptest.Answer{"tools/call": mcptest.SSE(
		message("info") + message("warning") + message("alert") + "data: {\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{}}\n\n")})
	b := startHTTP(t, h.URL)
	for _, test := range []struct {
		era  mcpwire.Era
		meta string
		want int
	}{
		{mcpwire.EraModern, "", 1},
		{mcpwire.EraModern, `"io.modelcontextprotocol/logLevel":"warning"`, 3},
		{mcpwire.EraLegacy, "", 4},
	} {
		got, err := do(session(t, b, test.era), tool(t, test.era, "9", "t", `{}`, test.meta))
		if err != nil || len(got) != test.want {
			t.Errorf("%v client, %s: got %s, %v", test.era, test.meta, got, err)
		}
	}
}

// TestTimeoutCancels: a legacy backend is told that nobody waits any more.
func TestTimeoutCancels(t *testing.T) {
	h := mcptest.NewRaw(t, mcptest.Legacy, map[string]mcptest.Answer{"tools/call": {Type: "text/event-stream", Hold: true}})
	b := start(t, Config{Backend: gatewayconfig.Backend{Timeout: time.Second, Transport: gatewayconfig.TransportHTTP, URL: h.URL}})
	if _, err := do(session(t, b, mcpwire.EraLegacy), tool(t, mcpwire.EraLegacy, "9", "t", `{}`, "")); !errors.Is(err, ErrTimeout) {
		t.Errorf("got %v", err)
	}
	if n := h.Count("notifications/cancelled", ""); n != 1 {
		t.Errorf("%d cancellations", n)
	}
}

func TestListen(t *testing.T) {
	messages := make(chan string, 8)
	h := mcptest.NewRaw(t, mcptest.Legacy, map[string]mcptest.Answer{
		"resources/subscribe": mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"result":{}}`),
		"GET": {Type: "text/event-stream", Hold: true, Body: "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}\n\n" +
			"data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/resources/updated\",\"params\":{\"uri\":\"a:b\"}}\n\n" +
			"data: {\"jsonrpc\":\"2.0\",\"id\":\"p\",\"method\":\"ping\"}\n\n"},
	})
	b := start(t, Config{Backend: gatewayconfig.Backend{Transport: gatewayconfig.TransportHTTP, URL: h.URL}})
	s := b.Session(SessionOptions{Era: mcpwire.EraLegacy, Key: "k", OnMessage: func(r mcpwire.Reply, _ Origin) { messages <- string(r.Body.Text) }})
	t.Cleanup(s.Close)
	if _, err := do(s, request(t, mcpwire.EraLegacy, "1", "resources/subscribe", "a:b", `"uri":"a:b"`, "")); err != nil {
		t.Fatal(err)
	}
	<-b.Changed()
	if got := <-messages; !strings.Contains(got, `"uri":"a:b"`) {
		t.Errorf("got %s", got)
	}
	deadline := time.Now().Add(5 * time.Second)
	for answered := false; !answered; time.Sleep(time.Millisecond) {
		for _, r := range h.Requests() {
			answered = answered || strings.Contains(string(r.Body), `"id":"p","result":{}`)
		}
		if time.Now().After(deadline) {
			t.Fatal("the ping was not answered")
		}
	}
}

// TestHeaders: configured headers go along, a caller's choice too, and nothing else of a client.
func TestHeaders(t *testing.T) {
	h := mcptest.NewHTTP(t, mcptest.Options{})
	b := start(t, Config{Backend: gatewayconfig.Backend{Transport: gatewayconfig.TransportHTTP, URL: h.URL,
		Headers: map[string]secret.Value{"authorization": "Bearer ours", "x-static": "1"}}})
	s := session(t, b, mcpwire.EraModern)
	r := tool(t, mcpwire.EraModern, "1", "echo", `{"text":"hi"}`, `"traceparent":"00-x"`)
	r.Header = map[string][]string{"X-Tenant": {"acme"}, "Authorization": {"Bearer theirs"}, "Mcp-Name": {"forged"}}
	if _, err := do(s, r); err != nil {
		t.Fatal(err)
	}
	got := h.Requests()[len(h.Requests())-1]
	for name, want := range map[string]string{"Authorization": "Bearer ours", "X-Static": "1", "X-Tenant": "acme", "Mcp-Name": "echo"} {
		if v := got.Header.Values(name); len(v) != 1 || v[0] != want {
			t.Errorf("%s: %q, want %q", name, v, want)
		}
	}
	if body := string(got.Body); !strings.Contains(body, `"traceparent":"00-x"`) || !strings.Contains(body, `"elicitation":{}`) || strings.Contains(body, `"client"`) {
		t.Errorf("the backend got %s", body)
	}
}

func TestSingleFlight(t *testing.T) {
	h := mcptest.NewHTTP(t, mcptest.Options{Era: mcptest.Legacy})
	s := session(t, startHTTP(t, h.URL), mcpwire.EraLegacy)
	failed := make(chan error)
	for i := range 20 {
		r := tool(t, mcpwire.EraLegacy, fmt.Sprint(i), "echo", `{"text":"hi"}`, "")
		go func() {
			_, err := doContext(context.Background(), s, r)
			failed <- err
		}()
	}
	for range 20 {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
	if a, b := h.Count("initialize", ""), h.Count("server/discover", ""); a != 1 || b != 1 {
		t.Errorf("%d handshakes, %d probes", a, b)
	}
}
