package oauth

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

// T09: without the page nobody gets to Entra; what was agreed to is remembered for this browser, person and client.
func TestConsent(t *testing.T) {
	w := newWorld(t, options{})
	a, other := w.webApp(), w.webApp()
	b := w.browser()
	asked := func(a *app, change func(*flow)) bool {
		t.Helper()
		f := a.flow()
		if change != nil {
			change(f)
		}
		got := b.get(f.address())
		return got.status == http.StatusOK && strings.Contains(got.body, `name="transaction"`)
	}
	f := a.flow()
	if !asked(a, nil) {
		t.Error("a new client is not asked about")
	}
	f.redeem(f.code(b, dev))
	if asked(a, nil) {
		t.Error("asked again right after")
	}
	for what, change := range map[string]func(*flow){
		"another scope": func(f *flow) { f.params.Set("scope", "openid email") },
		"prompt":        func(f *flow) { f.params.Set("prompt", "consent") },
	} {
		if !asked(a, change) {
			t.Errorf("%s: not asked again", what)
		}
	}
	native := w.app()
	f = native.flow()
	f.redeem(f.code(b, dev))
	if !asked(native, nil) {
		t.Error("not asked again for a program on this machine, which could be another one")
	}
	if !asked(other, nil) {
		t.Error("another client rides on the consent of the first")
	}
	w.sql("UPDATE clients SET name = 'Another' WHERE id = ?", a.id)
	if !asked(a, nil) {
		t.Error("not asked again for a changed client")
	}
}

// Another person in the same browser is asked for themselves.
func TestConsentIsOnePersons(t *testing.T) {
	w := newWorld(t, options{})
	a := w.webApp()
	b := w.browser()
	f := a.flow()
	f.code(b, dev)

	f = a.flow()
	if again := b.get(f.signIn(b.get(f.address()).location(t), dev)).location(t); !strings.HasPrefix(again.String(), webCallback) || again.Query().Get("code") == "" {
		t.Errorf("the same person again: %s", again)
	}
	f = a.flow()
	to := b.get(f.address()).location(t) // remembered: straight to Entra
	back := b.get(f.signIn(to, admin)).location(t)
	if !strings.HasPrefix(back.String(), w.url+pathAuthorize+"?") {
		t.Fatalf("another person got %s", back)
	}
	page := b.get(back.String())
	if !strings.Contains(page.body, `name="transaction"`) {
		t.Fatalf("not asked: %d %s", page.status, page.text())
	}
	fields := form(page.body)
	fields.Set("decision", "approve")
	to = b.post(w.url+pathConsent, fields).location(t)
	code := b.get(f.signIn(to, admin)).location(t).Query().Get("code")
	w.canary(code)
	if got := f.redeem(code); got.status != http.StatusOK {
		t.Errorf("%+v", got)
	}
	// And the first one again.
	if got := b.get(f.signIn(b.get(f.address()).location(t), dev)).location(t); !strings.HasPrefix(got.String(), w.url+pathAuthorize+"?") {
		t.Errorf("the first person got %s", got)
	}
}

func TestDecline(t *testing.T) {
	w := newWorld(t, options{})
	f := w.app().flow()
	b := w.browser()
	fields := form(b.get(f.address()).body)
	fields.Set("decision", "deny")
	refusedToClient(t, f, "declined here", b.post(w.url+pathConsent, fields), codeAccessDenied)
	refusedToClient(t, f, "declined at Entra", b.get(f.signIn(f.agree(b), "")), codeAccessDenied)

	// T03: who says no to a site is not sent there; who said yes to it is.
	f = w.webApp().flow()
	fields = form(b.get(f.address()).body)
	fields.Set("decision", "deny")
	refusedOnPage(t, f, "declined here, a site", b.post(w.url+pathConsent, fields), codeAccessDenied, http.StatusForbidden)
	refusedToClient(t, f, "declined at Entra, a site", b.get(f.signIn(f.agree(b), "")), codeAccessDenied)
}

// T10: whoever agrees in one browser cannot make another one sign in.
func TestOtherBrowser(t *testing.T) {
	w := newWorld(t, options{})
	f := w.app().flow()
	attacker, victim := w.browser(), w.browser()
	back := f.signIn(f.agree(attacker), dev)
	refusedPage(t, w, "no cookie", victim.get(back), http.StatusForbidden)
	refusedPage(t, w, "spent", attacker.get(back), http.StatusBadRequest)

	f.code(victim, dev) // now the victim has a cookie
	back = f.signIn(f.agree(w.browser()), dev)
	refusedPage(t, w, "another cookie", victim.get(back), http.StatusForbidden)
}

// T11: a form that another site sends, or for another browser.
func TestConsentForgery(t *testing.T) {
	w := newWorld(t, options{})
	f := w.app().flow()
	attacker, victim := w.browser(), w.browser()
	stolen := form(attacker.get(f.address()).body)
	stolen.Set("decision", "approve")
	refusedPage(t, w, "no cookie", victim.post(w.url+pathConsent, stolen), http.StatusForbidden)
	own := form(victim.get(f.address()).body)
	own.Set("decision", "approve")
	refusedPage(t, w, "attacker's form, victim's cookie", victim.post(w.url+pathConsent, stolen), http.StatusForbidden)
	for what, transaction := range map[string]string{"none": "", "made up": "x.y", "cut": own.Get("transaction")[:40], "a cookie": cookieOf(t, victim)} {
		forged := url.Values{"transaction": {transaction}, "decision": {"approve"}}
		refusedPage(t, w, what, victim.post(w.url+pathConsent, forged), http.StatusForbidden)
	}
	late := url.Values{"decision": {"approve"}, "transaction": {w.ring.Seal(consentPurpose, append(timeText(time.Now().Add(-time.Second)), " "+f.params.Encode()...), []byte(cookieOf(t, victim)))}}
	refusedPage(t, w, "shown long ago", victim.post(w.url+pathConsent, late), http.StatusBadRequest)
	for _, header := range [][]string{{"Origin", "https://evil.example.com"}, {"Origin", "null"}, {"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Sec-Fetch-Site", "none"}} {
		refusedPage(t, w, header[1], victim.post(w.url+pathConsent, own, header...), http.StatusForbidden)
	}
	refusedPage(t, w, "JSON", victim.post(w.url+pathConsent, own, "Content-Type", "application/json"), http.StatusBadRequest)
	got := victim.post(w.url+pathConsent, own, "Origin", w.url, "Sec-Fetch-Site", "same-origin") // and nothing of it was spent
	if got.status != http.StatusSeeOther {
		t.Errorf("the real form: %d %s", got.status, got.text())
	}
}

func cookieOf(t *testing.T, b *browser) string {
	t.Helper()
	here, err := url.Parse(b.w.url)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range b.Jar.Cookies(here) {
		if c.Name == "vmcp_browser" {
			return c.Value
		}
	}
	return ""
}

// T12: cookies are ours, and change when something depends on them; a state works once.
func TestBrowserCookie(t *testing.T) {
	w := newWorld(t, options{})
	f := w.app().flow()
	b := w.browser()
	here, err := url.Parse(w.url)
	if err != nil {
		t.Fatal(err)
	}
	cookie := func() string { return cookieOf(t, b) }
	expired := w.ring.Seal(strangerPurpose, timeText(time.Now().Add(-time.Second)), nil)
	b.Jar.SetCookies(here, []*http.Cookie{{Name: "vmcp_browser", Value: expired}})
	if b.get(f.address()); cookie() == expired {
		t.Error("a stranger's cookie that has expired stays")
	}
	kept := cookie()
	if b.get(f.address()); cookie() != kept {
		t.Error("a stranger's second page takes the cookie of the first")
	}
	b.Jar.SetCookies(here, []*http.Cookie{{Name: "vmcp_browser", Value: "planted"}})
	page := b.get(f.address())
	first := cookie()
	if first == "planted" || len(first) < 40 {
		t.Errorf("a planted cookie stays: %q", first)
	}
	fields := form(page.body)
	fields.Set("decision", "approve")
	to := b.post(w.url+pathConsent, fields).location(t)
	second := cookie()
	back := f.signIn(to, dev)
	refusedPage(t, w, "a very long answer", b.get(back+"&x="+strings.Repeat("a", maxForm)), http.StatusBadRequest)
	answer := b.get(back)
	third := cookie()
	if first == second || second == third {
		t.Error("the cookie does not change at approval and after sign-in")
	}
	if answer.status != http.StatusSeeOther {
		t.Fatalf("%d %s", answer.status, answer.text())
	}
	refusedPage(t, w, "the state again", b.get(back), http.StatusBadRequest)
	refusedPage(t, w, "no state", b.get(w.url+pathCallback+"?code=x"), http.StatusBadRequest)
	refusedPage(t, w, "two states", b.get(back+"&state=x"), http.StatusBadRequest)
	refusedPage(t, w, "a made-up state", b.get(w.url+pathCallback+"?code=x&state=y"), http.StatusBadRequest)

	f = w.app().flow()
	to = f.agree(b)
	w.sql("UPDATE pending SET expires_at = 1")
	refusedPage(t, w, "too late", b.get(f.signIn(to, dev)), http.StatusBadRequest)
}

// Over https the cookie cannot be set by another host or a plain connection.
func TestCookieAttributes(t *testing.T) {
	w := newWorld(t, options{})
	a := w.app()
	for _, secure := range []bool{false, true} {
		w.server.secure = secure
		got := w.browser().get(a.flow().address()).header.Get("Set-Cookie")
		for part, want := range map[string]bool{"__Host-vmcp_browser=": secure, "Secure": secure, "HttpOnly": true, "SameSite=Lax": true, "Path=/": true, "Domain": false} {
			if strings.Contains(got, part) != want {
				t.Errorf("secure %t: %q, want %s %t", secure, got, part, want)
			}
		}
	}
}

var nonceForm = regexp.MustCompile(`style-src 'nonce-([^']+)'`)

// T13, T14: what the page shows, and that nothing of it is somebody else's code.
func TestConsentPage(t *testing.T) {
	w := newWorld(t, options{})
	reg := w.register(`{"client_name":"<script>alert(1)</script> \u202eevil\u0000\n na\u3164\u2800\ufe0f\u200bme ` + strings.Repeat("x", 200) + `","redirect_uris":["http://127.0.0.1/callback","https://app.example.com/cb"],"logo_uri":"https://evil.example.com/x.png"}`)
	var out registered
	if err := json.Unmarshal([]byte(reg.body), &out); err != nil || reg.status != http.StatusCreated {
		t.Fatalf("%d %s", reg.status, reg.body)
	}
	a := &app{w: w, id: out.ClientID, redirect: callbackURI}
	f := a.flow()
	page := w.browser().get(f.address())
	for _, want := range []string{"127.0.0.1:54321", "openid offline_access", endpointURL, "nobody has checked it", "a program on this computer", "engineering-tools", "evil name xxx"} {
		if !strings.Contains(page.text(), want) {
			t.Errorf("%q is not on the page: %s", want, page.text())
		}
	}
	for _, never := range []string{"<script", "\u202e", "\u3164", "\u2800", "\ufe0f", "\u200b", "evil.example.com", "javascript:", "onclick"} {
		if strings.Contains(page.body, never) {
			t.Errorf("%q is on the page", never)
		}
	}
	csp := page.header.Get("Content-Security-Policy")
	nonce := nonceForm.FindStringSubmatch(csp)
	if nonce == nil || !strings.Contains(page.body, `<style nonce="`+nonce[1]+`">`) {
		t.Errorf("policy %s", csp)
	}
	for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self' " + w.sim.URL + " http://127.0.0.1:54321"} {
		if !strings.Contains(csp, want) {
			t.Errorf("policy %s lacks %s", csp, want)
		}
	}
	if h := page.header; h.Get("X-Frame-Options") != "DENY" || h.Get("Cache-Control") != "no-store" || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") != "same-origin" {
		t.Errorf("headers %v", h)
	}
	if again := w.browser().get(f.address()).header.Get("Content-Security-Policy"); again == csp {
		t.Error("the nonce is used twice")
	}
	f.redirect = "https://app.example.com/cb"
	f.params.Set("redirect_uri", f.redirect)
	if text := w.browser().get(f.address()).text(); strings.Contains(text, "a program on this computer") || !strings.Contains(text, "app.example.com") {
		t.Errorf("page for a web address: %s", text)
	}
}
