package oauth

import (
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"vmcp/internal/entrasim"
)

var links = regexp.MustCompile(`<a class="button[^"]*" href="([^"]*)">`)

// backLink is the way back to the application.
func backLink(t *testing.T, f *flow, page answer) url.Values {
	t.Helper()
	for _, m := range links.FindAllStringSubmatch(page.body, -1) {
		if to := html.UnescapeString(m[1]); strings.HasPrefix(to, f.redirect+"?") {
			u, err := url.Parse(to)
			if err != nil {
				t.Fatal(err)
			}
			return u.Query()
		}
	}
	t.Fatalf("no way back on the page: %s", page.body)
	return nil
}

// Somebody without a role gets a page that says so, and no code.
func TestNoRole(t *testing.T) {
	w := newWorld(t, options{})
	f := w.app().flow()
	b := w.browser()
	page := b.get(f.signIn(f.agree(b), "norole@contoso.example"))
	refusedPage(t, w, "no role", page, http.StatusForbidden)
	for _, want := range []string{"No role (norole@contoso.example)", "no role", "administrators of engineering-tools", "Back to Test Client", "Use another account"} {
		if !strings.Contains(page.text(), want) {
			t.Errorf("%q is not on the page: %s", want, page.text())
		}
	}
	q := backLink(t, f, page)
	if q.Get("error") != codeAccessDenied || q.Get("iss") != w.url || q.Get("state") != f.state {
		t.Errorf("the way back: %v", q)
	}
	if strings.Contains(page.body, "code=") {
		t.Error("there is a code on the page")
	}
	// With a role it works, in the same browser.
	w.sim.SetRoles("norole@contoso.example", "mcp-platform")
	if got := f.redeem(f.code(b, "norole@contoso.example")); got.status != http.StatusOK {
		t.Errorf("%+v", got)
	}
}

// T30, T38: whatever is wrong with Entra's answer, there is no code and the page says what to do.
func TestUpstreamRefuses(t *testing.T) {
	for what, tt := range map[string]struct {
		faults entrasim.Faults
		text   string
		status int
		code   string
	}{
		"wrong tenant":    {entrasim.Faults{WrongTenant: true}, "verified", http.StatusBadGateway, codeServerError},
		"wrong audience":  {entrasim.Faults{WrongAudience: true}, "", http.StatusBadGateway, codeServerError},
		"app only":        {entrasim.Faults{AppOnly: true}, "verified", http.StatusBadGateway, codeServerError},
		"roles omitted":   {entrasim.Faults{OmitRoles: true}, "has no role", http.StatusForbidden, codeAccessDenied},
		"bad secret":      {entrasim.Faults{TokenError: 7000215}, "temporarily unavailable", http.StatusServiceUnavailable, codeUnavailable},
		"busy":            {entrasim.Faults{TokenError: 90033}, "Microsoft is busy", http.StatusServiceUnavailable, codeUnavailable},
		"blocked":         {entrasim.Faults{TokenError: 53003}, "blocks this sign-in", http.StatusForbidden, codeAccessDenied},
		"consent missing": {entrasim.Faults{TokenError: 65001}, "approve this application", http.StatusForbidden, codeAccessDenied},
		"nonsense":        {entrasim.Faults{Response: func(r map[string]any) { delete(r, "id_token") }}, "verified", http.StatusBadGateway, codeServerError},
		"another nonce": {entrasim.Faults{Mutate: func(tok *entrasim.Token) {
			if tok.Claims["nonce"] != nil {
				tok.Claims["nonce"] = "another"
			}
		}}, "verified", http.StatusBadGateway, codeServerError},
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t, options{})
			f := w.app().flow()
			b := w.browser()
			back := f.signIn(f.agree(b), dev)
			w.sim.SetFaults(tt.faults)
			page := b.get(back)
			refusedPage(t, w, what, page, tt.status)
			if !strings.Contains(page.text(), tt.text) {
				t.Errorf("page: %s", page.text())
			}
			if q := backLink(t, f, page); q.Get("error") != tt.code || q.Has("code") {
				t.Errorf("the way back: %v", q)
			}
			if strings.Contains(page.body, "AADSTS") {
				t.Errorf("Entra's words are on the page: %s", page.text())
			}
		})
	}
}

func TestUpstreamErrorAtAuthorize(t *testing.T) {
	w := newWorld(t, options{})
	f := w.app().flow()
	b := w.browser()
	to := f.agree(b)
	w.sim.SetFaults(entrasim.Faults{AuthorizeError: 50105})
	resp, err := entrasim.SignIn(t.Context(), nil, to.String(), dev)
	if err != nil {
		t.Fatal(err)
	}
	page := b.get(resp.String())
	refusedPage(t, w, "not assigned", page, http.StatusForbidden)
	if !strings.Contains(page.text(), "not assigned") {
		t.Errorf("page: %s", page.text())
	}
}

// T32, T33, T31: what ends a sign-in at the next refresh.
func TestRefreshEnds(t *testing.T) {
	for what, end := range map[string]func(w *world){
		"role taken away":  func(w *world) { w.sim.SetRoles(dev) },
		"sessions revoked": func(w *world) { w.sim.Revoke(dev) },
		"disabled":         func(w *world) { w.sim.SetDisabled(dev, true) },
		"MFA":              func(w *world) { w.sim.SetFaults(entrasim.Faults{TokenError: 50076}) },
		"blocked":          func(w *world) { w.sim.SetFaults(entrasim.Faults{TokenError: 53003}) },
		"another person":   func(w *world) { w.sim.SetFaults(entrasim.Faults{OtherPerson: admin}) },
		"another tenant":   func(w *world) { w.sim.SetFaults(entrasim.Faults{WrongTenant: true}) },
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t, options{})
			a := w.app()
			first := a.login(dev)
			end(w)
			if got := a.refresh(first.RefreshToken); got.Error != codeInvalidGrant || got.status != http.StatusBadRequest {
				t.Errorf("%d %s", got.status, got.Error)
			}
			if !strings.Contains(w.revoked(), w.claims(first.AccessToken)["tsid"].(string)) {
				t.Error("authz is not told")
			}
			w.sim.SetFaults(entrasim.Faults{}) // it does not come back
			w.sim.SetDisabled(dev, false)
			w.sim.SetRoles(dev, "mcp-developers")
			if got := a.refresh(first.RefreshToken); got.Error != codeInvalidGrant {
				t.Errorf("after that: %d %s", got.status, got.Error)
			}
		})
	}
}

// T34: while Entra is away, nothing is lost.
func TestRefreshOutage(t *testing.T) {
	w := newWorld(t, options{})
	a := w.app()
	first := a.login(dev)
	for what, faults := range map[string]entrasim.Faults{
		"503": {Status: 503}, "429": {Status: 429, RetryAfter: 17 * time.Second}, "cut off": {Truncate: true}, "busy": {TokenError: 90055}, "our secret": {TokenError: 7000222},
	} {
		w.sim.SetFaults(faults)
		got := a.refresh(first.RefreshToken)
		if got.status != http.StatusServiceUnavailable || got.Error != codeUnavailable || got.header.Get("Retry-After") == "" {
			t.Errorf("%s: %d %s, Retry-After %q", what, got.status, got.Error, got.header.Get("Retry-After"))
		}
		if want := "17"; faults.RetryAfter > 0 && got.header.Get("Retry-After") != want {
			t.Errorf("%s: Retry-After %q", what, got.header.Get("Retry-After"))
		}
	}
	w.sim.SetFaults(entrasim.Faults{})
	if got := a.refresh(first.RefreshToken); got.status != http.StatusOK {
		t.Errorf("afterwards: %d %s", got.status, got.Error)
	}
	if w.revoked() != "[]" {
		t.Errorf("revoked %s", w.revoked())
	}
}

// T35: Entra refuses the scope with the application's URI.
func TestSelfToken(t *testing.T) {
	w := newWorld(t, options{})
	w.sim.SetFaults(entrasim.Faults{SelfToken: entrasim.SelfTokenURIForm})
	a := w.app()
	first := a.login(dev)
	if got := a.refresh(first.RefreshToken); got.status != http.StatusOK {
		t.Errorf("%d %s", got.status, got.Error)
	}
}

// T33: what Entra took back of one sign-in is not healed by another one of the same person.
func TestRefreshOwnGrant(t *testing.T) {
	w := newWorld(t, options{})
	a, b := w.app(), w.app()
	first := a.login(dev)
	w.sim.Revoke(dev)
	second := b.login(dev)
	if got := a.refresh(first.RefreshToken); got.Error != codeInvalidGrant {
		t.Errorf("a sign-in from before the revocation: %d %s", got.status, got.Error)
	}
	if got := b.refresh(second.RefreshToken); got.status != http.StatusOK {
		t.Errorf("a sign-in from after it: %d %s", got.status, got.Error)
	}
}

// Checks of one family at the same time are one question to Entra; those of two are two.
func TestRolesCoalesced(t *testing.T) {
	w := newWorld(t, options{})
	a, other := w.app(), w.app()
	first, second := a.login(dev), other.login(dev)
	before := len(w.sim.TokenRequests())
	w.sim.SetFaults(entrasim.Faults{Delay: 300 * time.Millisecond})
	var wg sync.WaitGroup
	for _, scope := range []string{"", "openid", "offline_access"} { // not the same request, so not the same answer
		wg.Go(func() {
			got := a.ask(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {first.RefreshToken}, "scope": {scope}})
			if got.status != http.StatusOK {
				t.Errorf("scope %q: %d %s", scope, got.status, got.Error)
			}
		})
	}
	wg.Go(func() {
		if got := other.refresh(second.RefreshToken); got.status != http.StatusOK {
			t.Errorf("the other family: %d %s", got.status, got.Error)
		}
	})
	wg.Wait()
	if asked := len(w.sim.TokenRequests()) - before; asked != 2 {
		t.Errorf("Entra was asked %d times, want 2", asked)
	}
}
