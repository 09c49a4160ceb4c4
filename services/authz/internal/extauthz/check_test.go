package extauthz

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"golang.org/x/tools/txtar"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"vmcp/internal/await"
	"vmcp/internal/decision"
	"vmcp/internal/gatewayconfig"
	"vmcp/internal/mcpwire"
	"vmcp/internal/policy"
	gatewayv1 "vmcp/proto/gateway/v1"
	"vmcp/services/authz/internal/audit"
	"vmcp/services/authz/internal/engine"
)

// ask sends one legacy message and returns the answer, with the decision where it was allowed.
func (w *world) ask(t testing.TB, caller, body string) (*authv3.CheckResponse, *gatewayv1.Decision) {
	t.Helper()
	req, _ := w.checkRequest(t, []byte(caller+" POST /mcp\nMcp-Session-Id: s\n\n"+body))
	resp, err := w.server.Check(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return resp, w.opened(t, resp)
}

func (w *world) opened(t testing.TB, resp *authv3.CheckResponse) *gatewayv1.Decision {
	t.Helper()
	for _, h := range resp.GetOkResponse().GetHeaders() {
		if h.Header.Key == "x-vmcp-decision" {
			d, err := decision.Open(w.keys, h.Header.Value)
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
	}
	return nil
}

func toolCall(name string) string {
	return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + name + `"}}`
}

// TestDeniedIsUnknown: nobody can tell a denied item from one that does not exist.
func TestDeniedIsUnknown(t *testing.T) {
	w := newWorld(t, startIssuer(t))
	for _, tt := range []struct{ caller, body, denied, unknown string }{
		{"dev", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"NAME","arguments":{"namespace":1}}}`, "k8s_delete_namespace", "k8s_eeeeee_namespace"},
		{"dev", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"NAME","arguments":{"NAMESPACE":1}}}`, "k8s_delete_namespace", "k8s_eeeeee_namespace"},
		{"counter", `{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"NAME"}}`, "github_review", "github_xeview"},
		{"counter", `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"NAME"}}`, "doc://hello", "cod://hello"},
		{"counter", `{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"NAME"}}`, "doc://hello", "cod://hello"},
		{"counter", `{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"NAME"}}}`, "github_review", "github_xeview"},
	} {
		fill := func(name string) string {
			resp, d := w.ask(t, tt.caller, strings.Replace(tt.body, "NAME", name, 1))
			if d != nil {
				t.Fatalf("%s %s: allowed", tt.caller, name)
			}
			resp.DynamicMetadata = nil // for Envoy's log
			return strings.ReplaceAll(resp.String(), name, "NAME")
		}
		// proto.String puts blanks at random, but the same ones within a process.
		if denied, unknown := fill(tt.denied), fill(tt.unknown); denied != unknown {
			t.Errorf("denied:  %s\nunknown: %s", denied, unknown)
		}
	}
}

// TestOneSpelling: whatever the catalog, a name is served only in its own spelling.
func TestOneSpelling(t *testing.T) {
	w := newWorld(t, startIssuer(t))
	for _, name := range []string{"K8s_get_pods", "k8s_get_pods ", " k8s_get_pods", "k8s_get_pods\\u0000", "k8s_get_pod\\u017f", "k8s_get_pods/"} {
		if _, d := w.ask(t, "dev", toolCall(name)); d != nil {
			t.Errorf("%q is allowed as %v", name, d.Target)
		}
	}
}

// TestLongNames: what would not fit into the seal is refused here, and the records stay short.
func TestLongNames(t *testing.T) {
	w := newWorld(t, startIssuer(t))
	long := strings.Repeat("é", 1<<20)
	for _, body := range []string{
		`{"jsonrpc":"2.0","method":"notifications/` + long + `"}`,
		`{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"doc://items/` + long + `"}}`,
		toolCall(long),
		`{"jsonrpc":"2.0","id":1,"method":"` + long + `"}`,
	} {
		w.audit.Reset()
		resp, d := w.ask(t, "dev", body)
		if d != nil {
			t.Errorf("%.60s: allowed", body)
		}
		if n := w.audit.Len(); n > 8<<10 {
			t.Errorf("%.60s: an audit record of %d bytes", body, n)
		}
		if n := len(resp.String()); n > 16<<10 {
			t.Errorf("%.60s: an answer of %d bytes", body, n)
		}
	}
}

// TestReload: new policies and a new catalog hold from the next request on, for tokens seen before too.
func TestReload(t *testing.T) {
	w := newWorld(t, startIssuer(t))
	_, before := w.ask(t, "dev", toolCall("k8s_get_pods"))
	if before == nil {
		t.Fatal("get_pods is not allowed")
	}
	if _, again := w.ask(t, "dev", toolCall("k8s_get_pods")); again.View != before.View {
		t.Errorf("view %s, then %s, want the same", before.View, again.View)
	}
	if _, other := w.ask(t, "counter", `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`); other.View == before.View {
		t.Error("callers of different roles have one view")
	}

	set, err := policy.Load("team", []string{"github", "k8s"}, gatewayconfig.Policies{EntitiesJSON: "[]",
		Texts: []gatewayconfig.PolicyText{{File: "p", Line: 1, Text: `permit(principal in THVGroup::"dev", action, resource == Tool::"get_pods");`}}})
	if err != nil {
		t.Fatal(err)
	}
	w.engine.SetPolicies(set)
	if _, d := w.ask(t, "dev", toolCall("github_create_issue")); d != nil {
		t.Error("a policy that is gone still permits")
	}
	_, after := w.ask(t, "dev", toolCall("k8s_get_pods"))
	if after == nil || after.View == before.View || after.PolicyRevision != set.Revision() {
		t.Errorf("after new policies: %v, want another view and revision", after)
	}

	w.engine.SetReplica("catalog.json", &engine.Catalog{Digest: "next", Backends: []*gatewayv1.BackendCatalog{
		{Name: "other", Tools: []*gatewayv1.Item{{Name: "k8s_get_pods", Original: "get_pods"}}}}})
	_, moved := w.ask(t, "dev", toolCall("k8s_get_pods"))
	if moved == nil || moved.Target.Backend != "other" || moved.CatalogDigest != "next" || moved.View == after.View {
		t.Errorf("after a new catalog: %v, want the other backend and another view", moved)
	}
}

// TestView: the view differs with what the policies read, and with nothing else.
func TestView(t *testing.T) {
	issuer := startIssuer(t)
	for _, tt := range []struct {
		condition                string
		byTeam, byAddress, byEra bool
	}{
		{`true`, false, false, false},
		{`context has claim_team && context.claim_team == "x"`, true, false, false},
		{`context has client_ip && context.client_ip.isLoopback()`, false, true, false},
		{`context.protocol_era == "modern"`, false, false, true},
	} {
		w := newWorld(t, issuer, &txtar.Archive{Files: []txtar.File{
			{Name: "policies.cedar", Data: []byte(`permit(principal in THVGroup::"dev", action, resource == Tool::"any");
				permit(principal in THVGroup::"dev", action, resource) when { ` + tt.condition + ` };`)},
			{Name: "callers.json", Data: []byte(`{"ann": {"groups":["dev"],"team":"x"}, "bob": {"groups":["dev"],"team":"y"}}`)},
		}})
		view := func(caller, ip string, modern bool) string {
			text := caller + " POST /mcp\n\n" + `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
			if modern {
				text = caller + " POST /mcp\nMcp-Protocol-Version: 2026-07-28\nMcp-Method: tools/list\n\n" + `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{«meta»}}`
			}
			req, _ := w.checkRequest(t, []byte(text))
			for _, h := range req.Attributes.Request.Http.HeaderMap.Headers {
				if h.Key == "x-vmcp-client-address" {
					h.RawValue = []byte(ip)
				}
			}
			resp, err := w.server.Check(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			d := w.opened(t, resp)
			if d == nil {
				t.Fatalf("%s: not allowed: %v", caller, resp)
			}
			return d.View
		}
		base := view("ann", "127.0.0.1", false)
		for _, c := range []struct {
			what, view string
			differs    bool
		}{
			{"the same again", view("ann", "127.0.0.1", false), false},
			{"another team", view("bob", "127.0.0.1", false), tt.byTeam},
			{"another address", view("ann", "192.0.2.9", false), tt.byAddress},
			{"another era", view("ann", "127.0.0.1", true), tt.byEra},
		} {
			if (c.view != base) != c.differs {
				t.Errorf("%s, %s: view differs: %v, want %v", tt.condition, c.what, c.view != base, c.differs)
			}
		}
	}
}

// TestReady: not before policies, catalog and keys are there.
func TestReady(t *testing.T) {
	issuer := startIssuer(t)
	for config, ready := range map[string]bool{
		`{}`: true, `{"NoPolicies":true}`: false, `{"NoCatalog":true}`: false, `{"NoKeys":true}`: false, `{"Anonymous":true}`: true,
	} {
		w := newWorld(t, issuer, &txtar.Archive{Files: []txtar.File{{Name: "config.json", Data: []byte(config)}}})
		if err := w.server.Ready(); (err == nil) != ready {
			t.Errorf("%s: %v, want ready %v", config, err, ready)
		}
	}
}

// TestEmptyCheck: a request without anything is denied.
func TestEmptyCheck(t *testing.T) {
	w := newWorld(t, startIssuer(t))
	resp, err := w.server.Check(t.Context(), &authv3.CheckRequest{})
	if err != nil || resp.GetDeniedResponse().GetStatus().GetCode() != 403 {
		t.Errorf("%v, %v, want 403", resp, err)
	}
	if resp := (&outcome{}).response(&request{}, &audit.Record{}); resp.GetDeniedResponse().GetStatus().GetCode() != 503 {
		t.Errorf("the zero outcome answers %v, want 503", resp)
	}
}

// serve runs the server on a Unix socket, as Envoy meets it.
func (w *world) serve(t testing.TB) authv3.AuthorizationClient {
	t.Helper()
	path := filepath.Join(t.TempDir(), "authz.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.MaxRecvMsgSize(6<<20), grpc.NumStreamWorkers(2),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}))
	authv3.RegisterAuthorizationServer(server, w.server)
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(l) }()
	t.Cleanup(func() { server.Stop(); <-done })
	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return authv3.NewAuthorizationClient(conn)
}

// TestLargeBody: a body of Envoy's limit comes through a real connection and is sealed.
func TestLargeBody(t *testing.T) {
	w := newWorld(t, startIssuer(t))
	client := w.serve(t)
	head, tail := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"k8s_get_pods","arguments":{"namespace":"`, `"}}}`
	body := head + strings.Repeat("x", 4<<20-len(head)-len(tail)) + tail
	req, wire := w.checkRequest(t, []byte("dev POST /mcp\nMcp-Session-Id: s\n\n"+body))
	ctx, cancel := context.WithTimeout(t.Context(), await.Limit)
	defer cancel()
	resp, err := client.Check(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	d := w.opened(t, resp)
	m, perr := mcpwire.Parse(wire)
	if d == nil || perr != nil || !bytes.Equal(m.Body, []byte(body)) {
		t.Fatalf("not allowed: %.300s", resp)
	}
	if err := decision.Verify(d, decision.Received{VirtualServer: "team", HTTPMethod: "POST", SessionID: "s", Message: &m, Now: time.Now()}); err != nil {
		t.Error(err)
	}
}

// BenchmarkCheck is the whole decision for one call with a token seen before, and the same through a Unix socket.
func BenchmarkCheck(b *testing.B) {
	issuer := startIssuer(b)
	for _, policies := range []int{5, 100, 1000} {
		var text strings.Builder
		text.WriteString(`permit(principal in THVGroup::"dev", action, resource);`)
		for i := 1; i < policies; i++ {
			switch i % 4 {
			case 0:
				fmt.Fprintf(&text, "permit(principal in THVGroup::\"g%d\", action, resource);\n", i)
			case 1:
				fmt.Fprintf(&text, "forbid(principal in THVGroup::\"dev\", action == Action::\"call_tool\", resource == Tool::\"t%d\");\n", i)
			case 2:
				fmt.Fprintf(&text, "permit(principal in THVGroup::\"g%d\", action == Action::\"call_tool\", resource in MCP::\"k8s\");\n", i)
			case 3:
				fmt.Fprintf(&text, "forbid(principal in THVGroup::\"h%d\", action, resource) when { context.arg_namespace == \"n%d\" };\n", i, i)
			}
		}
		w := newWorld(b, issuer, &txtar.Archive{Files: []txtar.File{{Name: "policies.cedar", Data: []byte(text.String())}}})
		req, _ := w.checkRequest(b, []byte("dev POST /mcp\nMcp-Session-Id: s\nMcp-Protocol-Version: 2025-11-25\nContent-Type: application/json\n\n"+
			`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"k8s_get_pods","arguments":{"namespace":"kube-system"}}}`))
		b.Run(fmt.Sprintf("policies=%d", policies), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w.audit.Reset()
				if resp, err := w.server.Check(b.Context(), req); err != nil || resp.GetOkResponse() == nil {
					b.Fatal(resp, err)
				}
			}
		})
		client := w.serve(b)
		b.Run(fmt.Sprintf("policies=%d/socket", policies), func(b *testing.B) {
			for b.Loop() {
				w.audit.Reset()
				if resp, err := client.Check(b.Context(), req); err != nil || resp.GetOkResponse() == nil {
					b.Fatal(resp, err)
				}
			}
		})
	}
}

// TestUnrecorded: what the audit trail cannot hold is not allowed.
func TestUnrecorded(t *testing.T) {
	w := newWorld(t, startIssuer(t))
	full := false
	w.server.cfg.Audit = audit.New(writer(func(b []byte) (int, error) {
		if full {
			return 0, errors.New("disk full")
		}
		return len(b), nil
	}), func(error) {})
	if _, d := w.ask(t, "dev", toolCall("k8s_get_pods")); d == nil {
		t.Fatal("refused with room on the disk")
	}
	full = true
	resp, d := w.ask(t, "dev", toolCall("k8s_get_pods"))
	if d != nil || resp.GetDeniedResponse().GetStatus().GetCode() != 503 || strings.Contains(resp.String(), "disk full") {
		t.Errorf("with a full disk: %v", resp)
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

// TestPanic: a request that breaks the code is denied, and the next one is served.
func TestPanic(t *testing.T) {
	w := newWorld(t, startIssuer(t))
	eng := w.server.cfg.Engine
	w.server.cfg.Engine = nil // what no request should be able to do
	resp, d := w.ask(t, "dev", toolCall("k8s_get_pods"))
	if d != nil || resp.GetDeniedResponse().GetStatus().GetCode() != 503 {
		t.Errorf("after a panic: %v", resp)
	}
	w.server.cfg.Engine = eng
	if _, d := w.ask(t, "dev", toolCall("k8s_get_pods")); d == nil {
		t.Error("the next request was refused")
	}
}
