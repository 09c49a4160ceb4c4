package entra

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"vmcp/internal/entrasim"
	"vmcp/internal/guid"
	"vmcp/internal/secret"
)

const (
	tenantID = "7e4a0000-0000-4000-8000-00000000000a"
	clientID = "c11e4700-0000-4000-8000-00000000000a"
	redirect = "http://localhost:4483/oauth/callback"
	canary   = "canary-secret+with/strange=characters&%"
	dev      = "dev@contoso.example"
	admin    = "admin@contoso.example"
)

func simulate(t testing.TB, change func(*entrasim.Config)) *entrasim.Tenant {
	t.Helper()
	cfg := entrasim.Config{Listen: "127.0.0.1:0", Tenant: tenantID, ClientID: clientID, ClientSecret: canary, RedirectURIs: []string{redirect}}
	if change != nil {
		change(&cfg)
	}
	sim, err := entrasim.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	return sim
}

func config(sim *entrasim.Tenant) Config {
	return Config{
		IssuerURL: "https://login.microsoftonline.com/" + tenantID + "/v2.0", ClientID: clientID,
		Secret: func() secret.Value { return canary }, RedirectURI: redirect,
		Scopes:  []string{"api://" + clientID + "/mcp.access", "openid", "profile", "email", "offline_access"},
		Address: sim.URL, Log: zap.NewNop(), Timeout: 5 * time.Second,
	}
}

// client returns a running client whose log is read for secrets at the end.
func client(t testing.TB, cfg Config) *Client {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	cfg.Log = zap.New(core)
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { c.Run(ctx) })
	t.Cleanup(func() {
		stop()
		wg.Wait()
		enc := zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig())
		for _, entry := range logs.All() {
			line, err := enc.EncodeEntry(entry.Entry, entry.Context)
			if err != nil {
				t.Error(err)
			}
			noSecrets(t, line.String())
		}
	})
	return c
}

// noSecrets fails when a text has the client secret, a code, or a token.
func noSecrets(t testing.TB, text string) {
	t.Helper()
	for _, part := range []string{"canary", url.QueryEscape(canary), "eyJhbGci", entrasim.CodePrefix, entrasim.RefreshPrefix, "verifier-"} {
		if strings.Contains(text, part) {
			t.Errorf("a secret (%s) in: %s", part, text)
		}
	}
}

// attempt is one sign-in up to the callback.
type attempt struct {
	code, verifier, nonce string
}

// pick signs somebody in at the page and returns what the callback brought.
func pick(t testing.TB, c *Client, upn string) (attempt, error) {
	t.Helper()
	a := attempt{verifier: "verifier-" + rand.Text() + rand.Text(), nonce: rand.Text()}
	sum := sha256.Sum256([]byte(a.verifier))
	state := rand.Text()
	address := c.AuthorizeURL(state, a.nonce, base64.RawURLEncoding.EncodeToString(sum[:]), AuthorizeOptions{Prompt: "select_account"})
	noSecrets(t, address)
	to, err := entrasim.SignIn(t.Context(), nil, address, upn)
	if err != nil {
		return a, err
	}
	if got := to.Query().Get("state"); got != state {
		t.Errorf("state: got %q, want %q", got, state)
	}
	if got := to.Scheme + "://" + to.Host + to.Path; got != redirect {
		t.Errorf("redirect: got %s, want %s", got, redirect)
	}
	a.code, err = c.Callback(to.Query())
	return a, err
}

func signIn(t testing.TB, c *Client, upn string) (*Identity, error) {
	t.Helper()
	a, err := pick(t, c, upn)
	if err != nil {
		return nil, err
	}
	return c.Exchange(t.Context(), a.code, a.verifier, a.nonce)
}

func mustSignIn(t testing.TB, c *Client, upn string) *Identity {
	t.Helper()
	i, err := signIn(t, c, upn)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// wantKind checks an error, and that neither its text nor what people read holds a secret or Entra's words.
func wantKind(t testing.TB, err error, want Kind) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an error of kind %v", err, want)
	}
	if e.Kind != want {
		t.Errorf("got kind %v (%v), want %v", e.Kind, err, want)
	}
	noSecrets(t, e.Error())
	for _, text := range []string{e.UserText(), e.Error()} {
		for _, theirs := range []string{"Trace ID:", clientID, "contoso"} {
			if strings.Contains(text, theirs) && !(text == e.Error() && e.cause != nil) {
				t.Errorf("words of Entra (%s) in: %s", theirs, text)
			}
		}
	}
	if e.UserText() == "" || strings.Contains(e.UserText(), "AADSTS") {
		t.Errorf("text for people: %q", e.UserText())
	}
	return e
}

func TestSignIn(t *testing.T) {
	sim := simulate(t, nil)
	c := client(t, config(sim))
	for _, version := range []struct {
		set  int
		want string
	}{{0, "1.0"}, {1, "1.0"}, {2, "2.0"}} {
		sim.SetTokenVersion(version.set)
		for upn, role := range map[string]string{dev: "mcp-developers", "platform@contoso.example": "mcp-platform", admin: "mcp-admin"} {
			got := mustSignIn(t, c, upn)
			want := &Identity{
				Person: Person{tenantID, got.OID}, Name: got.Name, Email: upn, Username: upn, Roles: []string{role}, Version: version.want,
			}
			if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Identity{}, "RefreshToken")); diff != "" {
				t.Errorf("version %d, %s (-want +got):\n%s", version.set, upn, diff)
			}
			if got.RefreshToken == "" || got.Name == "" || !guid.Valid(got.OID) {
				t.Errorf("version %d, %s: got %+v", version.set, upn, got)
			}
		}
	}
	if err := c.Ready(); err != nil {
		t.Error(err)
	}
	for _, form := range sim.TokenRequests() {
		if form.Has("resource") || form.Get("scope") != c.scope {
			t.Errorf("token request: got scope %q, resource %q", form.Get("scope"), form.Get("resource"))
		}
	}
}

// An App ID URI of one's own, with the slash that v1.0 may add; roles in the order that Entra pleases.
func TestOwnURI(t *testing.T) {
	sim := simulate(t, func(cfg *entrasim.Config) { cfg.AppIDURI = "https://contoso.example/mcp" })
	cfg := config(sim)
	cfg.Scopes[0] = "https://contoso.example/mcp/mcp.access"
	c := client(t, cfg)
	sim.SetRoles(dev, "mcp-developers", "mcp-admin")
	sim.SetFaults(entrasim.Faults{Mutate: func(tok *entrasim.Token) {
		if !tok.ID {
			tok.Claims["aud"] = "https://contoso.example/mcp/"
		}
	}})
	i := mustSignIn(t, c, dev)
	if diff := cmp.Diff([]string{"mcp-admin", "mcp-developers"}, i.Roles); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestNoRole(t *testing.T) {
	sim := simulate(t, nil)
	c := client(t, config(sim))
	for _, version := range []int{1, 2} {
		sim.SetTokenVersion(version)
		i, err := signIn(t, c, "norole@contoso.example")
		wantKind(t, err, NoRole)
		if i == nil || i.Name != "No role" || i.Username != "norole@contoso.example" || i.RefreshToken != "" {
			t.Errorf("who it is, and no tokens: got %+v", i)
		}
	}
	sim.SetFaults(entrasim.Faults{OmitRoles: true})
	_, err := signIn(t, c, admin)
	wantKind(t, err, NoRole)
}

// What Entra shows itself: no answer comes to us.
func TestPages(t *testing.T) {
	sim := simulate(t, nil)
	c := client(t, config(sim))
	other := func(change func(*Config)) *Client {
		cfg := config(sim)
		change(&cfg)
		return client(t, cfg)
	}
	for _, tt := range []struct {
		name, upn, want string
		c               *Client
	}{
		{"not assigned", "outsider@contoso.example", "AADSTS50105", c},
		{"redirect URI", dev, "AADSTS50011", other(func(cfg *Config) { cfg.RedirectURI = redirect + "/" })},
		{"client id", dev, "AADSTS700016", other(func(cfg *Config) { cfg.ClientID = tenantID })},
		{"scope", dev, "AADSTS650053", other(func(cfg *Config) { cfg.Scopes[0] = "api://" + clientID + "/typo" })},
		{"API", dev, "AADSTS500011", other(func(cfg *Config) { cfg.Scopes[0] = "api://other/mcp.access" })},
		{"tenant", dev, "AADSTS90002", other(func(cfg *Config) { cfg.IssuerURL = strings.Replace(cfg.IssuerURL, tenantID, clientID, 1) })},
	} {
		_, err := pick(t, tt.c, tt.upn)
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "Correlation Id") {
			t.Errorf("%s: got %v, want %s", tt.name, err, tt.want)
		}
	}
	address := c.AuthorizeURL("s", "n", strings.Repeat("c", 43), AuthorizeOptions{})
	for suffix, want := range map[string]string{
		"&resource=https://gateway.example.com/mcp": "AADSTS9010010", "&resource=api://" + clientID: "AADSTS901002",
		"&response_mode=form_post": "", // the first one counts
	} {
		if _, err := entrasim.SignIn(t.Context(), nil, address+suffix, dev); want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want %s", suffix, err, want)
		}
	}
	sim.SetAssignmentRequired(false)
	_, err := signIn(t, c, "outsider@contoso.example")
	wantKind(t, err, NoRole)
}

func TestAuthorizeURL(t *testing.T) {
	sim := simulate(t, nil)
	cfg := config(sim)
	cfg.Address = ""
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(c.AuthorizeURL("st", "no", "ch", AuthorizeOptions{Prompt: "login", LoginHint: dev, Claims: "{}"}))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := u.Scheme+"://"+u.Host+u.Path, "https://login.microsoftonline.com/"+tenantID+"/oauth2/v2.0/authorize"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	want := url.Values{
		"client_id": {clientID}, "response_type": {"code"}, "response_mode": {"query"}, "redirect_uri": {redirect}, "state": {"st"}, "nonce": {"no"},
		"scope":          {"api://" + clientID + "/mcp.access openid profile email offline_access"},
		"code_challenge": {"ch"}, "code_challenge_method": {"S256"}, "prompt": {"login"}, "login_hint": {dev}, "claims": {"{}"},
	}
	if diff := cmp.Diff(want, u.Query()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestCallback(t *testing.T) {
	sim := simulate(t, nil)
	c := client(t, config(sim))
	if _, err := pick(t, c, ""); err != nil { // cancel
		e := wantKind(t, err, Declined)
		if diff := cmp.Diff([]int{65004}, e.AADSTS); diff != "" || e.OAuth != "access_denied" {
			t.Errorf("%s %s", e.OAuth, diff)
		}
	} else {
		t.Error("cancelled, and got a code")
	}
	for text, want := range map[string]Kind{
		"error=access_denied&error_description=AADSTS50105: Your administrator": NotAssigned,
		"error=interaction_required":                             Interaction,
		"error=invalid_client&error_description=AADSTS650053: x": Misconfigured,
		"error=access_denied&error_description=AADSTS90094: x":   ConsentNeeded,
		"error=consent_required":                                 ConsentNeeded,
		"error=server_error":                                     Busy,
		"error=<script>alert(1)</script>":                        Failed,
		"error=x&error_description=call AADSTS50105: me":         Failed,
		"":                        Failed,
		"code=a&code=b":           Failed,
		"code=a&iss=https://evil": Failed,
	} {
		q, err := url.ParseQuery(text)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Callback(q)
		if e := wantKind(t, err, want); strings.ContainsAny(e.Error(), "<>") {
			t.Errorf("%s: %v", text, e)
		}
	}
	if code, err := c.Callback(url.Values{"code": {"a"}, "iss": {c.cfg.IssuerURL}, "session_state": {"x"}}); code != "a" || err != nil {
		t.Errorf("got %q, %v", code, err)
	}
}

func TestNewRefuses(t *testing.T) {
	good := Config{
		IssuerURL: "https://login.microsoftonline.com/" + tenantID + "/v2.0", ClientID: clientID, RedirectURI: redirect, Log: zap.NewNop(),
		Secret: func() secret.Value { return canary }, Scopes: []string{"openid", "profile", "api://x/mcp.access"},
	}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"common":        func(c *Config) { c.IssuerURL = "https://login.microsoftonline.com/common/v2.0" },
		"organizations": func(c *Config) { c.IssuerURL = "https://login.microsoftonline.com/organizations/v2.0" },
		"consumers":     func(c *Config) { c.IssuerURL = "https://login.microsoftonline.com/consumers/v2.0" },
		"a domain":      func(c *Config) { c.IssuerURL = "https://login.microsoftonline.com/contoso.example/v2.0" },
		"upper case":    func(c *Config) { c.IssuerURL = strings.Replace(c.IssuerURL, "7e4a", "7E4A", 1) },
		"v1":            func(c *Config) { c.IssuerURL = "https://sts.windows.net/" + tenantID + "/" },
		"no version":    func(c *Config) { c.IssuerURL = "https://login.microsoftonline.com/" + tenantID },
		"slash":         func(c *Config) { c.IssuerURL += "/" },
		"http":          func(c *Config) { c.IssuerURL = strings.Replace(c.IssuerURL, "https", "http", 1) },
		"another host":  func(c *Config) { c.IssuerURL = strings.Replace(c.IssuerURL, "login.", "evil.", 1) },
		"port":          func(c *Config) { c.IssuerURL = strings.Replace(c.IssuerURL, ".com", ".com:8443", 1) },
		"query":         func(c *Config) { c.IssuerURL += "?x" },
		"client id":     func(c *Config) { c.ClientID = "mcp" },
		"secret":        func(c *Config) { c.Secret = func() secret.Value { return "" } },
		"redirect":      func(c *Config) { c.RedirectURI = "/oauth/callback" },
		"no API":        func(c *Config) { c.Scopes = []string{"openid", "profile"} },
		"no openid":     func(c *Config) { c.Scopes = []string{"profile", "api://x/y"} },
		"no profile":    func(c *Config) { c.Scopes = []string{"openid", "api://x/y"} },
		"two APIs":      func(c *Config) { c.Scopes = append(c.Scopes, "api://y/z") },
		"Graph":         func(c *Config) { c.Scopes = append(c.Scopes, "User.Read") },
		"space":         func(c *Config) { c.Scopes = append(c.Scopes, "api://x/y z") },
		"far address":   func(c *Config) { c.Address = "http://192.0.2.1:80" },
		"https address": func(c *Config) { c.Address = "https://127.0.0.1:80" },
		"path":          func(c *Config) { c.Address = "http://127.0.0.1:80/x" },
		"name":          func(c *Config) { c.Address = "http://localhost.example.com:80" },
		"user":          func(c *Config) { c.Address = "http://127.0.0.1@example.com" },
	} {
		cfg := good
		cfg.Scopes = append([]string(nil), good.Scopes...)
		change(&cfg)
		_, err := New(cfg)
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		noSecrets(t, err.Error())
	}
	for _, cloud := range []struct{ host, sts string }{
		{"login.microsoftonline.us", "https://sts.windows.net/"}, {"login.partner.microsoftonline.cn", "https://sts.chinacloudapi.cn/"},
	} {
		cfg := good
		cfg.IssuerURL = "https://" + cloud.host + "/" + tenantID + "/v2.0"
		c, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if want := cloud.sts + tenantID + "/"; c.v1.issuer != want {
			t.Errorf("%s: v1 issuer %s, want %s", cloud.host, c.v1.issuer, want)
		}
	}
}
