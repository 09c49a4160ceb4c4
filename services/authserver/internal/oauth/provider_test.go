package oauth

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ory/fosite"

	"vmcp/internal/secret"
	"vmcp/services/authserver/internal/store"
)

// A test for each setting that keeps fosite from its defaults. They ask fosite itself, behind our own checks.

// authorizeRaw is what fosite says to a request that our checks have not seen.
func authorizeRaw(w *world, f *flow, change func(url.Values)) error {
	w.t.Helper()
	form := url.Values{}
	for name, values := range f.params {
		form[name] = values
	}
	change(form)
	ctx := context.WithValue(w.t.Context(), redirectKey{}, f.redirect)
	ar, err := w.server.provider.NewAuthorizeRequest(ctx, &http.Request{Method: "GET", Form: form})
	if err != nil {
		return err
	}
	_, err = w.server.provider.NewAuthorizeResponse(ctx, ar, &session{family: store.Family{TSID: random(16), Sub: "ann", AuthTime: time.Now(), Expires: time.Now().Add(time.Hour)}})
	return err
}

func TestFences(t *testing.T) {
	w := newWorld(t, options{})
	f := w.app().flow()
	if err := authorizeRaw(w, f, func(url.Values) {}); err != nil {
		t.Fatalf("a good request: %v", err)
	}
	for what, change := range map[string]func(url.Values){
		"no PKCE":                  func(v url.Values) { v.Del("code_challenge"); v.Del("code_challenge_method") },
		"plain PKCE":               func(v url.Values) { v.Set("code_challenge_method", "plain") },
		"PKCE without a method":    func(v url.Values) { v.Del("code_challenge_method") },
		"a scope below a scope":    func(v url.Values) { v.Set("scope", "openid.x") },
		"a wildcard scope":         func(v url.Values) { v.Set("scope", "*") },
		"another audience":         func(v url.Values) { v.Set("audience", audience+"/x") },
		"a redirect not compared":  func(v url.Values) { v.Set("redirect_uri", "http://127.0.0.1:1/other") },
		"implicit":                 func(v url.Values) { v.Set("response_type", "token") },
		"an unsigned request":      func(v url.Values) { v.Set("request", "eyJhbGciOiJub25lIn0.eyJzdGF0ZSI6InNwb29mZWQifQ.") },
		"a request by reference":   func(v url.Values) { v.Set("request_uri", "https://127.0.0.1:1/r") },
		"a pushed request":         func(v url.Values) { v.Set("request_uri", "urn:ietf:params:oauth:request_uri:x") },
		"fragment as the response": func(v url.Values) { v.Set("response_mode", "fragment") },
	} {
		if err := authorizeRaw(w, f, change); err == nil {
			t.Errorf("%s: fosite accepts it", what)
		}
	}
	if err := authorizeRaw(w, f, func(v url.Values) { v.Set("state", "x") }); err != nil {
		t.Errorf("a short state: %v", err)
	}

	cfg := w.server.provider.Config
	ctx := t.Context()
	if cfg.GetAudienceStrategy(ctx)([]string{"https://mcp"}, []string{"https://mcp/x"}) == nil {
		t.Error("an audience matches by its prefix")
	}
	for uri, want := range map[string]bool{"https://a/cb": true, "http://localhost:1/cb": true, "http://127.0.0.1/cb": true, "http://a/cb": false, "javascript:x": false, "myapp://cb": false} {
		u, err := url.Parse(uri)
		if err != nil {
			t.Fatal(err)
		}
		if got := cfg.GetRedirectSecureChecker(ctx)(ctx, u); got != want {
			t.Errorf("redirect to %s: %t", uri, got)
		}
	}
	if scopes := cfg.GetRefreshTokenScopes(ctx); scopes == nil || len(scopes) != 0 {
		t.Errorf("refresh token scopes %v", scopes)
	}
	if cfg.GetAuthorizeCodeLifespan(ctx) != time.Minute || cfg.GetSendDebugMessagesToClients(ctx) || !cfg.GetEnforcePKCE(ctx) || cfg.GetEnablePKCEPlainChallengeMethod(ctx) ||
		!cfg.GetOmitRedirectScopeParam(ctx) || cfg.GetMinParameterEntropy(ctx) != 1 {
		t.Error("a setting is not what it must be")
	}
	if urls := cfg.GetTokenURLs(ctx); len(urls) != 1 || urls[0] != w.url+pathToken {
		t.Errorf("token URLs %v", urls)
	}
	if _, ok := cfg.GetSecretsHasher(ctx).(secretHasher); !ok {
		t.Error("client secrets are hashed slowly")
	}
	if _, ok := any(&client{}).(fosite.OpenIDConnectClient); ok {
		t.Error("a client may send request objects")
	}
}

// All bytes of a configured key count, although fosite uses 32; older keys verify.
func TestHMACKeys(t *testing.T) {
	one := secret.Value(strings.Repeat("x", 32) + "one")
	keys := []secret.Value{one}
	w := newWorld(t, options{config: func(c *Config) { c.HMACKeys = func() []secret.Value { return keys } }})
	a := w.app()
	first := a.login(dev)
	keys = []secret.Value{secret.Value(strings.Repeat("x", 32) + "two")}
	if got := a.refresh(first.RefreshToken); got.Error != codeInvalidGrant {
		t.Errorf("a key that differs after 32 bytes: %+v", got)
	}
	keys = append(keys, one)
	second := a.refresh(first.RefreshToken)
	if second.status != http.StatusOK {
		t.Fatalf("an older key: %+v", second)
	}
	keys = keys[:1]
	if got := a.refresh(second.RefreshToken); got.status != http.StatusOK {
		t.Errorf("made with the newest key: %+v", got)
	}
}

// Refresh tokens do not depend on offline_access, which clients forget, but on the grant type.
func TestRefreshTokenWithoutScope(t *testing.T) {
	w := newWorld(t, options{})
	f := w.app().flow()
	f.params.Set("scope", "openid")
	got := f.redeem(f.code(w.browser(), dev))
	if got.RefreshToken == "" {
		t.Fatalf("%+v", got)
	}
	if next := f.refresh(got.RefreshToken); next.status != http.StatusOK || next.Scope != "openid" {
		t.Errorf("%+v", next)
	}
	w.sql("UPDATE clients SET refresh = 0")
	f = f.flow()
	if got := f.redeem(f.code(w.browser(), dev)); got.status != http.StatusOK || got.RefreshToken != "" {
		t.Errorf("a client without the grant type: %+v", got)
	}
}

// iat is new at a refresh, exp too, and a token is one of a kind.
func TestRefreshedClaims(t *testing.T) {
	w := newWorld(t, options{})
	a := w.app()
	first := a.login(dev)
	w.sql("UPDATE families SET auth_time = auth_time - 3600000000")
	claims := w.claims(a.refresh(first.RefreshToken).AccessToken)
	if iat := int64(claims["iat"].(float64)); time.Since(time.Unix(iat, 0)) > 5*time.Second {
		t.Errorf("iat %d", iat)
	}
	if at := int64(claims["auth_time"].(float64)); time.Since(time.Unix(at, 0)) < 59*time.Minute {
		t.Errorf("auth_time %d", at)
	}
}

// Answers to the client have no more than what it needs.
func TestAnswerToClient(t *testing.T) {
	w := newWorld(t, options{})
	f := w.app().flow()
	b := w.browser()
	q := b.get(f.signIn(f.agree(b), dev)).location(t).Query()
	names := []string{}
	for name := range q {
		names = append(names, name)
	}
	slices.Sort(names)
	if strings.Join(names, " ") != "code iss state" {
		t.Errorf("the answer has %v", names)
	}
}

// T05, T06: a code or token that somebody else took while the request was on its way is no theft, of two requests of one
// client; one that was taken before is.
func TestRaced(t *testing.T) {
	w := newWorld(t, options{})
	f := w.app().flow()
	code := f.code(w.browser(), dev)
	before := time.Now()
	first := f.redeem(code)
	st := &storage{w.db, audience, w.server.end}
	signature := w.server.provider.tokens.AuthorizeCodeSignature(t.Context(), code)
	for started, want := range map[time.Time]error{before: fosite.ErrNotFound, time.Now(): fosite.ErrInvalidatedAuthorizeCode} {
		if _, err := st.GetAuthorizeCodeSession(context.WithValue(t.Context(), startedKey{}, started), signature, nil); !errors.Is(err, want) {
			t.Errorf("a code that was used after %v: %v, want %v", started, err, want)
		}
	}
	f.refresh(first.RefreshToken)
	signature = w.server.provider.tokens.RefreshTokenSignature(t.Context(), first.RefreshToken)
	if _, err := st.GetRefreshTokenSession(t.Context(), signature, nil); !errors.Is(err, store.ErrTaken) {
		t.Errorf("a token that was just replaced: %v", err)
	}
	w.age(first.RefreshToken, grace+time.Second)
	if _, err := st.GetRefreshTokenSession(t.Context(), signature, nil); !errors.Is(err, fosite.ErrInactiveToken) {
		t.Errorf("a token that was replaced long ago: %v", err)
	}
}
