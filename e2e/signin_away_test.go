package e2e

import (
	"net/http"
	"slices"
	"syscall"
	"testing"
	"time"

	"vmcp/internal/await"
	"vmcp/internal/browser"
	"vmcp/internal/entrasim"
)

// TestRevoked: a token that its client gave back is no good within seconds, and streams that it opened end.
func TestRevoked(t *testing.T) {
	t.Parallel()
	o := openOffice(t, 1)
	stays := o.signIn(t, "platform")
	l := o.signIn(t, "dev")
	other := o.signIn(t, "dev") // the same person elsewhere
	old := l.Access
	l.refresh(t)
	legacy := &caller{w: o.world, token: l.Access}
	get, listen := legacy.follow(t), (&caller{w: o.world, token: l.Access, modern: true}).follow(t)
	listen.expect(t, "acknowledged")
	theirs := (&caller{w: o.world, token: stays.Access}).follow(t)

	// Not by another client: the answer is an error, and the token stays.
	err := o.app(t).Revoke(t.Context(), l.Refresh)
	wantRefused(t, "another client revokes", err, "unauthorized_client")
	if !o.accepted(t, l.Access) {
		t.Error("another client's revocation ends the sign-in")
	}

	if err := l.Revoke(t.Context(), l.Refresh); err != nil {
		t.Fatal(err)
	}
	o.ends(t, "revoked", l.Access)
	o.ends(t, "revoked", old)
	_, err = l.RefreshTokens(t.Context(), l.Refresh)
	wantRefused(t, "a revoked refresh token", err, "invalid_grant")
	if a := o.send(t, request{token: l.Access, body: initialize}); a.status != http.StatusUnauthorized {
		t.Errorf("initialize: %d", a.status)
	}
	if err := l.Revoke(t.Context(), l.Refresh); err != nil { // RFC 7009 section 2.2: as good as done
		t.Errorf("again: %v", err)
	}

	// An access token alone: the sign-in goes on.
	if err := other.Revoke(t.Context(), other.Access); err != nil {
		t.Fatal(err)
	}
	o.ends(t, "the access token revoked", other.Access)
	other.refresh(t)
	if !o.accepted(t, other.Access) {
		t.Error("the next access token is not good")
	}

	get.end(t) // with the first keep-alive or delivery
	listen.end(t)
	select {
	case _, ok := <-theirs.events:
		if !ok {
			t.Error("somebody else's stream ended too")
		}
	default:
	}
	if !o.accepted(t, stays.Access) {
		t.Error("somebody else's token is not good any more")
	}
}

// TestAuthserverAway: who is signed in goes on working, and is still signed in afterwards.
func TestAuthserverAway(t *testing.T) {
	t.Parallel()
	o := openOffice(t, 1)
	l := o.signIn(t, "dev")
	legacy, modern := &caller{w: o.world, token: l.Access}, &caller{w: o.world, token: l.Access, modern: true}
	legacy.call(t, allowedTool, `{"namespace":"shop"}`)
	var before, after any
	o.fetch(t, o.aud+"/.well-known/jwks.json", &before)

	again, err := o.Kill("authserver")
	if err != nil {
		t.Fatal(err)
	}
	pid := o.PID("authserver")
	await.That(t, "authserver is gone", func() bool { return syscall.Kill(pid, 0) != nil })
	back(t, legacy, modern)
	if _, err := l.RefreshTokens(t.Context(), l.Refresh); err == nil {
		t.Error("a refresh without authserver")
	}
	o.restart(t, "authz") // its keys are on disk
	back(t, legacy, modern)
	// A client without a token is still told where to sign in.
	if a := o.send(t, request{body: initialize}); a.status != http.StatusUnauthorized || a.header.Get("Www-Authenticate") == "" {
		t.Errorf("no token: %d %v", a.status, a.header)
	}

	again()
	await.That(t, "authserver is back", func() bool {
		a, err := o.try(request{method: "GET", url: o.aud + "/.well-known/jwks.json"})
		return err == nil && a.status == 200
	})
	l.refresh(t) // the state is on disk, too
	o.fetch(t, o.aud+"/.well-known/jwks.json", &after)
	if !equalJSON(before, after) {
		t.Errorf("the signing key changed: %v, %v", before, after)
	}
	if !o.accepted(t, l.Access) || !o.accepted(t, legacy.token) {
		t.Error("tokens of before and after are not good")
	}
	if err := l.Revoke(t.Context(), l.Refresh); err != nil { // the feeds are up again
		t.Fatal(err)
	}
	o.ends(t, "revoked after the restart", l.Access)

	// Revocations survive a restart of both.
	o.restart(t, "authserver")
	o.restart(t, "authz")
	await.That(t, "authz is back", func() bool {
		a, err := o.try(request{body: initialize})
		return err == nil && a.status == http.StatusUnauthorized
	})
	await.That(t, "authserver is back", func() bool {
		a, err := o.try(request{method: "GET", url: o.aud + "/.well-known/jwks.json"})
		return err == nil && a.status == 200
	})
	o.ends(t, "revoked before the restart", legacy.token)
}

// TestEntraAway: an outage of Entra costs nobody the sign-in.
func TestEntraAway(t *testing.T) {
	t.Parallel()
	o := openOffice(t, 1)
	l := o.signIn(t, "dev")
	b := l.browser
	for what, fault := range map[string]entrasim.Faults{
		"503":                     {Status: http.StatusServiceUnavailable},
		"429":                     {Status: http.StatusTooManyRequests, RetryAfter: 7 * time.Second},
		"half an answer":          {Truncate: true},
		"AADSTS90033 (transient)": {TokenError: 90033},
	} {
		o.entra.SetFaults(fault)
		_, err := l.RefreshTokens(t.Context(), l.Refresh)
		if got := refusal(err); got.Code != "temporarily_unavailable" || got.Status != http.StatusServiceUnavailable || got.RetryAfter == "" {
			t.Errorf("%s: refresh: %v (%+v), want 503 temporarily_unavailable", what, err, got)
		}
		if !o.accepted(t, l.Access) {
			t.Errorf("%s: the access token is not good", what)
		}
		// A sign-in ends on a page that says so, not on the application.
		if fault.TokenError != 0 {
			b.Leave = l.Answered
			page, err := b.SignIn(t.Context(), l.AuthorizeURL(rand43(), "s"), account("dev"))
			wants(t, what, page, err, http.StatusServiceUnavailable, "not available at the moment", "Try again")
		}
		o.entra.SetFaults(entrasim.Faults{})
		l.refresh(t)
	}

	// New keys, the old ones gone.
	if err := o.entra.RotateKeys(); err != nil {
		t.Fatal(err)
	}
	o.entra.ForgetKeys()
	l.refresh(t)
	tokens, err := l.SignIn(t.Context(), browser.New(), account("admin"))
	if err != nil {
		t.Fatalf("after Entra's key change: %v", err)
	}
	if got := groups(t, tokens.Access); !slices.Equal(got, []string{"mcp-admin"}) {
		t.Errorf("groups %q", got)
	}
	// The client secret expires: nobody can refresh, nobody is thrown out for it; the new one works from the next reload on.
	o.entra.ExpireSecrets()
	if _, err := l.RefreshTokens(t.Context(), l.Refresh); err == nil {
		t.Error("a refresh with an expired client secret")
	}
	o.entra.AddSecret("the-next-client-secret")
	o.writeSecret(t, "idp-client-secret", "client-secret", "the-next-client-secret")
	await.That(t, "refreshes work with the new client secret", func() bool {
		next, err := l.RefreshTokens(t.Context(), l.Refresh)
		if err == nil {
			l.Tokens = next
		}
		return err == nil
	})
}
