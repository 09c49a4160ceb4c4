package oauth

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestCodeRefuses(t *testing.T) {
	w := newWorld(t, options{})
	a, other := w.app(), w.app()
	for what, tt := range map[string]struct {
		change func(v url.Values)
		code   string
		spent  bool // the code cannot be used after that
	}{
		"wrong verifier":    {func(v url.Values) { v.Set("code_verifier", strings.Repeat("x", 43)) }, codeInvalidGrant, true},
		"no verifier":       {func(v url.Values) { v.Del("code_verifier") }, codeInvalidGrant, true},
		"short verifier":    {func(v url.Values) { v.Set("code_verifier", strings.Repeat("x", 42)) }, codeInvalidGrant, true},
		"long verifier":     {func(v url.Values) { v.Set("code_verifier", strings.Repeat("x", 129)) }, codeInvalidGrant, true},
		"another client":    {func(v url.Values) { v.Set("client_id", other.id) }, codeInvalidGrant, false},
		"another redirect":  {func(v url.Values) { v.Set("redirect_uri", "http://127.0.0.1:1/callback") }, codeInvalidGrant, false},
		"no redirect":       {func(v url.Values) { v.Del("redirect_uri") }, codeInvalidGrant, false},
		"another resource":  {func(v url.Values) { v.Set("resource", "https://other.example.com") }, codeInvalidTarget, false},
		"two resources":     {func(v url.Values) { v.Add("resource", audience) }, codeInvalidTarget, false},
		"unknown client":    {func(v url.Values) { v.Set("client_id", "nobody") }, codeInvalidClient, false},
		"no client":         {func(v url.Values) { v.Set("client_id", "") }, codeInvalidRequest, false},
		"a changed code":    {func(v url.Values) { v.Set("code", v.Get("code")[1:]) }, codeInvalidGrant, false},
		"no code":           {func(v url.Values) { v.Del("code") }, codeInvalidGrant, false},
		"no grant type":     {func(v url.Values) { v.Del("grant_type") }, codeInvalidRequest, false},
		"password":          {func(v url.Values) { v.Set("grant_type", "password") }, codeUnsupportedGrant, false},
		"client credential": {func(v url.Values) { v.Set("grant_type", "client_credentials") }, codeUnsupportedGrant, false},
		"two grant types":   {func(v url.Values) { v.Set("grant_type", "authorization_code refresh_token") }, codeUnsupportedGrant, false},
		"an assertion":      {func(v url.Values) { v.Set("client_assertion", "x") }, codeInvalidClient, false},
		"a secret":          {func(v url.Values) { v.Set("client_secret", "xxxxxxxx") }, codeInvalidClient, false},
	} {
		f := a.flow()
		code := f.code(w.browser(), dev)
		v := url.Values{"grant_type": {"authorization_code"}, "client_id": {a.id}, "code": {code}, "redirect_uri": {f.redirect}, "code_verifier": {f.verifier}, "resource": {endpointURL}}
		tt.change(v)
		got := w.ask(v)
		if got.Error != tt.code || got.AccessToken != "" || got.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: got %d %s, want %s", what, got.status, got.Error, tt.code)
		}
		if good := f.redeem(code); (good.status != http.StatusOK) != tt.spent {
			t.Errorf("%s, then right: %d %s", what, good.status, good.Error)
		}
	}
}

// T04: a wrong verifier, then none.
func TestPKCEDowngrade(t *testing.T) {
	w := newWorld(t, options{})
	f := w.app().flow()
	code := f.code(w.browser(), dev)
	for _, verifier := range []string{strings.Repeat("x", 43), "", f.verifier} {
		got := f.ask(url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {f.redirect}, "code_verifier": {verifier}})
		if got.status != http.StatusBadRequest || got.AccessToken != "" {
			t.Errorf("verifier of %d characters: %+v", len(verifier), got)
		}
	}
}

// T05: a code used twice revokes what it bought.
func TestCodeReplay(t *testing.T) {
	w := newWorld(t, options{})
	f := w.app().flow()
	code := f.code(w.browser(), dev)
	bought := f.redeem(code)
	tsid := w.claims(bought.AccessToken)["tsid"].(string)
	if got := f.redeem(code); got.Error != codeInvalidGrant {
		t.Errorf("the second time: %+v", got)
	}
	if !strings.Contains(w.revoked(), tsid) {
		t.Error("authz is not told")
	}
	if got := f.refresh(bought.RefreshToken); got.Error != codeInvalidGrant {
		t.Errorf("the refresh token lives: %+v", got)
	}
}

// T05: of 64 at once, one gets tokens, and they are good.
func TestCodeRace(t *testing.T) {
	w := newWorld(t, options{})
	f := w.app().flow()
	code := f.code(w.browser(), dev)
	var won atomic.Int32
	var bought atomic.Pointer[tokens]
	var wg sync.WaitGroup
	start := make(chan struct{})
	for range 64 {
		wg.Go(func() {
			<-start
			switch got := f.redeem(code); {
			case got.status == http.StatusOK:
				won.Add(1)
				bought.Store(&got)
			case got.Error != codeInvalidGrant:
				t.Errorf("a loser got %d %s %s", got.status, got.Error, got.Description)
			}
		})
	}
	close(start)
	wg.Wait()
	if won.Load() != 1 {
		t.Fatalf("%d winners", won.Load())
	}
	if got := bought.Load(); strings.Contains(w.revoked(), w.claims(got.AccessToken)["tsid"].(string)) {
		t.Log("a straggler came after the winner: the sign-in was revoked, as for any replay")
	} else if next := f.refresh(got.RefreshToken); next.status != http.StatusOK {
		t.Errorf("the winner cannot refresh: %+v", next)
	}
}

func TestCodeExpires(t *testing.T) {
	w := newWorld(t, options{})
	f := w.app().flow()
	code := f.code(w.browser(), dev)
	w.sql("UPDATE codes SET expires_at = 1")
	if got := f.redeem(code); got.Error != codeInvalidGrant {
		t.Errorf("%+v", got)
	}
}

// T22: what is not a form.
func TestTokenRequestForm(t *testing.T) {
	w := newWorld(t, options{})
	a := w.app()
	b := w.browser()
	send := func(method, contentType, body string) answer {
		t.Helper()
		req, err := http.NewRequest(method, w.url+pathToken+"?grant_type=refresh_token", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", contentType)
		return b.do(req)
	}
	const formType = "application/x-www-form-urlencoded"
	good := "grant_type=refresh_token&client_id=" + a.id + "&refresh_token=x"
	for what, got := range map[string]answer{
		"multipart":    send("POST", "multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=\"grant_type\"\r\n\r\nrefresh_token\r\n--x--\r\n"),
		"JSON":         send("POST", "application/json", `{"grant_type":"refresh_token"}`),
		"no type":      send("POST", "", good),
		"charset":      send("POST", formType+"; charset=utf-7", good),
		"twice":        send("POST", formType, good+"&client_id="+a.id),
		"too large":    send("POST", formType, good+"&x="+strings.Repeat("a", maxForm)),
		"in the query": send("POST", formType, "client_id="+a.id),
		"empty":        send("POST", formType, ""),
	} {
		if got.status != http.StatusBadRequest || !strings.Contains(got.body, `"invalid_request"`) {
			t.Errorf("%s: %d %s", what, got.status, got.body)
		}
	}
	if got := send("GET", formType, ""); got.status != http.StatusMethodNotAllowed || got.header.Get("Allow") != "POST" {
		t.Errorf("GET: %d", got.status)
	}
}

// T06: 16 at once with one refresh token get one and the same answer.
func TestRefreshRace(t *testing.T) {
	w := newWorld(t, options{})
	a := w.app()
	first := a.login(dev)
	answers := make([]tokens, 16)
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range answers {
		wg.Go(func() {
			<-start
			answers[i] = a.refresh(first.RefreshToken)
		})
	}
	close(start)
	wg.Wait()
	for i, got := range answers {
		if got.status != http.StatusOK || got.RefreshToken != answers[0].RefreshToken || got.AccessToken != answers[0].AccessToken {
			t.Errorf("answer %d: %d %s %s", i, got.status, got.Error, got.Description)
		}
	}
	if got := a.refresh(answers[0].RefreshToken); got.status != http.StatusOK {
		t.Errorf("the successor: %+v", got)
	}
}

// T06: two replicas that share a store give one answer, too.
func TestRefreshRaceOfReplicas(t *testing.T) {
	w := newWorld(t, options{})
	second := httptest.NewServer(New(w.server.cfg))
	defer second.Close()
	a := w.app()
	token := a.login(dev).RefreshToken
	for range 5 {
		answers := make([]tokens, 8)
		var wg sync.WaitGroup
		start := make(chan struct{})
		for i := range answers {
			wg.Go(func() {
				<-start
				at := w.url
				if i%2 == 1 {
					at = second.URL
				}
				got := w.browser().post(at+pathToken, url.Values{"grant_type": {"refresh_token"}, "client_id": {a.id}, "refresh_token": {token}})
				if err := json.Unmarshal([]byte(got.body), &answers[i]); err != nil || got.status != http.StatusOK {
					t.Errorf("answer %d: %d %s", i, got.status, got.body)
				}
			})
		}
		close(start)
		wg.Wait()
		for i, got := range answers {
			if got.RefreshToken != answers[0].RefreshToken {
				t.Errorf("answer %d is another one", i)
			}
			w.canary(got.AccessToken, got.RefreshToken)
		}
		token = answers[0].RefreshToken
	}
	if w.revoked() != "[]" {
		t.Errorf("revoked %s", w.revoked())
	}
}

// swapped is a token whose first two characters are others, whatever they were.
func swapped(token string) string {
	other := func(c byte) string {
		if c == 'x' {
			return "y"
		}
		return "x"
	}
	return other(token[0]) + other(token[1]) + token[2:]
}

// T06, T07: who may use a refresh token, and for what.
func TestRefreshRefuses(t *testing.T) {
	w := newWorld(t, options{})
	a, other := w.app(), w.app()
	first := a.login(dev)
	for what, tt := range map[string]struct {
		form url.Values
		code string
	}{
		"another client":   {url.Values{"client_id": {other.id}}, codeInvalidGrant},
		"wider scope":      {url.Values{"scope": {"openid email"}}, codeInvalidScope},
		"another resource": {url.Values{"resource": {"https://other.example.com"}}, codeInvalidTarget},
		"a changed token":  {url.Values{"refresh_token": {swapped(first.RefreshToken)}}, codeInvalidGrant},
		"an access token":  {url.Values{"refresh_token": {first.AccessToken}}, codeInvalidGrant},
		"no token":         {url.Values{"refresh_token": {""}}, codeInvalidGrant},
	} {
		form := url.Values{"grant_type": {"refresh_token"}, "client_id": {a.id}, "refresh_token": {first.RefreshToken}}
		for name, values := range tt.form {
			form[name] = values
		}
		if got := w.ask(form); got.Error != tt.code {
			t.Errorf("%s: %d %s, want %s", what, got.status, got.Error, tt.code)
		}
	}
	// Nothing of that cost the client anything. Less than before is for one access token only.
	got := a.ask(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {first.RefreshToken}, "scope": {"openid"}})
	if got.status != http.StatusOK || got.Scope != "openid" || w.claims(got.AccessToken)["scope"] != "openid" {
		t.Errorf("narrower: %+v", got)
	}
	if got = a.refresh(got.RefreshToken); got.status != http.StatusOK || got.Scope != "openid offline_access" {
		t.Errorf("after that: %+v", got)
	}
	// A replaced token, within the grace, in the hands of another client.
	if stolen := other.refresh(first.RefreshToken); stolen.Error != codeInvalidGrant {
		t.Errorf("a replaced token of another client: %+v", stolen)
	}
	w.sql("UPDATE refresh_tokens SET expires_at = 1 WHERE rotated_at IS NULL")
	if got = a.refresh(got.RefreshToken); got.Error != codeInvalidGrant {
		t.Errorf("expired: %+v", got)
	}
	w.sql("DELETE FROM clients WHERE id = ?", a.id)
	if got = a.refresh(got.RefreshToken); got.Error != codeInvalidClient || got.status != http.StatusUnauthorized {
		t.Errorf("a client that is gone: %+v", got)
	}
}

func TestRevoke(t *testing.T) {
	w := newWorld(t, options{})
	a, other := w.app(), w.app()
	revoke := func(a *app, token string) answer {
		t.Helper()
		return w.browser().post(w.url+pathRevoke, url.Values{"token": {token}, "client_id": {a.id}, "token_type_hint": {"refresh_token"}})
	}
	first := a.login(dev)
	claims := w.claims(first.AccessToken)
	if got := revoke(other, first.RefreshToken); got.status != http.StatusBadRequest || !strings.Contains(got.body, codeUnauthorizedClient) {
		t.Errorf("another client's refresh token: %d %s", got.status, got.body)
	}
	if got := revoke(other, first.AccessToken); got.status != http.StatusBadRequest {
		t.Errorf("another client's access token: %d %s", got.status, got.body)
	}
	if w.revoked() != "[]" {
		t.Errorf("revoked %s", w.revoked())
	}
	if got := revoke(a, first.AccessToken); got.status != http.StatusOK || !strings.Contains(w.revoked(), claims["jti"].(string)) {
		t.Errorf("access token: %d, revoked %s", got.status, w.revoked())
	}
	second := a.refresh(first.RefreshToken)
	if second.status != http.StatusOK {
		t.Errorf("the sign-in ended with one access token: %+v", second)
	}
	if got := revoke(a, second.RefreshToken); got.status != http.StatusOK || !strings.Contains(w.revoked(), claims["tsid"].(string)) {
		t.Errorf("refresh token: %d, revoked %s", got.status, w.revoked())
	}
	if got := a.refresh(second.RefreshToken); got.Error != codeInvalidGrant {
		t.Errorf("refresh after that: %+v", got)
	}
	for _, token := range []string{"unknown", second.RefreshToken, "a.b", "a.b.c"} {
		if got := revoke(a, token); got.status != http.StatusOK { // RFC 7009 section 2.2
			t.Errorf("%s: %d", token, got.status)
		}
	}
	if got := revoke(a, ""); got.status != http.StatusBadRequest {
		t.Errorf("no token: %d", got.status)
	}
	if got := revoke(&app{id: "nobody"}, "x"); got.status != http.StatusUnauthorized {
		t.Errorf("unknown client: %d", got.status)
	}
}

// Lifetimes are those of the configuration; a sign-in ends in any case.
func TestLifetimes(t *testing.T) {
	w := newWorld(t, options{config: func(c *Config) { c.AccessToken, c.RefreshToken = 5*time.Minute, 2*time.Hour }})
	a := w.app()
	got := a.login(dev)
	if got.ExpiresIn < 290 || got.ExpiresIn > 300 {
		t.Errorf("expires in %d", got.ExpiresIn)
	}
	w.sql("UPDATE families SET expires_at = ?", time.Now().Add(time.Minute).UnixMicro())
	got = a.refresh(got.RefreshToken)
	if got.ExpiresIn > 60 {
		t.Errorf("a token outlives its sign-in: %d s", got.ExpiresIn)
	}
	w.sql("UPDATE families SET expires_at = 1")
	w.sql("UPDATE refresh_tokens SET expires_at = 1")
	if got = a.refresh(got.RefreshToken); got.Error != codeInvalidGrant {
		t.Errorf("after the end: %+v", got)
	}
}
