package entrasim

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"
)

// What clients of ours do not ask for, and people and later tools do. The rest is tested where it is used, in
// internal/entra.

func start(t *testing.T, change func(*Config)) *Tenant {
	t.Helper()
	cfg := Config{
		Listen: "127.0.0.1:0", Tenant: "7e4a0000-0000-4000-8000-000000000001", ClientID: "c11e4700-0000-4000-8000-000000000001",
		ClientSecret: "s3cret&", RedirectURIs: []string{"http://localhost:1/callback"},
	}
	change(&cfg)
	tenant, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tenant.Close)
	return tenant
}

func (t *Tenant) authorizeURL(extra string) string {
	q := url.Values{
		"client_id": {t.cfg.ClientID}, "response_type": {"code"}, "redirect_uri": {t.cfg.RedirectURIs[0]}, "scope": {"openid"},
		"state": {"st"},
	}
	return t.URL + "/" + t.cfg.Tenant + "/oauth2/v2.0/authorize?" + q.Encode() + extra
}

func TestSession(t *testing.T) {
	tenant := start(t, func(cfg *Config) { cfg.SSO = true })
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	get := func(address string) (*http.Response, string) {
		t.Helper()
		res, err := browser.Get(address)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res, string(body)
	}
	if res, _ := get(tenant.authorizeURL("&prompt=none")); !strings.Contains(res.Header.Get("Location"), "error=login_required") {
		t.Errorf("nobody signed in, prompt=none: got %s %s", res.Status, res.Header.Get("Location"))
	}
	if res, body := get(tenant.authorizeURL("")); res.StatusCode != 200 || !strings.Contains(body, "dev@contoso.example") || !strings.Contains(body, "Simulation") {
		t.Errorf("account page: got %s %s", res.Status, body)
	}
	if _, err := SignIn(t.Context(), browser, tenant.authorizeURL(""), "dev@contoso.example"); err != nil {
		t.Fatal(err)
	}
	for extra, want := range map[string]int{"": 302, "&prompt=none": 302, "&prompt=select_account": 200, "&login_hint=admin@contoso.example": 200, "&login_hint=DEV@contoso.example": 302} {
		if res, _ := get(tenant.authorizeURL(extra)); res.StatusCode != want {
			t.Errorf("signed in, %q: got %s, want %d", extra, res.Status, want)
		}
	}
	get(tenant.URL + "/" + tenant.cfg.Tenant + "/oauth2/v2.0/logout")
	if res, _ := get(tenant.authorizeURL("")); res.StatusCode != 200 {
		t.Errorf("signed out: got %s", res.Status)
	}
}

func TestMachine(t *testing.T) {
	tenant := start(t, func(cfg *Config) {})
	ask := func(form url.Values, change func(*http.Request)) (status int, answer map[string]any) {
		t.Helper()
		req, err := http.NewRequest("POST", tenant.URL+"/"+tenant.cfg.Tenant+"/oauth2/v2.0/token", strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		change(req)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, answer
	}
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {"api://" + tenant.cfg.ClientID + "/.default"}}
	basic := func(secret string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(tenant.cfg.ClientID, url.QueryEscape(secret)) }
	}
	if status, answer := ask(form, basic("s3cret&")); status != 200 || answer["access_token"] == nil || answer["refresh_token"] != nil {
		t.Errorf("got %d %v", status, answer)
	}
	if status, answer := ask(form, basic("wrong")); status != 401 || answer["error"] != "invalid_client" {
		t.Errorf("wrong secret: got %d %v", status, answer)
	}
	if _, answer := ask(form, func(r *http.Request) { basic("s3cret&")(r); r.Header.Set("Origin", "http://localhost") }); answer["error"] != "invalid_request" {
		t.Errorf("from a page: got %v", answer)
	}
}

func TestRefusesConfig(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"address":  func(cfg *Config) { cfg.Listen = "0.0.0.0:0" },
		"any":      func(cfg *Config) { cfg.Listen = ":0" },
		"tenant":   func(cfg *Config) { cfg.Tenant = "contoso.example" },
		"client":   func(cfg *Config) { cfg.ClientID = "mcp" },
		"secret":   func(cfg *Config) { cfg.ClientSecret = "" },
		"redirect": func(cfg *Config) { cfg.RedirectURIs = []string{"http://gateway.example.com/callback"} },
		"wildcard": func(cfg *Config) { cfg.RedirectURIs = []string{"https://*.example.com/callback"} },
		"version":  func(cfg *Config) { cfg.TokenVersion = 3 },
		"twins":    func(cfg *Config) { cfg.Directory.People = append(cfg.Directory.People, cfg.Directory.People[0]) },
	} {
		cfg := Config{Listen: "127.0.0.1:0", Tenant: "7e4a0000-0000-4000-8000-000000000001", ClientID: "c11e4700-0000-4000-8000-000000000001", ClientSecret: "s", Directory: DefaultDirectory()}
		change(&cfg)
		if tenant, err := Start(cfg); err == nil {
			tenant.Close()
			t.Errorf("%s: accepted", name)
		}
	}
	for _, text := range []string{"", "people: []", "people: [{upn: a@b, oid: x}]", "folk: []",
		"people: [{upn: a@b, oid: 5d000000-0000-4000-8000-000000000001, roles: [a], unassigned: true}]",
		"people: [{upn: a@b, oid: 5d000000-0000-4000-8000-000000000001, roles: ['a b']}]"} {
		if _, err := ParseDirectory([]byte(text)); err == nil {
			t.Errorf("%q: accepted", text)
		}
	}
}

// A code ends after ten minutes.
func TestCodeExpires(t *testing.T) {
	tenant := start(t, func(cfg *Config) {})
	to, err := SignIn(t.Context(), nil, tenant.authorizeURL(""), "dev@contoso.example")
	if err != nil {
		t.Fatal(err)
	}
	tenant.Advance(codeTime + time.Second)
	form := url.Values{"client_id": {tenant.cfg.ClientID}, "client_secret": {"s3cret&"}, "grant_type": {"authorization_code"}, "code": {to.Query().Get("code")}, "redirect_uri": {tenant.cfg.RedirectURIs[0]}}
	res, err := http.PostForm(tenant.URL+"/"+tenant.cfg.Tenant+"/oauth2/v2.0/token", form)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || !strings.Contains(string(body), "AADSTS70008") {
		t.Errorf("got %s, %v", body, err)
	}
}
