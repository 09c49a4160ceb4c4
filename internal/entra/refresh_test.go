package entra

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vmcp/internal/entrasim"
	"vmcp/internal/secret"
)

func rs256(input []byte, key *rsa.PrivateKey) []byte {
	sum := sha256.Sum256(input)
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		panic(err)
	}
	return signature
}

func TestRefresh(t *testing.T) {
	sim := simulate(t, nil)
	c := client(t, config(sim))
	for _, version := range []int{1, 2} {
		sim.SetTokenVersion(version)
		sim.SetRoles(dev, "mcp-developers")
		first := mustSignIn(t, c, dev)
		second, err := c.Refresh(t.Context(), first.RefreshToken, first.Person)
		if err != nil {
			t.Fatal(err)
		}
		if second.RefreshToken == "" || second.RefreshToken == first.RefreshToken || second.Person != first.Person {
			t.Errorf("got %+v after %+v", second, first)
		}
		if _, err := c.Refresh(t.Context(), first.RefreshToken, first.Person); err != nil { // Entra does not take the old one back
			t.Errorf("the first token again: %v", err)
		}

		sim.SetRoles(dev, "mcp-admin", "mcp-platform")
		third, err := c.Refresh(t.Context(), second.RefreshToken, first.Person)
		if err != nil || !slices.Equal(third.Roles, []string{"mcp-admin", "mcp-platform"}) {
			t.Errorf("new roles: got %+v, %v", third, err)
		}
		sim.SetRoles(dev)
		_, err = c.Refresh(t.Context(), second.RefreshToken, first.Person)
		if e := wantKind(t, err, NoRole); e.Temporary() {
			t.Error("a lost role is no outage")
		}
		sim.SetAssigned(dev, false)
		_, err = c.Refresh(t.Context(), second.RefreshToken, first.Person)
		wantKind(t, err, NotAssigned)
	}
}

func TestUserSwap(t *testing.T) {
	sim := simulate(t, nil)
	c := client(t, config(sim))
	i := mustSignIn(t, c, dev)
	sim.SetFaults(entrasim.Faults{OtherPerson: admin})
	for _, idToken := range []bool{true, false} {
		if !idToken {
			sim.SetFaults(entrasim.Faults{OtherPerson: admin, Response: func(r map[string]any) { delete(r, "id_token") }})
		}
		got, err := c.Refresh(t.Context(), i.RefreshToken, i.Person)
		if e := wantKind(t, err, UserSwap); got != nil || e.Temporary() {
			t.Errorf("got %+v, %v", got, e)
		}
	}
	sim.SetFaults(entrasim.Faults{})
	if _, err := c.Refresh(t.Context(), i.RefreshToken, Person{tenantID, "5d000000-0000-4000-8000-000000000003"}); err == nil {
		t.Error("another stored person")
	}
}

func TestSelfToken(t *testing.T) {
	sim := simulate(t, nil)
	c := client(t, config(sim))
	i := mustSignIn(t, c, dev)
	sim.SetFaults(entrasim.Faults{SelfToken: entrasim.SelfTokenURIForm})
	guidForm := clientID + "/mcp.access openid profile email offline_access"
	uriForm := "api://" + guidForm
	for range 2 {
		got, err := c.Refresh(t.Context(), i.RefreshToken, i.Person)
		if err != nil || !slices.Equal(got.Roles, i.Roles) {
			t.Fatalf("got %+v, %v", got, err)
		}
	}
	var scopes []string
	for _, form := range sim.TokenRequests() {
		scopes = append(scopes, form.Get("scope"))
	}
	// Sign-in, refresh, refresh again; the second time the form is remembered.
	if want := []string{uriForm, uriForm, guidForm, guidForm}; !slices.Equal(scopes, want) {
		t.Errorf("scopes sent: got %q, want %q", scopes, want)
	}
	mustSignIn(t, c, dev)

	// A tenant that refuses both forms: one retry, not a loop.
	c2 := client(t, config(sim))
	before := len(sim.TokenRequests())
	sim.SetFaults(entrasim.Faults{TokenError: 90009})
	_, err := c2.Refresh(t.Context(), i.RefreshToken, i.Person)
	if e := wantKind(t, err, Misconfigured); !e.has(90009) || c2.useGUID.Load() {
		t.Error(e)
	}
	if n := len(sim.TokenRequests()) - before; n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
}

// What Entra's errors at a refresh mean, by number and, for numbers that we do not know, by OAuth error.
func TestRefreshErrors(t *testing.T) {
	sim := simulate(t, nil)
	c := client(t, config(sim))
	i := mustSignIn(t, c, dev)
	for number, want := range map[int]Kind{
		50173: Revoked, 70000: Revoked, 70008: Revoked, 700082: Revoked, 50057: Revoked, 54005: Revoked,
		50076: Interaction, 70043: Interaction, 53003: Blocked, 65001: ConsentNeeded, 50105: NotAssigned,
		7000215: ClientAuth, 7000222: ClientAuth, 7000218: ClientAuth, 70002: ClientAuth,
		700016: Misconfigured, 500011: Misconfigured, 650053: Misconfigured, 90002: Misconfigured,
		90055: Busy, 90033: Busy, 50196: Busy, 9002313: Failed, 1234567: Failed,
	} {
		sim.SetFaults(entrasim.Faults{TokenError: number})
		_, err := c.Refresh(t.Context(), i.RefreshToken, i.Person)
		e := wantKind(t, err, want)
		if temporary := want == Busy || want == ClientAuth || want == Misconfigured; e.Temporary() != temporary {
			t.Errorf("%d: temporary %v", number, e.Temporary())
		}
		if !e.has(number) || e.CorrelationID == "" || e.TraceID == "" || e.Timestamp == "" || !strings.Contains(e.Error(), e.CorrelationID) {
			t.Errorf("%d: what support asks for is missing: %v", number, e)
		}
		if (e.Claims != "") != (number == 50076 || number == 53003) {
			t.Errorf("%d: claims %q", number, e.Claims)
		}
	}
	sim.SetFaults(entrasim.Faults{})
	sim.Revoke(dev)
	_, err := c.Refresh(t.Context(), i.RefreshToken, i.Person)
	wantKind(t, err, Revoked)
	i = mustSignIn(t, c, dev)
	sim.SetDisabled(dev, true)
	_, err = c.Refresh(t.Context(), i.RefreshToken, i.Person)
	wantKind(t, err, Revoked)
	if _, err = signIn(t, c, dev); err == nil || !strings.Contains(err.Error(), "AADSTS50057") {
		t.Errorf("disabled: got %v", err)
	}
	sim.SetDisabled(dev, false)
	sim.Advance(91 * 24 * time.Hour)
	_, err = c.Refresh(t.Context(), i.RefreshToken, i.Person)
	wantKind(t, err, Revoked)
	_, err = c.Refresh(t.Context(), "canary-token", i.Person)
	wantKind(t, err, Revoked)
}

func TestSecret(t *testing.T) {
	sim := simulate(t, nil)
	cfg := config(sim)
	var current atomic.Pointer[secret.Value]
	use := func(s secret.Value) { current.Store(&s) }
	use(canary)
	cfg.Secret = func() secret.Value { return *current.Load() }
	c := client(t, cfg)
	i := mustSignIn(t, c, dev)
	sim.ExpireSecrets()
	_, err := c.Refresh(t.Context(), i.RefreshToken, i.Person)
	if e := wantKind(t, err, ClientAuth); !e.has(7000222) {
		t.Error(e)
	}
	use("canary-two")
	_, err = c.Refresh(t.Context(), i.RefreshToken, i.Person)
	if e := wantKind(t, err, ClientAuth); !e.has(7000215) {
		t.Error(e)
	}
	sim.AddSecret("canary-two") // and nothing restarts
	if _, err := c.Refresh(t.Context(), i.RefreshToken, i.Person); err != nil {
		t.Error(err)
	}
	use("")
	_, err = c.Refresh(t.Context(), i.RefreshToken, i.Person)
	wantKind(t, err, ClientAuth)
}

func TestOutage(t *testing.T) {
	sim := simulate(t, nil)
	cfg := config(sim)
	cfg.Timeout = 300 * time.Millisecond
	c := client(t, cfg)
	i := mustSignIn(t, c, dev)
	refresh := func(f entrasim.Faults) *Error {
		t.Helper()
		sim.SetFaults(f)
		_, err := c.Refresh(t.Context(), i.RefreshToken, i.Person)
		want := Busy
		if f.Status == 0 || f.Status == 302 || f.Status == 404 {
			want = Unavailable
		}
		e := wantKind(t, err, want)
		if !e.Temporary() {
			t.Errorf("%+v: not temporary", f)
		}
		return e
	}
	refresh(entrasim.Faults{Status: 500})
	refresh(entrasim.Faults{Status: 302})
	refresh(entrasim.Faults{Status: 404})
	refresh(entrasim.Faults{Truncate: true})
	refresh(entrasim.Faults{Delay: time.Minute})
	if e := refresh(entrasim.Faults{Status: 503, RetryAfter: 7 * time.Second}); e.RetryAfter != 7*time.Second {
		t.Errorf("retry after %v", e.RetryAfter)
	}
	if e := refresh(entrasim.Faults{Status: 429, RetryAfter: 100 * time.Hour}); e.RetryAfter != time.Hour {
		t.Errorf("retry after %v", e.RetryAfter)
	}
	sim.SetFaults(entrasim.Faults{})
	if _, err := c.Refresh(t.Context(), i.RefreshToken, i.Person); err != nil { // the same token works again
		t.Error(err)
	}
	sim.Close()
	_, err := c.Refresh(t.Context(), i.RefreshToken, i.Person)
	wantKind(t, err, Unavailable)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = c.Refresh(ctx, i.RefreshToken, i.Person)
	wantKind(t, err, Unavailable)
}

// Entra is away when we start: nothing fails but sign-ins, and those work when it is back.
func TestAwayAtStart(t *testing.T) {
	sim := simulate(t, nil)
	sim.SetFaults(entrasim.Faults{Status: 503})
	c := client(t, config(sim))
	if err := c.Ready(); err == nil {
		t.Error("ready without keys")
	}
	sim.SetFaults(entrasim.Faults{})
	mustSignIn(t, c, dev) // waits for the keys
}

// Nothing takes the secret or a code to where a redirect points.
func TestNoRedirects(t *testing.T) {
	evil := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") }))
	defer evil.Close()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, evil.URL, http.StatusTemporaryRedirect) // keeps method and body
	}))
	defer s.Close()
	sim := simulate(t, nil)
	cfg := config(sim)
	cfg.Address = s.URL
	c := client(t, cfg)
	_, err := c.Exchange(t.Context(), entrasim.CodePrefix+"x", "verifier-", "nonce")
	wantKind(t, err, Unavailable)
	if c.Ready() == nil {
		t.Error("ready")
	}
}

func TestDiscoverySpoof(t *testing.T) {
	sim := simulate(t, nil)
	c := client(t, config(sim))
	for name, change := range map[string]func(version int, doc map[string]any){
		"issuer":    func(_ int, doc map[string]any) { doc["issuer"] = "https://evil.example/v2.0" },
		"template":  func(_ int, doc map[string]any) { doc["issuer"] = "https://login.microsoftonline.com/{tenantid}/v2.0" },
		"keys":      func(_ int, doc map[string]any) { doc["jwks_uri"] = "https://evil.example/keys" },
		"http":      func(_ int, doc map[string]any) { doc["jwks_uri"] = "http://login.microsoftonline.com/keys" },
		"no keys":   func(_ int, doc map[string]any) { delete(doc, "jwks_uri") },
		"token":     func(_ int, doc map[string]any) { doc["token_endpoint"] = "https://evil.example/token" },
		"types":     func(_ int, doc map[string]any) { doc["issuer"] = 1 },
		"v1 and v2": func(_ int, doc map[string]any) { doc["issuer"] = "https://sts.windows.net/" + tenantID + "/v2.0" },
		"other paths": func(version int, doc map[string]any) {
			doc["token_endpoint"] = "https://login.microsoftonline.com/" + tenantID + "/oauth2/token"
			if version == 1 { // whose endpoints we do not use
				doc["issuer"] = nil
			}
		},
	} {
		sim.SetFaults(entrasim.Faults{Discovery: change})
		for version, v := range []*verifier{c.v1, c.v2} {
			path := [...]string{"", "/v2.0"}[version] + "/.well-known/openid-configuration"
			if _, err := c.fetchKeys(t.Context(), v.issuer, path); err == nil || !strings.Contains(err.Error(), "discovery") {
				t.Errorf("%s, v%d: got %v", name, version+1, err)
			}
		}
	}
}

// T36: new keys are found at once the first time, old ones end when they are withdrawn.
func TestKeyRollover(t *testing.T) {
	sim := simulate(t, nil)
	c := client(t, config(sim))
	mustSignIn(t, c, dev)
	if err := sim.RotateKeys(); err != nil {
		t.Fatal(err)
	}
	mustSignIn(t, c, dev)
	fetches := sim.Count("/discovery/v2.0/keys")
	sim.SetFaults(entrasim.Faults{Mutate: header("kid", "nobody")})
	for range 5 {
		_, err := signIn(t, c, dev)
		if e := wantKind(t, err, Unavailable); !e.Temporary() {
			t.Error("keys may come")
		}
	}
	if n := sim.Count("/discovery/v2.0/keys") - fetches; n != 0 {
		t.Errorf("unknown keys: %d fetches within five minutes of the first", n)
	}
}
