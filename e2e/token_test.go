package e2e

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"vmcp/internal/mcptest"
	"vmcp/internal/token/tokentest"
)

// kubernetesOverHTTP puts the Kubernetes server into the group as an HTTP backend that records every request.
func kubernetesOverHTTP(t *testing.T) (*mcptest.HTTP, edit) {
	t.Helper()
	h := mcptest.NewHTTP(t, mcptest.Options{Server: mcptest.Kubernetes})
	return h, behind("kubernetes-backend", h.URL)
}

// TestTokens: without a good token there is a 401 that says where to sign in, and no backend hears of it.
func TestTokens(t *testing.T) {
	h, kubernetes := kubernetesOverHTTP(t)
	w := start(t, guide, without("github-backend"), kubernetes)
	good := w.token("ann", "mcp-developers")
	other, err := tokentest.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Close)

	now := time.Now().Unix()
	claims := func(change map[string]any) map[string]any {
		all := map[string]any{"sub": "ann", "aud": w.aud, "client_id": "e2e", "roles": []string{"mcp-developers"},
			"iss": w.issuer.URL, "iat": now, "exp": now + 900, "jti": "1"}
		for k, v := range change {
			all[k] = v
		}
		return all
	}
	signed := func(header map[string]any, change map[string]any) string {
		payload, err := json.Marshal(claims(change))
		if err != nil {
			t.Fatal(err)
		}
		return w.issuer.Sign(header, payload)
	}
	parts := strings.Split(good, ".")
	unsigned := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"at+jwt"}`)) + "." + parts[1] + "."
	session := w.open(t, good)
	h.Reset()

	challenge := `resource_metadata="` + w.aud + `/.well-known/oauth-protected-resource/mcp"`
	for _, c := range []struct {
		name   string
		header []string // Authorization
		code   string   // error of the challenge
	}{
		{"none", nil, ""},
		{"empty", []string{""}, ""},
		{"another scheme", []string{"Basic YW5uOnNlY3JldA=="}, ""},
		{"scheme only", []string{"Bearer"}, ""},
		{"garbage", []string{"Bearer garbage"}, "invalid_token"},
		{"three parts of garbage", []string{"Bearer a.b.c"}, "invalid_token"},
		{"expired", []string{"Bearer " + signed(nil, map[string]any{"exp": now - 120, "iat": now - 1000})}, "invalid_token"},
		{"without exp", []string{"Bearer " + signed(nil, map[string]any{"exp": nil})}, "invalid_token"},
		{"not yet valid", []string{"Bearer " + signed(nil, map[string]any{"nbf": now + 600})}, "invalid_token"},
		{"another audience", []string{"Bearer " + signed(nil, map[string]any{"aud": "https://graph.example"})}, "invalid_token"},
		{"an audience that begins like ours", []string{"Bearer " + signed(nil, map[string]any{"aud": w.aud + ".evil.example"})}, "invalid_token"},
		{"no audience", []string{"Bearer " + signed(nil, map[string]any{"aud": nil})}, "invalid_token"},
		{"another issuer's", []string{"Bearer " + other.Mint(map[string]any{"sub": "ann", "aud": w.aud, "roles": []string{"mcp-admin"}})}, "invalid_token"},
		{"another issuer's in our issuer's name", []string{"Bearer " + other.Mint(claims(nil))}, "invalid_token"},
		{"our key, another iss", []string{"Bearer " + signed(nil, map[string]any{"iss": other.URL})}, "invalid_token"},
		{"iss with a slash more", []string{"Bearer " + signed(nil, map[string]any{"iss": w.issuer.URL + "/"})}, "invalid_token"},
		{"alg none", []string{"Bearer " + unsigned}, "invalid_token"},
		{"alg none with the old signature", []string{"Bearer " + unsigned + parts[2]}, "invalid_token"},
		{"alg HS256", []string{"Bearer " + signed(map[string]any{"alg": "HS256"}, nil)}, "invalid_token"},
		{"unknown kid", []string{"Bearer " + signed(map[string]any{"kid": "../../etc/passwd"}, nil)}, "invalid_token"},
		{"jku of one's own", []string{"Bearer " + other.Sign(map[string]any{"kid": "x", "jku": other.URL + "/keys"}, []byte("{}"))}, "invalid_token"},
		{"crit", []string{"Bearer " + signed(map[string]any{"crit": []string{"x"}, "x": 1}, nil)}, "invalid_token"},
		{"payload exchanged", []string{"Bearer " + parts[0] + "." + strings.Split(w.token("ann", "mcp-admin"), ".")[1] + "." + parts[2]}, "invalid_token"},
		{"signature cut", []string{"Bearer " + good[:len(good)-4]}, "invalid_token"},
		{"a fourth part", []string{"Bearer " + good + ".x"}, "invalid_token"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(h.Requests())
			modern := (&caller{w: w, modern: true}).message("tools/call", `"name":"kubernetes-backend_get_pods","arguments":{"namespace":"shop"}`, "kubernetes-backend_get_pods")
			for _, r := range []request{
				{body: initialize},
				{body: toolCall("kubernetes-backend_get_pods"), session: session},
				modern,
				{method: "GET", session: session},
				{method: "DELETE", session: session},
			} {
				if r.header == nil {
					r.header = http.Header{}
				}
				r.header["Authorization"] = c.header
				a := w.send(t, r)
				got := a.header.Get("Www-Authenticate")
				hasCode := strings.Contains(got, `error="`)
				if a.status != 401 || !strings.HasPrefix(got, "Bearer ") || !strings.Contains(got, challenge) ||
					hasCode != (c.code != "") || hasCode && !strings.Contains(got, `error="`+c.code+`"`) {
					t.Errorf("%s %s: %d, WWW-Authenticate %q", r.method, r.body, a.status, got)
				}
				if strings.Contains(a.body, parts[1]) || a.reply().Error == nil {
					t.Errorf("the body is %s", a.body)
				}
			}
			if got := h.Requests()[before:]; len(got) > 0 {
				t.Errorf("the backend saw %d requests, the first %s %s", len(got), got[0].HTTP, got[0].Method)
			}
		})
	}

	t.Run("elsewhere than in Authorization", func(t *testing.T) {
		for _, r := range []request{
			{body: initialize, url: w.URL + "?access_token=" + good},
			{body: initialize, header: http.Header{"Cookie": {"access_token=" + good}}},
			{body: initialize, header: http.Header{"X-Forwarded-Access-Token": {good}}},
		} {
			if a := w.send(t, r); a.status != 401 {
				t.Errorf("%s: %d %s", r.url, a.status, a.body)
			}
		}
	})
	t.Run("two good ones", func(t *testing.T) {
		for _, values := range [][]string{{"Bearer " + good, "Bearer " + good}, {"Bearer " + good + ", Bearer " + good}, {"Bearer " + good, "Basic YTpi"}} {
			if a := w.send(t, request{body: initialize, header: http.Header{"Authorization": values}}); a.status != 400 {
				t.Errorf("%d %s, want 400", a.status, a.body)
			}
		}
	})
	t.Run("the scheme in lower case is fine", func(t *testing.T) { // RFC 9110 §11.1
		a := w.send(t, request{body: initialize, header: http.Header{"Authorization": {"bearer " + good}}})
		if a.status != 200 {
			t.Errorf("%d %s", a.status, a.body)
		}
	})
	t.Run("another person's session", func(t *testing.T) {
		bob := w.token("bob", "mcp-developers")
		for _, r := range []request{
			{token: bob, session: session, body: toolCall("kubernetes-backend_get_pods")},
			{token: bob, session: session, method: "GET"},
			{token: bob, session: session, method: "DELETE"},
		} {
			if a := w.send(t, r); a.status != 404 {
				t.Errorf("%s: %d %s, want 404", r.method, a.status, a.body)
			}
		}
		if a := w.send(t, request{token: good, session: session, body: toolCall("kubernetes-backend_get_pods")}); !a.ok() {
			t.Errorf("the owner: %d %s", a.status, a.body)
		}
	})
	t.Run("a session of nobody's making", func(t *testing.T) {
		for _, id := range []string{"x", session + "x", session[:len(session)-2], strings.ToUpper(session), "a." + strings.Split(session, ".")[1]} {
			if a := w.send(t, request{token: good, session: id, body: toolCall("kubernetes-backend_get_pods")}); a.status != 404 {
				t.Errorf("%s: %d %s, want 404", id, a.status, a.body)
			}
		}
	})
}

// TestMetadata: what a client needs to find the sign-in, and what a browser needs (RFC 9728, Fetch).
func TestMetadata(t *testing.T) {
	h, kubernetes := kubernetesOverHTTP(t)
	w := start(t, guide, without("github-backend"), kubernetes, func(docs string) string {
		return strings.Replace(docs, "kind: VirtualMCPServer\nmetadata:\n",
			"kind: VirtualMCPServer\nmetadata:\n  annotations:\n    vmcp/allowed-origins: https://inspector.example,https://chat.example:8443\n", 1)
	})
	const path = "/.well-known/oauth-protected-resource"
	good := w.token("ann", "mcp-developers")
	h.Reset()

	t.Run("documents", func(t *testing.T) {
		for at, resource := range map[string]string{path + "/mcp": w.aud + "/mcp", path: w.aud} {
			a := w.send(t, request{method: "GET", url: w.aud + at, header: http.Header{"Origin": {"https://inspector.example"}}})
			var doc struct {
				Resource string
				Servers  []string `json:"authorization_servers"`
				Methods  []string `json:"bearer_methods_supported"`
			}
			if err := json.Unmarshal([]byte(a.body), &doc); err != nil || a.status != 200 {
				t.Fatalf("%s: %d %s", at, a.status, a.body)
			}
			if doc.Resource != resource || len(doc.Servers) != 1 || doc.Servers[0] != w.issuer.URL || len(doc.Methods) != 1 || doc.Methods[0] != "header" {
				t.Errorf("%s: %s", at, a.body)
			}
			if got := a.header.Get("Content-Type"); got != "application/json" {
				t.Errorf("%s: Content-Type %s", at, got)
			}
			if got := a.header.Get("Access-Control-Allow-Origin"); got != "https://inspector.example" {
				t.Errorf("%s: Access-Control-Allow-Origin %q", at, got)
			}
		}
		for _, at := range []string{path + "/", path + "/mcp/", path + "/other", "/.well-known/oauth-protected-resources", path + "/../../mcp/x"} {
			if a := w.send(t, request{method: "GET", url: w.aud + at}); a.status != 404 {
				t.Errorf("%s: %d %s, want 404", at, a.status, a.body)
			}
		}
	})
	t.Run("allowed origins", func(t *testing.T) {
		for _, origin := range []string{"https://inspector.example", "https://chat.example:8443", "http://localhost:6274", w.aud} {
			a := w.send(t, request{method: "OPTIONS", header: http.Header{"Origin": {origin},
				"Access-Control-Request-Method": {"POST"}, "Access-Control-Request-Headers": {"authorization,content-type,mcp-protocol-version"}}})
			if a.status != 204 || a.header.Get("Access-Control-Allow-Origin") != origin || !strings.Contains(a.header.Get("Access-Control-Allow-Methods"), "POST") {
				t.Errorf("preflight of %s: %d %v", origin, a.status, a.header)
			}
			allowed := strings.ToLower(a.header.Get("Access-Control-Allow-Headers"))
			for _, name := range []string{"authorization", "content-type", "mcp-protocol-version", "mcp-session-id", "mcp-method", "mcp-name"} {
				if !strings.Contains(allowed, name) {
					t.Errorf("preflight of %s does not allow %s: %s", origin, name, allowed)
				}
			}
			// Both an answer of authz and one of the aggregator can be read by that page.
			for _, r := range []request{{body: initialize}, {body: initialize, token: good}} {
				r.header = http.Header{"Origin": {origin}}
				a := w.send(t, r)
				if a.header.Get("Access-Control-Allow-Origin") != origin || !strings.Contains(strings.ToLower(a.header.Get("Access-Control-Expose-Headers")), "mcp-session-id") {
					t.Errorf("%s: %d %v", origin, a.status, a.header)
				}
			}
		}
	})
	t.Run("foreign origins", func(t *testing.T) {
		for _, origin := range []string{"https://evil.example", "null", "https://inspector.example.evil.example", "http://inspector.example",
			"https://chat.example", "http://localhost.evil.example", "http://127.0.0.1.evil.example", "https://evil.example@localhost", "file://", ""} {
			for _, r := range []request{
				{token: good, body: initialize},
				{token: good, body: toolCall("kubernetes-backend_get_pods")},
				{method: "OPTIONS"}, {method: "GET", token: good},
				{method: "GET", url: w.aud + path + "/mcp"},
			} {
				r.header = http.Header{"Origin": {origin}}
				if a := w.send(t, r); a.status != 403 || a.header.Get("Access-Control-Allow-Origin") != "" {
					t.Errorf("%s %s of %q: %d %v, want 403", r.method, r.url, origin, a.status, a.header)
				}
			}
		}
	})
	t.Run("foreign hosts", func(t *testing.T) {
		for _, host := range []string{"evil.example", "localhost", "localhost:1", "localhost.:80", "evil.example:" + w.Listen[len("127.0.0.1:"):], w.Listen + ".evil.example"} {
			for _, r := range []request{{token: good, body: initialize}, {method: "GET", url: w.aud + path}} {
				r.header = http.Header{"Host": {host}}
				if a := w.send(t, r); a.status != 403 {
					t.Errorf("%s: %d %s, want 403", host, a.status, a.body)
				}
			}
		}
	})
	if got := asked(h); len(got) > 0 {
		t.Errorf("the backend was asked for %q", got)
	}
}
