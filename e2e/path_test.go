package e2e

import (
	"slices"
	"strings"
	"testing"

	"vmcp/internal/stack"
)

// TestOneCall: what is permitted runs, what is not does not, and there is no other way in.
func TestOneCall(t *testing.T) {
	w := start(t, "testdata/guide.yaml")
	dev := w.token("dev", "mcp-developers")
	session := w.open(t, dev)

	// Allowed.
	a := w.send(t, request{token: dev, session: session, body: toolCall("kubernetes-backend_get_pods")})
	if a.status != 200 || !strings.Contains(a.body, `"result"`) {
		t.Errorf("get_pods: %d %s, want a result", a.status, a.body)
	}
	// Denied, and it looks like a tool that does not exist.
	a = w.send(t, request{token: dev, session: session, body: toolCall("kubernetes-backend_delete_namespace")})
	b := w.send(t, request{token: dev, session: session, body: toolCall("kubernetes-backend_no_such_tool__")})
	if a.status != 200 || !strings.Contains(a.body, "-32602") {
		t.Errorf("delete_namespace: %d %s, want -32602", a.status, a.body)
	}
	if got, want := strings.ReplaceAll(a.body, "delete_namespace", "X"), strings.ReplaceAll(b.body, "no_such_tool__", "X"); got != want || a.status != b.status {
		t.Errorf("a denied tool answers %s, an unknown one %s", got, want)
	}
	// Twin keys: one reader would see get_pods, another delete_namespace.
	for _, params := range []string{
		`"name":"kubernetes-backend_get_pods","name":"kubernetes-backend_delete_namespace"`,
		`"name":"kubernetes-backend_get_pods","Name":"kubernetes-backend_delete_namespace"`,
		`"name":"kubernetes-backend_get_pods","n\u0061me":"kubernetes-backend_delete_namespace"`,
	} {
		a = w.send(t, request{token: dev, session: session, body: `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{` + params + `}}`})
		if a.status != 400 || !strings.Contains(a.body, "-32600") {
			t.Errorf("%s: %d %s, want 400 -32600", params, a.status, a.body)
		}
	}
	// A seal of one's own is stripped by Envoy, and worth nothing behind it.
	forged := map[string][]string{"X-Vmcp-Decision": {"20260101t000000.AAAA.AAAA"}}
	a = w.send(t, request{token: dev, session: session, header: forged, body: toolCall("kubernetes-backend_delete_namespace")})
	if !strings.Contains(a.body, "-32602") {
		t.Errorf("with a forged seal: %d %s, want the usual denial", a.status, a.body)
	}
	direct := stack.Client(w.Socket("aggregator"))
	for name, header := range map[string]map[string][]string{"no seal": nil, "a forged seal": forged} {
		a = w.send(t, request{client: direct, token: dev, session: session, header: header, body: toolCall("kubernetes-backend_delete_namespace")})
		if a.status != 403 {
			t.Errorf("around Envoy with %s: %d %s, want 403", name, a.status, a.body)
		}
	}
	// No token.
	a = w.send(t, request{body: initialize})
	if got := a.header.Get("Www-Authenticate"); a.status != 401 || !strings.Contains(got, `resource_metadata="`+w.aud+`/.well-known/oauth-protected-resource/mcp"`) {
		t.Errorf("no token: %d, WWW-Authenticate %q", a.status, got)
	}
	if got := w.calls(t, "kubernetes-backend"); slices.Contains(got, "delete_namespace") || !slices.Contains(got, "get_pods") {
		t.Errorf("the backend was asked for %q, want get_pods and never delete_namespace", got)
	}
}
