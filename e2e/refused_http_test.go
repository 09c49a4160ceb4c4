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

	"vmcp/internal/await"
	"vmcp/internal/mcptest"
	"vmcp/internal/mcpwire"
)

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
			conn.SetDeadline(time.Now().Add(await.Limit))
			if _, err := io.WriteString(conn, c.text); err != nil {
				t.Fatal(err)
			}
			reader := bufio.NewReader(conn)
			resp, err := http.ReadResponse(reader, nil)
			for err == nil && resp.StatusCode == http.StatusContinue {
				resp, err = http.ReadResponse(reader, nil)
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
		ctx, cancel := context.WithTimeout(t.Context(), await.Limit)
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
