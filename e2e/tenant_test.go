package e2e

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vmcp/internal/await"
	"vmcp/internal/browser"
	"vmcp/internal/entrasim"
	"vmcp/internal/secret"
	"vmcp/internal/stack"
)

// example is what the guide's readers run.
const example = "../docs/examples/engineering-tools.yaml"

// The tenant and the application that the example names.
const (
	exampleTenant = "7e4a0000-0000-4000-8000-000000000001"
	exampleClient = "c11e4700-0000-4000-8000-000000000001"
)

// office is a gateway with a tenant where people sign in.
type office struct {
	*world
	entra  *entrasim.Tenant
	secret string // client secret at Entra
}

// account is a person of the simulated tenant.
func account(name string) string { return name + "@contoso.example" }

// openOffice runs the example with a tenant whose access tokens have this version.
func openOffice(t *testing.T, version int, edits ...edit) *office {
	t.Helper()
	return openOfficeAt(t, freeAddress(t), version, edits...)
}

func openOfficeAt(t *testing.T, addr string, version int, edits ...edit) *office {
	t.Helper()
	w := newWorld(t, addr, example, edits...)
	o := &office{world: w, secret: rand.Text()}
	w.cfg.Source.Secrets = filepath.Join(filepath.Dir(w.docs), "secrets")
	o.writeSecret(t, "idp-client-secret", "client-secret", o.secret)
	o.writeSecret(t, "github-pat", "token", rand.Text())
	var err error
	o.entra, err = entrasim.Start(entrasim.Config{Listen: "127.0.0.1:0", Tenant: exampleTenant, ClientID: exampleClient,
		ClientSecret: secret.Value(o.secret), RedirectURIs: []string{w.aud + "/oauth/callback"}, TokenVersion: version})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.entra.Close)
	w.up(t, func(cfg *stack.Config) { cfg.EntraAddress = o.entra.URL })
	t.Cleanup(func() { // before the gateway stops and its logs are read
		for _, form := range o.entra.TokenRequests() {
			secrets.addAll(form)
		}
		w.metrics(t)
	})
	return o
}

func (o *office) writeSecret(t *testing.T, name, key, value string) {
	t.Helper()
	dir := filepath.Join(o.cfg.Source.Secrets, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, key), []byte(value), 0o600); err != nil {
		t.Fatal(err)
	}
	secrets.add("secret", value)
}

// app is an MCP client that knows the gateway's URL only, and is registered now.
func (o *office) app(t *testing.T) *browser.Application {
	t.Helper()
	a, err := browser.NewApplication(t.Context(), o.URL, "e2e")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// login is one person's sign-in: the application, and the tokens it got.
type login struct {
	*browser.Application
	browser.Tokens
	browser *browser.Browser
}

// signIn signs a person in with an application and a browser of their own.
func (o *office) signIn(t *testing.T, name string) *login {
	t.Helper()
	l := &login{Application: o.app(t), browser: browser.New()}
	tokens, err := l.SignIn(t.Context(), l.browser, account(name))
	if err != nil {
		t.Fatalf("%s signs in: %v", name, err)
	}
	l.Tokens = tokens
	return l
}

// refresh gets the next tokens.
func (l *login) refresh(t *testing.T) {
	t.Helper()
	tokens, err := l.RefreshTokens(t.Context(), l.Refresh)
	if err != nil {
		t.Fatalf("refresh: %v", err)
	}
	if tokens.Refresh == "" || tokens.Refresh == l.Refresh {
		t.Error("the refresh token was not replaced")
	}
	l.Tokens = tokens
}

// refusal is the OAuth error, the zero value where there is none.
func refusal(err error) browser.Refused {
	if e, ok := errors.AsType[*browser.Refused](err); ok {
		return *e
	}
	return browser.Refused{}
}

// wantRefused checks that a request to the token endpoint was refused so.
func wantRefused(t *testing.T, what string, err error, code string) {
	t.Helper()
	if got := refusal(err); got.Code != code {
		t.Errorf("%s: %v, want %s", what, err, code)
	}
}

// claims is the payload of a token, not verified.
func claims(t *testing.T, token string) map[string]any {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatal("not a JWT")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]any
	if err := json.Unmarshal(payload, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

func groups(t *testing.T, token string) []string {
	t.Helper()
	var roles []string
	list, _ := claims(t, token)["groups"].([]any)
	for _, r := range list {
		roles = append(roles, r.(string))
	}
	slices.Sort(roles)
	return roles
}

// accepted says whether the endpoint takes a token.
func (o *office) accepted(t *testing.T, token string) bool {
	t.Helper()
	a := o.send(t, (&caller{w: o.world, token: token, modern: true}).message("tools/list", "", ""))
	switch {
	case a.ok():
		return true
	case a.status != http.StatusUnauthorized || !strings.Contains(a.header.Get("Www-Authenticate"), `error="invalid_token"`):
		t.Errorf("neither a list nor a challenge: %d %s", a.status, a.body)
	}
	return false
}

// ends waits until a token is refused, which comes with the word of authserver and long before the token's own end.
func (o *office) ends(t *testing.T, what, token string) {
	t.Helper()
	await.That(t, what+": the access token is refused", func() bool { return !o.accepted(t, token) })
}

// wants checks the page on which a sign-in ended.
func wants(t *testing.T, what string, p *browser.Page, err error, status int, texts ...string) {
	t.Helper()
	switch {
	case err != nil:
		t.Fatalf("%s: %v", what, err)
	case p.Left != nil:
		t.Errorf("%s: the browser was sent to the application", what)
		return
	case len(leaks([]byte(p.Text), "code", "code_verifier", "access_token", "refresh_token", "client_secret", "cookie")) > 0:
		t.Errorf("%s: a secret is on the page: %s", what, p.Text)
	case p.Status != status:
		t.Errorf("%s: %d %q, want %d", what, p.Status, p.Text, status)
	}
	for _, text := range texts {
		if !strings.Contains(p.Title+" "+p.Text, text) {
			t.Errorf("%s: the page says %q, not %q", what, p.Text, text)
		}
	}
}

// rand43 is a PKCE verifier.
func rand43() string { return (rand.Text() + rand.Text())[:43] }

func equalJSON(a, b any) bool {
	x, err := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err == nil && err2 == nil && string(x) == string(y)
}
