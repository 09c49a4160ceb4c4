package envoyproc

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"vmcp/internal/await"
)

// T24: the address that limits, audit and policies go by is the client's, and no client chooses its own.
func TestClientAddress(t *testing.T) {
	here := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")}
	for name, tt := range map[string]struct {
		hops int
		from []netip.Prefix
		want map[string]string // by X-Forwarded-For
	}{
		"nobody in front": {0, nil, map[string]string{"": "127.0.0.1", "8.8.8.8": "127.0.0.1", "127.0.0.1": "127.0.0.1"}},
		"one proxy":       {1, nil, map[string]string{"": "127.0.0.1", "8.8.8.8": "8.8.8.8", "6.6.6.6, 8.8.8.8": "8.8.8.8", "x": "127.0.0.1"}},
		"two proxies":     {2, nil, map[string]string{"6.6.6.6, 8.8.8.8, 10.0.0.1": "8.8.8.8"}},
		"ranges":          {0, here, map[string]string{"": "127.0.0.1", "8.8.8.8": "8.8.8.8", "6.6.6.6, 8.8.8.8": "8.8.8.8", "6.6.6.6, 8.8.8.8, 10.0.0.1": "8.8.8.8", "2001:db8::1": "2001:db8::1"}},
		"other ranges":    {0, here[1:], map[string]string{"": "127.0.0.1", "8.8.8.8": "127.0.0.1", "10.0.0.1": "127.0.0.1"}},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, func(a *Addresses) { a.TrustedHops, a.TrustedCIDRs = tt.hops, tt.from })
			for forwarded, want := range tt.want {
				headers := []string{"x-vmcp-client-address", "6.6.6.6", "X-Vmcp-Client-Address", "6.6.6.6"}
				if forwarded != "" {
					headers = append(headers, "X-Forwarded-For", forwarded)
				}
				g.do(t, "POST", "/mcp", strings.NewReader("{}"), headers...)
				if got := header(g.authz.last(), "x-vmcp-client-address"); got != want {
					t.Errorf("X-Forwarded-For %q: authz is told %q, want %q", forwarded, got, want)
				}
			}
		})
	}
}

func TestEdge(t *testing.T) {
	g := start(t)

	t.Run("allowed", func(t *testing.T) {
		res, body := g.do(t, "POST", "/mcp?token=secret", strings.NewReader("abc"),
			"X-VMCP-Decision", "forged", "x-vmcp-other", "forged", "X-Envoy-Retry-On", "5xx", "x-envoy-upstream-rq-timeout-ms", "1",
			"X-Request-Id", "mine", "Authorization", "Bearer t1", "authorization", "Bearer t2", "Cookie", "c=d", "Mcp-Session-Id", "s",
			"Mcp-Name", "n", "Origin", "http://o", "X-Forwarded-For", "8.8.8.8", "Connection", "x-vmcp-decision")
		if res.StatusCode != 200 || body != "upstream got 3 bytes" {
			t.Fatalf("got %d %q", res.StatusCode, body)
		}
		check := g.authz.last()
		h := check.Attributes.Request.Http
		if got, want := string(h.RawBody), "abc"; got != want {
			t.Errorf("authz got body %q, want %q", got, want)
		}
		// Envoy 1.40 joins lines of this header also with encode_raw_headers; authz refuses the comma.
		if got, want := header(check, "authorization"), "Bearer t1,Bearer t2"; got != want {
			t.Errorf("authz got authorization %q, want %q", got, want)
		}
		if got := header(check, "x-vmcp-decision") + header(check, "x-vmcp-other") + header(check, "cookie"); got != "" {
			t.Errorf("authz got headers it should not see: %q", got)
		}
		if h.Method != "POST" || h.Path != "/mcp?token=secret" || h.Host != g.addresses.Plain {
			t.Errorf("authz got method %q, path %q, host %q", h.Method, h.Path, h.Host)
		}
		if header(check, "mcp-name") != "n" || header(check, "origin") != "http://o" || header(check, "mcp-session-id") != "s" {
			t.Errorf("authz misses headers: %v", h.GetHeaderMap())
		}
		if id := header(check, "x-request-id"); id == "" || id == "mine" {
			t.Errorf("x-request-id %q is not Envoy's own", id)
		}
		if got := check.Attributes.Source.Address.GetSocketAddress().GetAddress(); got != "127.0.0.1" {
			t.Errorf("authz got peer %q", got)
		}
		seen := g.aggregator.take()
		if len(seen) != 1 {
			t.Fatalf("aggregator saw %d requests", len(seen))
		}
		got := seen[0].Header
		if fmt.Sprint(got["X-Vmcp-Decision"], got["X-Vmcp-Principal"]) != "[sealed] [ann]" {
			t.Errorf("aggregator got decision %q, principal %q", got["X-Vmcp-Decision"], got["X-Vmcp-Principal"])
		}
		for name := range got {
			switch {
			case name == "Authorization", strings.HasPrefix(name, "X-Vmcp-") && name != "X-Vmcp-Decision" && name != "X-Vmcp-Principal" && name != "X-Vmcp-Client-Address",
				strings.HasPrefix(name, "X-Envoy-") && name != "X-Envoy-External-Address":
				t.Errorf("aggregator got %s: %q", name, got[name])
			}
		}
		if got, want := got.Get("X-Request-Id"), header(check, "x-request-id"); got != want {
			t.Errorf("aggregator got x-request-id %q, authz %q", got, want)
		}
	})

	big := strings.Repeat("x", 4<<20)
	rpc := func(code int, message string) string {
		return fmt.Sprintf(`{"jsonrpc":"2.0","error":{"code":%d,"message":%q}}`, code, message)
	}
	const jsonType, own = "application/json", "application/x-authz"
	for _, tt := range []struct {
		name, method, path string
		headers            []string
		body               string
		code               int
		want, contentType  string
		checks, upstream   int
	}{
		{name: "largest body", method: "POST", path: "/mcp", body: big, code: 200, want: "upstream got 4194304 bytes", contentType: "text/plain; charset=utf-8", checks: 1, upstream: 1},
		{name: "body too large", method: "POST", path: "/mcp", body: big + "x", code: 413, want: rpc(-32600, "request body too large"), contentType: jsonType},
		{name: "unknown path", method: "GET", path: "/nope", code: 404, want: rpc(-32600, "no such path: the MCP endpoint is /mcp"), contentType: jsonType},
		{name: "near path", method: "POST", path: "/mcp/", body: "{}", code: 404, want: rpc(-32600, "no such path: the MCP endpoint is /mcp"), contentType: jsonType},
		{name: "case", method: "POST", path: "/MCP", body: "{}", code: 404, want: rpc(-32600, "no such path: the MCP endpoint is /mcp"), contentType: jsonType},
		{name: "parameter", method: "POST", path: "/mcp;a=b", body: "{}", code: 404, want: rpc(-32600, "no such path: the MCP endpoint is /mcp"), contentType: jsonType},
		{name: "normalised", method: "POST", path: "/oauth/../mcp", body: "{}", code: 200, want: "upstream got 2 bytes", contentType: "text/plain; charset=utf-8", checks: 1, upstream: 1},
		{name: "encoded traversal", method: "POST", path: "/oauth/%2e%2e/mcp", body: "{}", code: 200, want: "upstream got 2 bytes", contentType: "text/plain; charset=utf-8", checks: 1, upstream: 1},
		{name: "escaped slash", method: "POST", path: "/oauth%2f..%2fmcp", body: "{}", code: 400, want: rpc(-32600, "malformed HTTP request"), contentType: jsonType},
		{name: "metadata", method: "GET", path: "/.well-known/oauth-protected-resource/mcp", code: 200, want: "metadata", contentType: own, checks: 1},
		{name: "root metadata", method: "GET", path: "/.well-known/oauth-protected-resource", code: 200, want: "metadata", contentType: own, checks: 1},
		{name: "metadata traversal", method: "POST", path: "/.well-known/oauth-protected-resource/../../mcp", body: "{}", code: 200, want: "upstream got 2 bytes", contentType: "text/plain; charset=utf-8", checks: 1, upstream: 1},
		{name: "authz says 400", method: "POST", path: "/mcp", headers: []string{"mcp-test", "400"}, body: "{}", code: 400, want: "from authz", contentType: own, checks: 1},
		{name: "authz says 503", method: "POST", path: "/mcp", headers: []string{"mcp-test", "503"}, body: "{}", code: 503, want: "from authz", contentType: own, checks: 1},
		{name: "authz says 204", method: "OPTIONS", path: "/mcp", headers: []string{"mcp-test", "204"}, code: 204, want: "", contentType: "", checks: 1},
		{name: "authz changes the path", method: "POST", path: "/mcp", headers: []string{"mcp-test", "path"}, body: "{}", code: 500, want: rpc(-32603, "authorization service unavailable"), contentType: jsonType, checks: 1},
		{name: "authz sets another header", method: "POST", path: "/mcp", headers: []string{"mcp-test", "cookie"}, body: "{}", code: 500, want: rpc(-32603, "authorization service unavailable"), contentType: jsonType, checks: 1},
		{name: "no authserver", method: "GET", path: "/oauth/authorize", code: 503, want: `{"error":"temporarily_unavailable"}`, contentType: jsonType},
		{name: "underscore", method: "POST", path: "/mcp", headers: []string{"x_vmcp_decision", "forged"}, body: "{}", code: 400, want: rpc(-32600, "malformed HTTP request"), contentType: jsonType},
		{name: "large header", method: "POST", path: "/mcp", headers: []string{"x-big", strings.Repeat("x", 50<<10)}, body: "{}", code: 431, want: rpc(-32600, "request headers too large"), contentType: jsonType},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g.aggregator.take()
			before := g.authz.count()
			res, body := g.do(t, tt.method, tt.path, strings.NewReader(tt.body), tt.headers...)
			if res.StatusCode != tt.code || body != tt.want {
				t.Errorf("got %d %q, want %d %q", res.StatusCode, body, tt.code, tt.want)
			}
			if got := res.Header.Get("content-type"); got != tt.contentType {
				t.Errorf("content-type %q, want %q", got, tt.contentType)
			}
			if got := g.authz.count() - before; got != tt.checks {
				t.Errorf("authz was asked %d times, want %d", got, tt.checks)
			}
			if got := len(g.aggregator.take()); got != tt.upstream {
				t.Errorf("aggregator saw %d requests, want %d", got, tt.upstream)
			}
		})
	}

	t.Run("authz away", func(t *testing.T) {
		g.stopAuthz()
		res, body := g.do(t, "POST", "/mcp", strings.NewReader("{}"))
		if res.StatusCode != 503 || body != rpc(-32603, "authorization service unavailable") {
			t.Errorf("got %d %q", res.StatusCode, body)
		}
		if got := len(g.aggregator.take()); got != 0 {
			t.Errorf("aggregator saw %d requests", got)
		}
		g.startAuthz(t)
		if res, body := g.do(t, "POST", "/mcp", strings.NewReader("{}")); res.StatusCode != 200 {
			t.Errorf("first request after its restart: %d %q", res.StatusCode, body)
		}
	})

	t.Run("access log", func(t *testing.T) {
		line := g.logged(t, "/mcp", 200)
		for key, want := range map[string]string{
			"decision": `"allow"`, "reason": `"policy"`, "method": `"tools/call"`, "name": `"k8s_delete"`, "backend": `"k8s"`, "caller": `"ann"`,
			"http_method": `"POST"`, "client": `"127.0.0.1"`, "details": `"via_upstream"`,
		} {
			if got := string(line[key]); got != want {
				t.Errorf("%s: got %s, want %s", key, got, want)
			}
		}
		text, err := os.ReadFile(g.accessLog)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{"secret", "Bearer", "t1", "forged", "sealed"} {
			if bytes.Contains(text, []byte(secret)) {
				t.Errorf("the access log holds %q", secret)
			}
		}
	})
}

// TestSlowAuthz: an authz that does not answer costs a request a second, and nobody is let in.
func TestSlowAuthz(t *testing.T) {
	g := prepare(t)
	g.impatient = true
	g.render(t)
	g.startAuthz(t)
	g.run(t)
	res, body := g.do(t, "POST", "/mcp", strings.NewReader("{}"), "mcp-test", "slow")
	if want := `{"jsonrpc":"2.0","error":{"code":-32603,"message":"authorization service unavailable"}}`; res.StatusCode != 503 || body != want {
		t.Errorf("got %d %q", res.StatusCode, body)
	}
}

// logged waits for the first line of the access log with that path and code.
func (g *gateway) logged(t *testing.T, path string, code int) map[string]json.RawMessage {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), await.Limit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		text, _ := os.ReadFile(g.accessLog)
		for line := range bytes.Lines(text) {
			var got map[string]json.RawMessage
			if json.Unmarshal(line, &got) == nil && string(got["path"]) == fmt.Sprintf("%q", path) && string(got["code"]) == fmt.Sprint(code) {
				return got
			}
		}
		select {
		case <-ctx.Done():
			t.Fatalf("no line for %s %d in the access log:\n%s", path, code, text)
		case <-tick.C:
		}
	}
}

func TestTLS(t *testing.T) {
	g := start(t)
	dial := func() tls.ConnectionState {
		c, err := net.Dial("unix", g.dir+"/tls.sock")
		if err != nil {
			t.Fatal(err)
		}
		tc := tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
		defer tc.Close()
		if err := tc.Handshake(); err != nil {
			t.Fatal(err)
		}
		return tc.ConnectionState()
	}
	first := dial()
	if first.NegotiatedProtocol != "h2" {
		t.Errorf("negotiated %q, want h2", first.NegotiatedProtocol)
	}
	certify(t, g.dir) // a renewed certificate, renamed into place
	await.That(t, "the renewed certificate is used", func() bool { return !dial().PeerCertificates[0].Equal(first.PeerCertificates[0]) })
}
