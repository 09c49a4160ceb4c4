package main

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/zap"

	"vmcp/internal/gatewayconfig"
	"vmcp/services/authz/internal/extauthz"
)

// TestWarnings: operators read at the admin listener what is wrong with the policies, and see by a metric that to look.
func TestWarnings(t *testing.T) {
	eng := newEngine(nil, zap.NewNop())
	gw := &gatewayconfig.Gateway{Name: "team"}
	gw.Authz.Policies.Texts = []gatewayconfig.PolicyText{{File: "p", Line: 1, Text: `permit(principal in THVGruop::"dev", action, resource);`}}
	if err := setPolicies(eng, gw, zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	gw.Authz.Policies.Texts = []gatewayconfig.PolicyText{{File: "p", Line: 1, Text: `forbid(principal in THVGruop::"dev", action, resource);`}}
	if err := setPolicies(eng, gw, zap.NewNop()); err == nil {
		t.Error("a forbid that can never match is loaded")
	}
	check := extauthz.Config{Engine: eng, Log: zap.NewNop()}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- newAdmin(extauthz.New(check), &check).Serve(t.Context(), l, zap.NewNop()) }()
	t.Cleanup(func() { <-done })
	for page, want := range map[string]string{"/warnings": "p:1: policy p#1: unknown entity type THVGruop", "/metrics": "\nvmcp_policy_warnings 1\n"} {
		resp, err := http.Get("http://" + l.Addr().String() + page)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !strings.Contains(string(body), want) {
			t.Errorf("%s: %q, %v; want %q in it", page, body, err, want)
		}
	}
}
