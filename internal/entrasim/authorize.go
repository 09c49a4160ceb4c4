package entrasim

import (
	"crypto/subtle"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// grant is what one sign-in gave: behind an authorization code, and behind each refresh token that came of it.
type grant struct {
	upn         string
	scopes      []string
	redirectURI string
	challenge   string // PKCE S256; empty: the request had none
	nonce       string
	expiry      time.Time
	used        bool // of a code
	number      int  // grants before a person's revocation are dead
}

const sessionCookie = "ESTSAUTH"

// authorize shows the sign-in page, or, by POST of that page or with a live session, answers it.
func (t *Tenant) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	switch tenant := r.PathValue("tenant"); tenant {
	case t.cfg.Tenant:
	case "common", "organizations":
		t.failPage(w, failure(50194, q.Get("client_id")))
		return
	default:
		t.failPage(w, failure(90002, tenant))
		return
	}
	if q.Get("client_id") != t.cfg.ClientID {
		t.failPage(w, failure(700016, q.Get("client_id")))
		return
	}
	// Byte for byte. Entra itself overlooks the port of http://localhost ("Redirect URI restrictions"): a port that is not
	// registered is refused here, so that nobody builds on it.
	redirect := q.Get("redirect_uri")
	if redirect == "" || !slices.Contains(t.cfg.RedirectURIs, redirect) {
		t.failPage(w, failure(50011, redirect))
		return
	}
	if f, bad := t.checkAuthorize(q); bad {
		switch f.code {
		case 70005, 501491:
			t.failRedirect(w, r, q, f)
		default:
			t.failPage(w, f)
		}
		return
	}
	t.mu.Lock()
	code := t.faults.AuthorizeError
	t.mu.Unlock()
	if code != 0 {
		t.failRedirect(w, r, q, failure(code, t.cfg.ClientID))
		return
	}

	if r.Method == http.MethodPost {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if r.PostFormValue("cancel") != "" { // "Authorization code flow", error response: the user declined
			t.failRedirect(w, r, q, failure(65004, ""))
			return
		}
		t.signIn(w, r, q, r.PostFormValue("account"))
		return
	}
	prompt := q.Get("prompt")
	upn := t.session(r)
	if hint := q.Get("login_hint"); hint != "" && !strings.EqualFold(hint, upn) {
		upn = ""
	}
	switch {
	case upn != "" && (prompt == "" || prompt == "none"):
		t.signIn(w, r, q, upn)
	case prompt == "none":
		t.failRedirect(w, r, q, failure(50058, ""))
	default:
		t.accountPage(w, q)
	}
}

// checkAuthorize checks what does not need a person.
func (t *Tenant) checkAuthorize(q url.Values) (fault, bool) {
	scopes := strings.Fields(q.Get("scope"))
	resource, f, bad := t.resourceOf(scopes)
	if q.Has("resource") {
		// RFC 8707's parameter, which clients of the Model Context Protocol send, was v1's here: AADSTS9010010 since 2026
		// when it does not fit the scopes, AADSTS901002 otherwise.
		if got := strings.TrimSuffix(q.Get("resource"), "/"); bad || got != resource && got != t.cfg.AppIDURI {
			return failure(9010010, ""), true
		}
		return failure(901002, ""), true
	}
	if bad && f.code != 700022 { // scopes of several resources may be consented to together; tokens are for one
		return f, true
	}
	if got := q.Get("response_type"); got != "code" {
		return failure(70005, got), true
	}
	if got := q.Get("response_mode"); got != "" && got != "query" { // the others exist, and nobody needs them here
		return failure(70007, got), true
	}
	if challenge := q.Get("code_challenge"); challenge != "" || q.Has("code_challenge_method") {
		if q.Get("code_challenge_method") != "S256" || len(challenge) != 43 {
			return failure(501491, ""), true
		}
	}
	return fault{}, false
}

// signIn answers for an account that was picked.
func (t *Tenant) signIn(w http.ResponseWriter, r *http.Request, q url.Values, upn string) {
	t.mu.Lock()
	p := t.dir.person(upn)
	if p == nil {
		t.mu.Unlock()
		t.failPage(w, failure(50034, upn))
		return
	}
	if f, bad := t.blocked(p); bad {
		t.mu.Unlock()
		t.failPage(w, f) // 50105 is shown on Microsoft's page, nothing is sent to the application (unverified for all tenants)
		return
	}
	if t.cfg.SSO {
		id := random("")
		t.sessions[id] = p.UPN
		http.SetCookie(w, &http.Cookie{Name: sessionCookie, Value: id, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
	}
	code := random(CodePrefix)
	t.codes[code] = &grant{
		upn: p.UPN, scopes: strings.Fields(q.Get("scope")), redirectURI: q.Get("redirect_uri"), challenge: q.Get("code_challenge"),
		nonce: q.Get("nonce"), expiry: t.now().Add(codeTime), number: p.grantsAfter,
	}
	t.mu.Unlock()
	redirect(w, r, q, url.Values{"code": {code}, "session_state": {newGUID()}})
}

// blocked says why an account gets nothing. It needs mu.
func (t *Tenant) blocked(p *Person) (fault, bool) {
	switch {
	case p.Disabled:
		return failure(50057, ""), true
	case p.Unassigned && t.dir.AssignmentRequired:
		return failure(50105, p.UPN), true
	}
	return fault{}, false
}

func (t *Tenant) session(r *http.Request) string {
	c, err := r.Cookie(sessionCookie)
	if err != nil || !t.cfg.SSO {
		return ""
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sessions[c.Value]
}

// logout ends the browser's session. A post_logout_redirect_uri must be a registered redirect URI ("OpenID Connect", send
// a sign-out request).
func (t *Tenant) logout(w http.ResponseWriter, r *http.Request) {
	if !t.ours(w, r) {
		return
	}
	if c, err := r.Cookie(sessionCookie); err == nil {
		t.mu.Lock()
		delete(t.sessions, c.Value)
		t.mu.Unlock()
	}
	if to := r.URL.Query().Get("post_logout_redirect_uri"); slices.Contains(t.cfg.RedirectURIs, to) {
		http.Redirect(w, r, to, http.StatusFound)
		return
	}
	t.messagePage(w, "You signed out of your account")
}

// failRedirect sends an error to the application.
func (t *Tenant) failRedirect(w http.ResponseWriter, r *http.Request, q url.Values, f fault) {
	o := t.occur(f)
	params := url.Values{"error": {o.oauth}, "error_description": {o.description()}}
	if o.suberror != "" {
		params.Set("error_subcode", o.suberror)
	}
	if o.code == 65004 {
		params.Set("error_subcode", "cancel")
	}
	redirect(w, r, q, params)
}

func redirect(w http.ResponseWriter, r *http.Request, q, params url.Values) {
	u, err := url.Parse(q.Get("redirect_uri"))
	if err != nil {
		panic(err) // Start has parsed it
	}
	all := u.Query()
	for name, values := range params {
		all[name] = values
	}
	if state := q.Get("state"); state != "" {
		all.Set("state", state)
	}
	u.RawQuery = all.Encode()
	http.Redirect(w, r, u.String(), http.StatusFound)
}

func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
