package oauth

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vmcp/internal/gatewayconfig"
	"vmcp/internal/token"
)

const (
	dev   = "dev@contoso.example"
	admin = "admin@contoso.example"
)

func TestLogin(t *testing.T) {
	for _, version := range []int{0, 2} {
		w := newWorld(t, options{})
		w.sim.SetTokenVersion(version)
		got := w.app().login(dev)
		if got.TokenType != "Bearer" || got.Scope != "openid offline_access" || got.RefreshToken == "" || got.ExpiresIn < 890 || got.ExpiresIn > 900 {
			t.Errorf("token response: %+v", got.tokenResponse)
		}
		if cc := got.header.Get("Cache-Control"); cc != "no-store" {
			t.Errorf("Cache-Control %q", cc)
		}
		claims := w.claims(got.AccessToken)
		for name, want := range map[string]any{"iss": w.url, "aud": []any{audience}, "scope": "openid offline_access", "groups": []any{"mcp-developers"},
			"tid": tenantID, "ver": "1"} {
			if diff := cmp.Diff(claims[name], want); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
		if sub, _ := claims["sub"].(string); len(sub) != 22 {
			t.Errorf("sub %q", sub)
		}
		for _, name := range []string{"tsid", "jti", "client_id", "oid", "auth_time", "iat", "exp"} {
			if claims[name] == nil {
				t.Errorf("no %s", name)
			}
		}
		// authz takes it.
		v, err := token.New(token.Config{Issuer: gatewayconfig.Issuer{URL: w.url, Own: true}, Audience: audience, Log: w.server.cfg.Log},
			func(c token.Claims) (token.Claims, error) { return c, nil })
		if err != nil {
			t.Fatal(err)
		}
		jwks, _ := w.keys.JWKS()
		if err := v.SetKeys(jwks); err != nil {
			t.Fatal(err)
		}
		c, err := v.Verify(got.AccessToken)
		if err != nil || c.TSID != claims["tsid"] || !slices.Equal(c.Scope, []string{"openid", "offline_access"}) {
			t.Errorf("verifier: %+v, %v", c, err)
		}
	}
}

// Two logins of one person have one subject; two people have two.
func TestSubject(t *testing.T) {
	w := newWorld(t, options{})
	a, b := w.app(), w.app()
	first, second, other := w.claims(a.login(dev).AccessToken), w.claims(b.login(dev).AccessToken), w.claims(a.login(admin).AccessToken)
	if first["sub"] != second["sub"] || first["sub"] == other["sub"] || first["tsid"] == second["tsid"] {
		t.Errorf("subjects %v %v %v", first["sub"], second["sub"], other["sub"])
	}
}

func TestRefresh(t *testing.T) {
	w := newWorld(t, options{})
	a := w.app()
	first := a.login(dev)
	w.sim.SetRoles(dev, "mcp-developers", "mcp-admin")
	second := a.refresh(first.RefreshToken)
	if second.status != http.StatusOK || second.RefreshToken == first.RefreshToken {
		t.Fatalf("refresh: %+v", second)
	}
	before, after := w.claims(first.AccessToken), w.claims(second.AccessToken)
	if diff := cmp.Diff(after["groups"], []any{"mcp-admin", "mcp-developers"}); diff != "" {
		t.Errorf("roles after a refresh: %s", diff)
	}
	if before["tsid"] != after["tsid"] || before["jti"] == after["jti"] || before["auth_time"] != after["auth_time"] {
		t.Errorf("before %v, after %v", before, after)
	}
	// Within the grace the same answer, again and again; the new one goes on.
	again := a.refresh(first.RefreshToken)
	if diff := cmp.Diff(again.tokenResponse, second.tokenResponse); diff != "" {
		t.Errorf("replayed within the grace: %s", diff)
	}
	if third := a.refresh(second.RefreshToken); third.status != http.StatusOK {
		t.Errorf("the successor: %+v", third)
	}
	// What is two steps back is not excused by the grace of one step.
	w.age(first.RefreshToken, grace+time.Second)
	if got := a.refresh(first.RefreshToken); got.Error != codeInvalidGrant {
		t.Errorf("reuse after the grace: %+v", got)
	}
	tsid := before["tsid"].(string)
	if !strings.Contains(w.revoked(), tsid) {
		t.Error("reuse revoked nothing")
	}
}
