package e2e

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"vmcp/internal/browser"
)

// TestSignInAttacks: who sends somebody else's answers, codes and tokens gets nowhere, and burns them.
func TestSignInAttacks(t *testing.T) {
	t.Parallel()
	o := openOffice(t, 2)
	t.Run("refresh token reuse", func(t *testing.T) {
		t.Parallel() // waits for the grace to pass
		refreshReuse(t, o)
	})
	t.Run("callback", func(t *testing.T) { callbackElsewhere(t, o) })
	t.Run("consent", func(t *testing.T) { consentForgery(t, o) })
	t.Run("code", func(t *testing.T) { codeMisuse(t, o) })
}

// upTo goes through the pages and stops before the gateway's callback: what Entra sent the browser to.
func upTo(t *testing.T, b *browser.Browser, app *browser.Application) (callback string) {
	t.Helper()
	b.Leave = func(u *url.URL) bool { return u.Path == "/oauth/callback" || app.Answered(u) }
	page, err := b.SignIn(t.Context(), app.AuthorizeURL(rand43(), "s"), account("dev"))
	if err != nil || page.Left == nil || page.Left.Path != "/oauth/callback" {
		t.Fatalf("up to the callback: %v %+v", err, page)
	}
	b.Leave = app.Answered
	return page.Left.String()
}

// callbackElsewhere: Entra's answer works once, in the browser where the sign-in began.
func callbackElsewhere(t *testing.T, o *office) {
	app := o.app(t)
	victims := func(signedIn bool) *browser.Browser {
		b := browser.New()
		b.Leave = app.Answered
		if signedIn {
			if _, err := app.SignIn(t.Context(), b, account("admin")); err != nil {
				t.Fatal(err)
			}
		}
		return b
	}
	for what, victim := range map[string]*browser.Browser{"without cookies": victims(false), "where somebody is signed in": victims(true)} {
		attacker := browser.New()
		callback := upTo(t, attacker, app)
		redeemed := o.entra.Count("/oauth2/v2.0/token")
		page, err := victim.Get(t.Context(), callback)
		wants(t, "a browser "+what, page, err, http.StatusForbidden, "started in another browser", "close this page")
		for _, link := range page.Links {
			if strings.Contains(link, app.RedirectURI) {
				t.Errorf("the page leads to the application: %s", link)
			}
		}
		if o.entra.Count("/oauth2/v2.0/token") != redeemed {
			t.Error("Entra's code was redeemed")
		}
		page, err = attacker.Get(t.Context(), callback)
		wants(t, "then the one where it began", page, err, http.StatusBadRequest, "expired or was finished already")
	}

	b := browser.New()
	callback := upTo(t, b, app)
	page, err := b.Get(t.Context(), callback)
	if err != nil || page.Left == nil || page.Left.Query().Get("code") == "" {
		t.Fatalf("the right browser: %v %+v", err, page)
	}
	for what, address := range map[string]string{
		"replayed":      callback,
		"unknown state": strings.SplitN(callback, "?", 2)[0] + "?code=x&state=" + rand43(),
		"no state":      strings.SplitN(callback, "?", 2)[0] + "?code=x",
		"two states":    callback + "&state=" + rand43(),
	} {
		page, err := b.Get(t.Context(), address)
		wants(t, what, page, err, http.StatusBadRequest, "expired or was finished already", "start again")
	}

	// A code of somebody else in one's own state: the verifier does not fit.
	mine, theirs := browser.New(), browser.New()
	mixed := func(mine, theirs string) string {
		m, err := url.Parse(mine)
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(theirs)
		if err != nil {
			t.Fatal(err)
		}
		q := m.Query()
		q.Set("code", u.Query().Get("code"))
		m.RawQuery = q.Encode()
		return m.String()
	}(upTo(t, mine, app), upTo(t, theirs, app))
	page, err = mine.Get(t.Context(), mixed)
	if err != nil || page.Left != nil || page.Status < 400 {
		t.Errorf("a foreign code: %v %+v", err, page)
	}
}

// consentForgery: nobody agrees for somebody else.
func consentForgery(t *testing.T, o *office) {
	app := o.app(t)
	consent := func(b *browser.Browser) (*browser.Page, url.Values) {
		b.Leave = app.Answered
		page, err := b.Get(t.Context(), app.AuthorizeURL(rand43(), "s"))
		if err != nil || !page.Has("decision") {
			t.Fatalf("no consent page: %v %+v", err, page)
		}
		fields := page.Forms[0].Fields
		fields.Set("decision", "approve")
		return page, fields
	}
	own := app.Issuer
	b := browser.New()
	page, fields := consent(b)
	at, err := page.URL.Parse(page.Forms[0].Action)
	if err != nil {
		t.Fatal(err)
	}
	for _, origin := range []string{"https://evil.example", "null", strings.Replace(own, "localhost", "localhost.evil.example", 1), "http://localhost:1", o.entra.URL} {
		got, err := b.Post(t.Context(), at.String(), fields, origin)
		wants(t, "from "+origin, got, err, http.StatusForbidden, "sent from another site")
	}
	// The attacker's form in the victim's browser, from our own page even.
	victim := browser.New()
	consent(victim)
	got, err := victim.Post(t.Context(), at.String(), fields, own)
	wants(t, "another browser's form", got, err, http.StatusForbidden, "out of date")
	got, err = browser.New().Post(t.Context(), at.String(), fields, own)
	wants(t, "a browser without cookies", got, err, http.StatusForbidden, "cookie")
	bad := url.Values{"transaction": {fields.Get("transaction") + "A"}, "decision": {"approve"}}
	got, err = b.Post(t.Context(), at.String(), bad, own)
	wants(t, "a changed form", got, err, http.StatusForbidden)
	if got, err := b.Get(t.Context(), at.String()+"?"+fields.Encode()); err != nil || got.Status != http.StatusMethodNotAllowed {
		t.Errorf("by GET: %v %+v", err, got)
	}
	// None of this has spent it: the person can still agree, once.
	got, err = b.Press(t.Context(), page, "decision", "approve")
	if err != nil || !got.Has("account") {
		t.Errorf("the person's own answer: %v %+v", err, got)
	}
	got, err = b.Post(t.Context(), at.String(), fields, own)
	if err != nil || got.Status < 400 {
		t.Errorf("twice: %v %+v", err, got)
	}
	// Cancel goes back to the application.
	b = browser.New()
	page, _ = consent(b)
	got, err = b.Press(t.Context(), page, "decision", "deny")
	if err != nil || got.Left == nil || got.Left.Query().Get("error") != "access_denied" || got.Left.Query().Get("iss") != app.Issuer || got.Left.Query().Get("state") != "s" {
		t.Errorf("cancel: %v %+v", err, got)
	}
	// Cancel on Entra's page, too.
	b = browser.New()
	page, _ = consent(b)
	if page, err = b.Press(t.Context(), page, "decision", "approve"); err == nil {
		got, err = b.Press(t.Context(), page, "cancel", "")
	}
	if err != nil || got.Left == nil || got.Left.Query().Get("error") != "access_denied" || got.Left.Query().Get("iss") != app.Issuer {
		t.Errorf("cancel at Entra: %v %+v", err, got)
	}
}

// codeMisuse: a code is for one client, one verifier, one use.
func codeMisuse(t *testing.T, o *office) {
	code := func() (*browser.Application, string, string) {
		t.Helper()
		app := o.app(t)
		c, verifier, err := app.Authorize(t.Context(), browser.New(), account("dev"))
		if err != nil {
			t.Fatal(err)
		}
		return app, c, verifier
	}
	app, c, verifier := code()
	tokens, err := app.Redeem(t.Context(), c, verifier)
	if err != nil {
		t.Fatal(err)
	}
	if !o.accepted(t, tokens.Access) {
		t.Error("the token is not good")
	}
	_, err = app.Redeem(t.Context(), c, verifier) // RFC 6749 section 4.1.2
	wantRefused(t, "a code used twice", err, "invalid_grant")
	o.ends(t, "a code used twice", tokens.Access)
	_, err = app.RefreshTokens(t.Context(), tokens.Refresh)
	wantRefused(t, "what a code bought that was used twice", err, "invalid_grant")

	app, c, verifier = code()
	_, err = app.Redeem(t.Context(), c, rand43())
	wantRefused(t, "a wrong verifier", err, "invalid_grant")
	_, err = app.Redeem(t.Context(), c, verifier)
	wantRefused(t, "the right verifier after a wrong one", err, "invalid_grant")
	app, c, _ = code()
	if _, err = app.Redeem(t.Context(), c, ""); err == nil {
		t.Error("a code was redeemed without a verifier")
	}

	_, c, verifier = code()
	_, err = o.app(t).Redeem(t.Context(), c, verifier)
	wantRefused(t, "another client's code", err, "invalid_grant")

	app, c, verifier = code()
	app.RedirectURI += "2"
	_, err = app.Redeem(t.Context(), c, verifier)
	wantRefused(t, "another redirect URI", err, "invalid_grant")
}

// refreshReuse: within the grace a replaced token brings the same successor; later it ends everything (OAuth 2.1 section
// 4.3.1).
func refreshReuse(t *testing.T, o *office) {
	l := o.signIn(t, "dev")
	first := l.Refresh
	_, err := o.app(t).RefreshTokens(t.Context(), first)
	wantRefused(t, "another client's refresh token", err, "invalid_grant")
	if !o.accepted(t, l.Access) {
		t.Error("whoever tries with another client ends the sign-in")
	}
	l.refresh(t)
	second := l.Tokens
	again, err := l.RefreshTokens(t.Context(), first)
	if err != nil || again.Refresh != second.Refresh || again.Access != second.Access {
		t.Errorf("within the grace: %v, another successor", err)
	}
	_, err = o.app(t).RefreshTokens(t.Context(), first)
	wantRefused(t, "another client's refresh token, replaced", err, "invalid_grant")
	l.refresh(t)
	if !o.accepted(t, l.Access) || !o.accepted(t, second.Access) {
		t.Error("the tokens are not good")
	}
	time.Sleep(grace) // it is the passing of this time that counts
	_, err = l.RefreshTokens(t.Context(), first)
	wantRefused(t, "a replaced token after the grace", err, "invalid_grant")
	o.ends(t, "a replaced token after the grace", l.Access)
	o.ends(t, "a replaced token after the grace", second.Access)
	_, err = l.RefreshTokens(t.Context(), l.Refresh)
	wantRefused(t, "the newest token of that sign-in", err, "invalid_grant")
	l2 := o.signIn(t, "dev") // others are not touched
	l2.refresh(t)
}

const grace = 10*time.Second + 200*time.Millisecond
