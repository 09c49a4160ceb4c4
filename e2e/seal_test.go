package e2e

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmcp/internal/decision"
	"vmcp/internal/keyring"
	"vmcp/internal/keyring/keyringtest"
	"vmcp/internal/mcpwire"
	"vmcp/internal/stack"
	gatewayv1 "vmcp/proto/gateway/v1"
)

// TestSeals: only what authz sealed, for exactly this request and just now, gets past the aggregator's door.
func TestSeals(t *testing.T) {
	h, kubernetes := kubernetesOverHTTP(t)
	w := start(t, guide, without("github-backend"), kubernetes)
	keys, err := keyring.Load(filepath.Join(w.State, "keys", "seal"))
	if err != nil {
		t.Fatal(err)
	}
	ann := w.token("ann", "mcp-developers")
	session, second := w.open(t, ann), w.open(t, ann)
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(ann, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	allowed, forbidden := toolCall("kubernetes-backend_get_pods"), toolCall("kubernetes-backend_delete_namespace")

	// The decision that authz makes about the allowed call; what change leaves.
	seal := func(change func(*gatewayv1.Decision)) string {
		t.Helper()
		sum := sha256.Sum256([]byte(allowed))
		d := &gatewayv1.Decision{
			IssuedAtMs: time.Now().UnixMilli(), VirtualServer: "engineering-tools", HttpMethod: "POST",
			Era: uint32(mcpwire.EraLegacy), Kind: uint32(mcpwire.KindRequest), RpcMethod: "tools/call",
			Name: "kubernetes-backend_get_pods", Target: &gatewayv1.Target{Backend: "kubernetes-backend", Name: "get_pods"},
			BodySha256: sum[:], SessionId: session, TokenPayload: payload,
			Principal: decision.Principal(w.issuer.URL, "ann", "e2e"), ClientIp: "127.0.0.1",
			ExpiresAt: time.Now().Add(time.Minute).Unix(), RequestId: "e2e",
		}
		if change != nil {
			change(d)
		}
		s, err := decision.Seal(keys, d)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	genuine := seal(nil)
	direct := stack.Client(w.Socket("aggregator"))
	t.Cleanup(direct.CloseIdleConnections)

	// The seal of this test is as good as one of authz's: else the rest would show nothing.
	a := w.send(t, request{client: direct, session: session, body: allowed, header: http.Header{decision.Header: {genuine}}})
	if !a.ok() || !h.Saw("get_pods") {
		t.Fatalf("with a genuine seal: %d %s", a.status, a.body)
	}
	h.Reset()

	ring := keyringtest.New(t)
	foreign, err := decision.Seal(ring, &gatewayv1.Decision{IssuedAtMs: time.Now().UnixMilli(), VirtualServer: "engineering-tools"})
	if err != nil {
		t.Fatal(err)
	}
	cut := strings.Split(genuine, ".")
	sessioned := func(id string) func(*gatewayv1.Decision) { return func(d *gatewayv1.Decision) { d.SessionId = id } }

	for _, c := range []struct {
		name   string
		r      request
		seals  []string
		status int
	}{
		{"no seal", request{body: allowed, session: session}, nil, 403},
		{"an empty seal", request{body: allowed, session: session}, []string{""}, 403},
		{"a token instead of a seal", request{body: allowed, session: session, token: ann}, nil, 403},
		{"invented", request{body: allowed, session: session}, []string{"20260101t000000.AAAA.AAAA"}, 403},
		{"sealed with another key", request{body: allowed, session: session}, []string{foreign}, 403},
		{"sealed with another key under our key's name", request{body: allowed, session: session},
			[]string{cut[0] + foreign[strings.IndexByte(foreign, '.'):]}, 403},
		{"cut short", request{body: allowed, session: session}, []string{genuine[:len(genuine)-3]}, 403},
		{"without its MAC", request{body: allowed, session: session}, []string{cut[0] + "." + cut[1] + "."}, 403},
		{"with one bit changed", request{body: allowed, session: session}, []string{cut[0] + "." + flip(cut[1]) + "." + cut[2]}, 403},
		{"given twice", request{body: allowed, session: session}, []string{genuine, genuine}, 403},
		{"given twice in one line", request{body: allowed, session: session}, []string{genuine + "," + genuine}, 403},
		{"replayed with another body", request{body: forbidden, session: session}, []string{genuine}, 403},
		{"replayed with a blank more", request{body: allowed + " ", session: session}, []string{genuine}, 403},
		{"replayed with twin names", request{body: strings.Replace(allowed, `"name"`, `"name":"kubernetes-backend_delete_namespace","name"`, 1), session: session}, []string{genuine}, 403},
		{"replayed without a body", request{session: session}, []string{genuine}, 403},
		{"replayed in another session", request{body: allowed, session: second}, []string{genuine}, 403},
		{"replayed without a session", request{body: allowed}, []string{genuine}, 403},
		{"replayed as GET", request{method: "GET", session: session}, []string{genuine}, 403},
		{"replayed as DELETE", request{method: "DELETE", session: session}, []string{genuine}, 403},
		{"replayed as PUT", request{method: "PUT", body: allowed, session: session}, []string{genuine}, 403},
		{"replayed as another era", request{body: allowed, session: session, header: http.Header{"Mcp-Protocol-Version": {"2026-07-28"}}}, []string{genuine}, 403},
		{"31 s old", request{body: allowed, session: session},
			[]string{seal(func(d *gatewayv1.Decision) { d.IssuedAtMs = time.Now().Add(-31 * time.Second).UnixMilli() })}, 503},
		{"of the day after tomorrow", request{body: allowed, session: session},
			[]string{seal(func(d *gatewayv1.Decision) { d.IssuedAtMs = time.Now().Add(48 * time.Hour).UnixMilli() })}, 503},
		{"for another virtual server", request{body: allowed, session: session},
			[]string{seal(func(d *gatewayv1.Decision) { d.VirtualServer = "other" })}, 403},
		{"that names another tool", request{body: allowed, session: session},
			[]string{seal(func(d *gatewayv1.Decision) { d.Name = "kubernetes-backend_delete_namespace" })}, 403},
		{"for another method", request{body: allowed, session: session},
			[]string{seal(func(d *gatewayv1.Decision) { d.RpcMethod = "tools/list" })}, 403},
		{"without a target", request{body: allowed, session: session},
			[]string{seal(func(d *gatewayv1.Decision) { d.Target = nil })}, 403},
		{"to a backend that is not there", request{body: allowed, session: session},
			[]string{seal(func(d *gatewayv1.Decision) { d.Target = &gatewayv1.Target{Backend: "gone", Name: "get_pods"} })}, 503},
		{"of another person's, with this session", request{body: allowed, session: session},
			[]string{seal(func(d *gatewayv1.Decision) { d.Principal = decision.Principal(w.issuer.URL, "bob", "e2e") })}, 404},
		{"with a session of nobody's", request{body: allowed, session: "x"}, []string{seal(sessioned("x"))}, 404},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.r.client = direct
			if c.r.header == nil {
				c.r.header = http.Header{}
			}
			if c.seals != nil {
				c.r.header[decision.Header] = c.seals
			}
			a := w.send(t, c.r)
			if a.status != c.status || a.reply().Result != nil {
				t.Errorf("%d %s, want %d", a.status, a.body, c.status)
			}
			if got := asked(h); len(got) > 0 {
				t.Errorf("the backend was asked for %q", got)
				h.Reset()
			}
		})
	}

	// Through Envoy a client's own seal, genuine or not, is gone before anything reads it.
	t.Run("through Envoy", func(t *testing.T) {
		for _, value := range []string{genuine, "20260101t000000.AAAA.AAAA"} {
			for _, c := range []struct {
				header http.Header
				status int
			}{
				{http.Header{"x-vmcp-decision": {value}}, 200},
				{http.Header{"X-VMCP-Decision": {value}}, 200},
				{http.Header{"x-Vmcp-dEcision": {value}, "x-vmcp-principal": {"somebody"}}, 200},
				{http.Header{"x-vmcp-decision": {value, value}}, 200},
				{http.Header{"x-vmcp-decision": {value}, "Connection": {"x-vmcp-decision, keep-alive"}}, 200},
				{http.Header{"Connection": {"authorization"}}, 401}, // hop by hop, says the client: then there is none
				{http.Header{"x_vmcp_decision": {value}}, 400},
				{http.Header{"X_VMCP-Decision": {value}}, 400},
				{http.Header{"x-vmcp_decision": {value}}, 400},
			} {
				r := request{token: ann, session: session, body: forbidden, header: c.header}
				a := w.send(t, r)
				if a.status != c.status || c.status == 200 && !denied(a, mcpwire.ItemTool, "kubernetes-backend_delete_namespace") {
					t.Errorf("%v: %d %s, want %d and the usual denial", c.header, a.status, a.body, c.status)
				}
				r.token = "" // the seal is no substitute for a token either
				if a := w.send(t, r); a.status != 401 && a.status != 400 {
					t.Errorf("%v without a token: %d %s", c.header, a.status, a.body)
				}
			}
		}
		if got := asked(h); len(got) > 0 {
			t.Errorf("the backend was asked for %q", got)
		}
		for _, name := range []string{"x-vmcp-decision", "X-Vmcp-Principal"} {
			a := w.send(t, request{token: ann, session: session, body: allowed, header: http.Header{name: {"nonsense"}}})
			if !a.ok() {
				t.Errorf("an allowed call with a forged %s: %d %s", name, a.status, a.body)
			}
			for got := range a.header {
				if strings.HasPrefix(got, "X-Vmcp") {
					t.Errorf("the client is told %s", got)
				}
			}
		}
		for _, r := range h.Requests() {
			for name := range r.Header {
				if strings.HasPrefix(name, "X-Vmcp") {
					t.Errorf("the backend got %s", name)
				}
			}
		}
	})
}

// flip changes one byte in the middle of a base64 text, to another of its alphabet.
func flip(s string) string {
	b := []byte(s)
	if b[len(b)/2] == 'A' {
		b[len(b)/2] = 'B'
	} else {
		b[len(b)/2] = 'A'
	}
	return string(b)
}
