package entrasim

import (
	"crypto/sha256"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

var oidcScopes = []string{"openid", "profile", "email", "offline_access"}

// token is the token endpoint ("Authorization code flow", "Client credentials flow").
func (t *Tenant) token(w http.ResponseWriter, r *http.Request) {
	if tenant := r.PathValue("tenant"); tenant != t.cfg.Tenant {
		t.failJSON(w, failure(90002, tenant))
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		t.failJSON(w, failure(9002313, ""))
		return
	}
	form := r.PostForm
	t.record(form)
	t.mu.Lock()
	code := t.faults.TokenError
	t.mu.Unlock()
	if code != 0 {
		t.failJSON(w, failure(code, t.cfg.ClientID))
		return
	}
	if origin := r.Header.Get("Origin"); origin != "" { // client credentials never come from a page
		t.failJSON(w, failure(9002326, origin))
		return
	}
	if f, bad := t.checkClient(r, form); bad {
		t.failJSON(w, f)
		return
	}
	if form.Has("resource") {
		t.failJSON(w, failure(901002, ""))
		return
	}
	var response map[string]any
	var f fault
	var bad bool
	switch grantType := form.Get("grant_type"); grantType {
	case "authorization_code":
		response, f, bad = t.redeem(form)
	case "refresh_token":
		response, f, bad = t.renew(form)
	case "client_credentials":
		response, f, bad = t.machine(form)
	case "":
		f, bad = failure(900144, "grant_type"), true
	default:
		f, bad = failure(70003, grantType), true
	}
	if bad {
		t.failJSON(w, f)
		return
	}
	t.mu.Lock()
	change := t.faults.Response
	t.mu.Unlock()
	if change != nil {
		change(response)
	}
	w.Header().Set("Cache-Control", "no-store, no-cache")
	respond(w, http.StatusOK, response)
}

// checkClient checks a secret in the body or, as the metadata says, by HTTP Basic.
func (t *Tenant) checkClient(r *http.Request, form url.Values) (fault, bool) {
	id, value := form.Get("client_id"), form.Get("client_secret")
	if user, password, ok := r.BasicAuth(); ok { // RFC 6749 section 2.3.1: both are form-encoded
		var err1, err2 error
		id, err1 = url.QueryUnescape(user)
		value, err2 = url.QueryUnescape(password)
		if err1 != nil || err2 != nil {
			return failure(9002313, ""), true
		}
	}
	switch {
	case id == "":
		return failure(900144, "client_id"), true
	case id != t.cfg.ClientID:
		return failure(700016, id), true
	case value == "":
		return failure(7000218, ""), true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.secrets {
		if !equal(string(s.value), value) {
			continue
		}
		if s.expired {
			return failure(7000222, id), true
		}
		return fault{}, false
	}
	return failure(7000215, id), true
}

// redeem exchanges an authorization code.
func (t *Tenant) redeem(form url.Values) (map[string]any, fault, bool) {
	for _, name := range []string{"code", "redirect_uri"} {
		if form.Get(name) == "" {
			return nil, failure(900144, name), true
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.codes[form.Get("code")]
	switch {
	case g == nil:
		return nil, failure(70000, ""), true
	case g.used:
		return nil, failure(54005, ""), true
	case t.now().After(g.expiry):
		return nil, failure(70008, ""), true
	case form.Get("redirect_uri") != g.redirectURI:
		return nil, failure(500112, form.Get("redirect_uri")), true
	}
	if g.challenge != "" {
		sum := sha256.Sum256([]byte(form.Get("code_verifier"))) // RFC 7636 section 4.6
		if !equal(encode(sum[:]), g.challenge) {
			return nil, failure(501481, ""), true
		}
	}
	p, f, bad := t.holder(g)
	if bad {
		return nil, f, true
	}
	scopes := g.scopes
	if form.Has("scope") { // optional here: at most what was authorized
		scopes = strings.Fields(form.Get("scope"))
	}
	response, f, bad := t.issue(p, g, scopes, g.nonce)
	if !bad {
		g.used = true
	}
	return response, f, bad
}

// renew exchanges a refresh token. The new one does not replace the old: that stays valid until its own end ("Refresh
// tokens", token lifetime).
func (t *Tenant) renew(form url.Values) (map[string]any, fault, bool) {
	if form.Get("refresh_token") == "" {
		return nil, failure(900144, "refresh_token"), true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.refresh[form.Get("refresh_token")]
	switch {
	case g == nil:
		return nil, failure(70000, ""), true
	case t.now().After(g.expiry):
		return nil, failure(700082, ""), true
	}
	p, f, bad := t.holder(g)
	if bad {
		return nil, f, true
	}
	if t.faults.OtherPerson != "" {
		if p = t.dir.person(t.faults.OtherPerson); p == nil {
			return nil, failure(50034, t.faults.OtherPerson), true
		}
	}
	scopes := strings.Fields(form.Get("scope"))
	// AADSTS90009: client and API are the same application. Reported for refreshes without scope, and by some for scopes in
	// the form api://…; the form with the bare GUID works.
	uri := slices.ContainsFunc(scopes, func(s string) bool { return strings.HasPrefix(s, t.cfg.AppIDURI+"/") })
	switch {
	case len(scopes) == 0 && t.faults.SelfToken != SelfTokenNever, uri && t.faults.SelfToken == SelfTokenURIForm:
		return nil, failure(90009, t.cfg.ClientID), true
	case len(scopes) == 0:
		scopes = g.scopes
	}
	return t.issue(p, g, scopes, "")
}

// holder returns the person of a grant that is still good. It needs mu.
func (t *Tenant) holder(g *grant) (*Person, fault, bool) {
	p := t.dir.person(g.upn)
	if p == nil {
		return nil, failure(50034, g.upn), true
	}
	if f, bad := t.blocked(p); bad {
		if f.code == 50105 { // the token endpoint gives no pages
			f.oauth = "invalid_grant"
		}
		return nil, f, true
	}
	if g.number < p.grantsAfter {
		return nil, failure(50173, ""), true
	}
	return p, fault{}, false
}

// machine is the client credentials flow: scope must be <resource>/.default.
func (t *Tenant) machine(form url.Values) (map[string]any, fault, bool) {
	resource, ok := strings.CutSuffix(form.Get("scope"), "/.default")
	if !ok {
		return nil, failure(70011, form.Get("scope")), true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if resource != t.cfg.AppIDURI && resource != t.cfg.ClientID {
		return nil, failure(500011, resource), true
	}
	life := t.accessLife()
	return map[string]any{
		"token_type": "Bearer", "expires_in": life, "ext_expires_in": life,
		"access_token": t.accessToken(nil, nil, life),
	}, fault{}, false
}

// issue makes the response for a person. It needs mu.
func (t *Tenant) issue(p *Person, g *grant, scopes []string, nonce string) (map[string]any, fault, bool) {
	resource, f, bad := t.resourceOf(scopes)
	if bad {
		return nil, f, true
	}
	life := t.accessLife()
	response := map[string]any{
		"token_type": "Bearer", "expires_in": life, "ext_expires_in": life,
		"scope": strings.Join(slices.DeleteFunc(slices.Clone(scopes), func(s string) bool { return s == "offline_access" }), " "),
	}
	if resource == "" {
		response["access_token"] = t.graphToken(p, scopes, life)
	} else {
		response["access_token"] = t.accessToken(p, t.scopeNames(scopes), life)
	}
	if slices.Contains(scopes, "openid") {
		response["id_token"] = t.idToken(p, scopes, nonce)
	}
	if slices.Contains(scopes, "offline_access") {
		next := *g
		next.expiry = t.now().Add(refreshTime)
		text := random(RefreshPrefix)
		t.refresh[text] = &next
		response["refresh_token"] = text
	}
	return response, fault{}, false
}

// resourceOf returns the one resource of a list of scopes: our application, or "" for Microsoft Graph, which is what
// OpenID Connect's scopes alone mean ("Scopes and permissions").
func (t *Tenant) resourceOf(scopes []string) (string, fault, bool) {
	if len(scopes) == 0 {
		return "", failure(900144, "scope"), true
	}
	ours, theirs := false, false
	for _, s := range scopes {
		if slices.Contains(oidcScopes, s) {
			continue
		}
		i := strings.LastIndexByte(s, '/')
		resource, name := s[:max(i, 0)], s[i+1:]
		switch resource {
		case t.cfg.AppIDURI, t.cfg.ClientID:
			if name != t.cfg.Scope && name != ".default" {
				return "", failure(650053, name), true
			}
			ours = true
		case "", "https://graph.microsoft.com", graph:
			theirs = true
		default:
			return "", failure(500011, resource), true
		}
	}
	switch {
	case ours && theirs:
		return "", failure(700022, strings.Join(scopes, " ")), true
	case ours:
		return t.cfg.AppIDURI, fault{}, false
	}
	return "", fault{}, false
}

// scopeNames returns the value of scp: names without their resource ("Access token claims reference").
func (t *Tenant) scopeNames(scopes []string) []string {
	for _, s := range scopes {
		if !slices.Contains(oidcScopes, s) {
			return []string{t.cfg.Scope} // the only one exposed; also what .default means
		}
	}
	return nil
}
