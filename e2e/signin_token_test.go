package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"vmcp/internal/browser"
	"vmcp/internal/entrasim"
)

// otherAudience differs from resourceUrl, as the guide says it may.
const otherAudience = "urn:vmcp:engineering-tools"

// TestSignInTokens: the same names in every document, redirect and token, and no token but ours for this gateway is good.
func TestSignInTokens(t *testing.T) {
	t.Parallel()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	key := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	o := openOffice(t, 1, func(docs string) string {
		docs = regexp.MustCompile(`audience: '[^']*'`).ReplaceAllString(docs, "audience: '"+otherAudience+"'")
		secret := "apiVersion: v1\nkind: Secret\nmetadata:\n  name: signing\nstringData:\n  key.pem: |\n" + indent(key, "    ")
		return secret + "---\n" + strings.Replace(docs, "    upstreamProviders:\n", "    signingKeySecretRefs: [{name: signing, key: key.pem}]\n    upstreamProviders:\n", 1)
	})
	t.Run("documents", func(t *testing.T) { documents(t, o) })
	t.Run("resource", func(t *testing.T) { resources(t, o) })
	t.Run("foreign tokens", func(t *testing.T) { foreignTokens(t, o, private) })
}

func (o *office) fetch(t *testing.T, address string, to any) (body string) {
	t.Helper()
	a := o.send(t, request{method: "GET", url: address})
	if a.status != 200 || !strings.HasPrefix(a.header.Get("Content-Type"), "application/json") {
		t.Fatalf("%s: %d %s", address, a.status, a.body)
	}
	if err := json.Unmarshal([]byte(a.body), to); err != nil {
		t.Fatalf("%s: %v", address, err)
	}
	return a.body
}

// documents: RFC 8414, OpenID Connect Discovery, RFC 9728, RFC 7517, and the iss of RFC 9207.
func documents(t *testing.T, o *office) {
	const known = "/.well-known/"
	origins := []string{o.aud, strings.Replace(o.aud, "localhost", "127.0.0.1", 1)} // whatever name the client used
	for _, at := range origins {
		var as, oidc map[string]any
		if a, b := o.fetch(t, at+known+"oauth-authorization-server", &as), o.fetch(t, at+known+"openid-configuration", &oidc); a != b {
			t.Errorf("%s: the two documents differ:\n%s\n%s", at, a, b)
		}
		want := map[string]any{
			"issuer": o.aud, "authorization_endpoint": o.aud + "/oauth/authorize", "token_endpoint": o.aud + "/oauth/token",
			"registration_endpoint": o.aud + "/oauth/register", "revocation_endpoint": o.aud + "/oauth/revoke",
			"jwks_uri": o.aud + known + "jwks.json", "code_challenge_methods_supported": []any{"S256"},
			"authorization_response_iss_parameter_supported": true,
		}
		got := maps.Clone(as)
		maps.DeleteFunc(got, func(name string, _ any) bool { return want[name] == nil })
		if d := cmp.Diff(got, want); d != "" {
			t.Errorf("%s (-got +want):\n%s", at, d)
		}
		for path, resource := range map[string]string{"oauth-protected-resource/mcp": o.aud + "/mcp", "oauth-protected-resource": o.aud} {
			var prm map[string]any
			o.fetch(t, at+known+path, &prm)
			if prm["resource"] != resource || !slices.Equal(prm["authorization_servers"].([]any), []any{o.aud}) {
				t.Errorf("%s%s: %v", at, path, prm)
			}
		}
	}
	var jwks jose.JSONWebKeySet
	o.fetch(t, o.aud+known+"jwks.json", &jwks)
	if len(jwks.Keys) != 1 || !jwks.Keys[0].IsPublic() || jwks.Keys[0].Algorithm != "ES256" || jwks.Keys[0].Use != "sig" {
		t.Errorf("keys: %+v", jwks.Keys)
	}

	l := o.signIn(t, "dev") // checks iss of the success redirect
	c := claims(t, l.Access)
	if c["iss"] != o.aud || c["client_id"] != l.ClientID || c["tid"] != exampleTenant {
		t.Errorf("claims %v", c)
	}
	if err := verify(jwks, l.Access); err != nil {
		t.Errorf("the published keys do not verify the token: %v", err)
	}
	// Errors carry it too: before the consent page, and for what the request itself gets wrong.
	for what, change := range map[string]func(url.Values){
		"prompt none": func(q url.Values) { q.Set("prompt", "none") },
		"no PKCE":     func(q url.Values) { q.Del("code_challenge") },
		"plain PKCE":  func(q url.Values) { q.Set("code_challenge_method", "plain") },
		"scope":       func(q url.Values) { q.Set("scope", "everything") },
		"response":    func(q url.Values) { q.Set("response_type", "token") },
		"request":     func(q url.Values) { q.Set("request", "x.y.z") },
	} {
		page := authorize(t, l.Application, change)
		if page.Left == nil || page.Left.Query().Get("error") == "" || page.Left.Query().Get("iss") != o.aud || page.Left.Query().Get("state") != "s" {
			t.Errorf("%s: %+v", what, page)
		}
	}
	// And nothing at all goes to an address that is not the client's.
	for _, change := range []func(url.Values){
		func(q url.Values) { q.Set("redirect_uri", "https://evil.example/callback") },
		func(q url.Values) { q.Set("redirect_uri", l.RedirectURI+".evil.example") },
		func(q url.Values) { q.Set("client_id", "nobody") },
		func(q url.Values) { q.Add("client_id", "nobody") },
	} {
		if page := authorize(t, l.Application, change); page.Left != nil || page.Status != http.StatusBadRequest {
			t.Errorf("%+v", page)
		}
	}
}

// authorize opens a changed authorization request in a new browser.
func authorize(t *testing.T, app *browser.Application, change func(url.Values)) *browser.Page {
	t.Helper()
	u, err := url.Parse(app.AuthorizeURL(rand43(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	change(q)
	u.RawQuery = q.Encode()
	b := browser.New()
	b.Leave = func(u *url.URL) bool { return u.Host != strings.TrimPrefix(app.Issuer, "http://") }
	page, err := b.Get(t.Context(), u.String())
	if err != nil {
		t.Fatal(err)
	}
	return page
}

func verify(keys jose.JSONWebKeySet, token string) error {
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return err
	}
	_, err = jws.Verify(keys)
	return err
}

// resources: every name of this gateway gives a token for its one audience, and no other name gives any (RFC 8707).
func resources(t *testing.T, o *office) {
	upper := strings.Replace(o.aud, "localhost", "LocalHost", 1)
	for _, resource := range []string{o.aud + "/mcp", o.aud + "/mcp/", o.aud, o.aud + "/", upper, upper + "/mcp", otherAudience} {
		app := o.app(t)
		app.Resource = resource
		tokens, err := app.SignIn(t.Context(), browser.New(), account("dev"))
		if err != nil {
			t.Errorf("%s: %v", resource, err)
			continue
		}
		if got := claims(t, tokens.Access)["aud"]; !cmp.Equal(got, any([]any{otherAudience})) {
			t.Errorf("%s: aud %v", resource, got)
		}
		if !o.accepted(t, tokens.Access) {
			t.Errorf("%s: the token is not good", resource)
		}
		if tokens, err = app.RefreshTokens(t.Context(), tokens.Refresh); err != nil || !cmp.Equal(claims(t, tokens.Access)["aud"], any([]any{otherAudience})) {
			t.Errorf("%s, refresh: %v", resource, err)
		}
	}
	for _, resource := range []string{"https://graph.microsoft.com", o.aud + "/mcp/x", o.aud + ".evil.example", o.aud + "/MCP", o.aud + "/mcp#x", "api://" + exampleClient, "mcp"} {
		app := o.app(t)
		code, verifier, err := app.Authorize(t.Context(), browser.New(), account("dev"))
		if err != nil {
			t.Fatal(err)
		}
		good := app.Resource
		app.Resource = resource
		_, _, err = app.Authorize(t.Context(), browser.New(), account("dev"))
		wantRefused(t, resource+" at authorize", err, "invalid_target")
		_, err = app.Redeem(t.Context(), code, verifier)
		wantRefused(t, resource+" at token", err, "invalid_target")
		app.Resource = good
		tokens, err := app.Redeem(t.Context(), code, verifier) // the code is not spent by that
		if err != nil {
			t.Fatal(err)
		}
		app.Resource = resource
		_, err = app.RefreshTokens(t.Context(), tokens.Refresh)
		wantRefused(t, resource+" at refresh", err, "invalid_target")
	}
}

// foreignTokens: neither Entra's tokens nor what our own key signed for something else opens the endpoint.
func foreignTokens(t *testing.T, o *office, key *ecdsa.PrivateKey) {
	for _, version := range []int{1, 2} {
		o.entra.SetTokenVersion(version)
		for name, token := range entraTokens(t, o) {
			if o.accepted(t, token) {
				t.Errorf("Entra's %s, version %d, is good here", name, version)
			}
		}
	}
	l := o.signIn(t, "dev")
	if o.accepted(t, l.Refresh) {
		t.Error("a refresh token is good as an access token")
	}
	var jwks jose.JSONWebKeySet
	o.fetch(t, o.aud+"/.well-known/jwks.json", &jwks)
	mint := func(typ string, change map[string]any) string {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: jwks.Keys[0].KeyID}},
			(&jose.SignerOptions{}).WithType(jose.ContentType(typ)))
		if err != nil {
			t.Fatal(err)
		}
		all := claims(t, l.Access)
		for name, value := range change {
			if all[name] = value; value == nil {
				delete(all, name)
			}
		}
		payload, err := json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		jws, err := signer.Sign(payload)
		if err != nil {
			t.Fatal(err)
		}
		text, err := jws.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	now := time.Now().Unix()
	for _, c := range []struct {
		what, typ string
		change    map[string]any
		good      bool
	}{
		{"a copy", "at+jwt", nil, true}, // so the others fail for what they say
		{"another audience", "at+jwt", map[string]any{"aud": []string{"urn:vmcp:other"}}, false},
		{"resourceUrl as audience", "at+jwt", map[string]any{"aud": []string{o.aud}}, false},
		{"the endpoint as audience", "at+jwt", map[string]any{"aud": []string{o.aud + "/mcp"}}, false},
		{"the client as audience, an ID token", "JWT", map[string]any{"aud": l.ClientID, "nonce": "n"}, false},
		{"an ID token for our audience", "JWT", nil, false},
		{"another issuer", "at+jwt", map[string]any{"iss": o.entra.Issuer()}, false},
		{"expired", "at+jwt", map[string]any{"exp": now - 120}, false},
		{"no sub", "at+jwt", map[string]any{"sub": nil}, false},
	} {
		if got := o.accepted(t, mint(c.typ, c.change)); got != c.good {
			t.Errorf("%s, signed by the gateway's key: accepted %t", c.what, got)
		}
	}
}

// entraTokens are what Entra gives the gateway for a person, had here as whoever holds the client secret could.
func entraTokens(t *testing.T, o *office) map[string]string {
	t.Helper()
	verifier := rand43()
	sum := sha256.Sum256([]byte(verifier))
	base := o.entra.URL + "/" + exampleTenant + "/oauth2/v2.0/"
	scope := "api://" + exampleClient + "/mcp.access openid profile email offline_access"
	at, err := entrasim.SignIn(t.Context(), nil, base+"authorize?"+url.Values{
		"client_id": {exampleClient}, "response_type": {"code"}, "redirect_uri": {o.aud + "/oauth/callback"}, "scope": {scope},
		"state": {rand43()}, "nonce": {"n"}, "code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}.Encode(), account("admin"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.PostForm(base+"token", url.Values{
		"grant_type": {"authorization_code"}, "client_id": {exampleClient}, "client_secret": {o.secret}, "code": {at.Query().Get("code")},
		"redirect_uri": {o.aud + "/oauth/callback"}, "code_verifier": {verifier}, "scope": {scope},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		Access  string `json:"access_token"`
		ID      string `json:"id_token"`
		Refresh string `json:"refresh_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.Access == "" || answer.ID == "" || answer.Refresh == "" {
		t.Fatalf("Entra's token endpoint: %s %v", resp.Status, err)
	}
	return map[string]string{"access token": answer.Access, "ID token": answer.ID, "refresh token": answer.Refresh}
}
