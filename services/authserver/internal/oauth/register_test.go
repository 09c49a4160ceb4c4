package oauth

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"vmcp/services/authserver/internal/store"
)

func TestRegister(t *testing.T) {
	w := newWorld(t, options{})
	for body, want := range map[string]string{
		`{"redirect_uris":["http://127.0.0.1/cb"]}`: "none authorization_code,refresh_token native openid profile email offline_access",
		`{"redirect_uris":["http://127.0.0.1/cb"],"token_endpoint_auth_method":"none","grant_types":["authorization_code"],"response_types":["code"],"scope":"openid"}`:                                           "none authorization_code native openid offline_access",
		`{"redirect_uris":["https://a.example.com/cb"],"application_type":"web","scope":"openid email admin","grant_types":["authorization_code","implicit","refresh_token"],"contacts":["x"],"unknown":{"a":1}}`: "none authorization_code,refresh_token web openid email offline_access",
		`{"redirect_uris":["cursor://x/cb"],"client_name":"Ünïcode ☃"}`: "none authorization_code,refresh_token native openid profile email offline_access",
	} {
		got := w.register(body)
		var out registered
		if err := json.Unmarshal([]byte(got.body), &out); err != nil || got.status != http.StatusCreated || out.ClientID == "" || out.Secret != "" || out.SecretExpires != nil {
			t.Errorf("%s: %d %s", body, got.status, got.body)
			continue
		}
		if said := fmt.Sprintf("%s %s %s %s", out.AuthMethod, strings.Join(out.GrantTypes, ","), out.ApplicationType, out.Scope); said != want {
			t.Errorf("%s: got %q, want %q", body, said, want)
		}
		if got.header.Get("Cache-Control") != "no-store" {
			t.Error("the answer may be kept")
		}
	}
	long := strings.Repeat(`"http://127.0.0.1/cb",`, maxRedirects) + `"http://127.0.0.1/cb"`
	for body, code := range map[string]string{
		``: codeInvalidMetadata, `[]`: codeInvalidMetadata, `{`: codeInvalidMetadata, `{"redirect_uris":"x"}`: codeInvalidMetadata,
		`{}`: codeInvalidRedirect, `{"redirect_uris":[]}`: codeInvalidRedirect, `{"redirect_uris":[` + long + `]}`: codeInvalidRedirect,
		`{"redirect_uris":["http://127.0.0.1/cb","javascript:alert(1)"]}`:                                        codeInvalidRedirect,
		`{"redirect_uris":["http://127.0.0.1/cb"],"application_type":"web"}`:                                     codeInvalidRedirect,
		`{"redirect_uris":["http://127.0.0.1/cb"],"application_type":"x"}`:                                       codeInvalidMetadata,
		`{"redirect_uris":["http://127.0.0.1/cb"],"token_endpoint_auth_method":"client_secret_basic"}`:           codeInvalidMetadata,
		`{"redirect_uris":["http://127.0.0.1/cb"],"token_endpoint_auth_method":"private_key_jwt"}`:               codeInvalidMetadata,
		`{"redirect_uris":["http://127.0.0.1/cb"],"grant_types":["client_credentials"]}`:                         codeInvalidMetadata,
		`{"redirect_uris":["http://127.0.0.1/cb"],"response_types":["token"]}`:                                   codeInvalidMetadata,
		`{"redirect_uris":["http://127.0.0.1/cb"],"client_name":"` + strings.Repeat("x", maxRegistration) + `"}`: codeInvalidMetadata,
	} {
		got := w.register(body)
		if got.status != http.StatusBadRequest || !strings.Contains(got.body, `"`+code+`"`) {
			t.Errorf("%.80s: %d %s, want %s", body, got.status, got.body, code)
		}
	}
	if got := w.browser().post(w.url+pathRegister, url.Values{"a": {"b"}}); got.status != http.StatusBadRequest {
		t.Errorf("a form: %d", got.status)
	}
}

func TestRegisterOff(t *testing.T) {
	w := newWorld(t, options{config: func(c *Config) { c.Registration = false }})
	if got := w.register(`{"redirect_uris":["http://127.0.0.1/cb"]}`); got.status != http.StatusNotFound {
		t.Errorf("%d %s", got.status, got.body)
	}
	if doc := w.browser().get(w.url + pathMetadata).body; strings.Contains(doc, "registration_endpoint") {
		t.Error("the metadata advertise it")
	}
}

// T17: however many register, the number of rows is bounded, and who is used stays.
func TestRegisterBounded(t *testing.T) {
	w := newWorld(t, options{})
	w.server.registering = newLimiter(0.001, 5, 1000, 1000)
	refused := 0
	for range 20 {
		if got := w.register(`{"redirect_uris":["http://127.0.0.1/cb"]}`); got.status == http.StatusTooManyRequests && got.header.Get("Retry-After") != "" {
			refused++
		}
	}
	if refused != 15 {
		t.Errorf("%d of 20 refused, want 15", refused)
	}
	// An address of its own has its own share.
	req, err := http.NewRequest("POST", w.url+pathRegister, strings.NewReader(`{"redirect_uris":["http://127.0.0.1/cb"]}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Forwarded-For", "198.51.100.7") // says whoever wants to
	if got := w.browser().do(req); got.status != http.StatusTooManyRequests {
		t.Errorf("an address of the client's own choice: %d", got.status)
	}
	req.Header.Set(addressHeader, "198.51.100.7")
	req.Body = io.NopCloser(strings.NewReader(`{"redirect_uris":["http://127.0.0.1/cb"]}`))
	if got := w.browser().do(req); got.status != http.StatusCreated {
		t.Errorf("another address: %d", got.status)
	}
}

// A client that is used is kept, one that is not goes after a day.
func TestClientExpiry(t *testing.T) {
	w := newWorld(t, options{})
	used, unused := w.app(), w.app()
	used.login(dev)
	for days, want := range map[int]map[string]bool{0: {used.id: true, unused.id: true}, 2: {used.id: true, unused.id: false}, 91: {used.id: false, unused.id: false}} {
		for id, there := range want {
			if _, err := w.db.Client(t.Context(), id, time.Now().AddDate(0, 0, days)); (err == nil) != there {
				t.Errorf("after %d days: %v, want there %t", days, err, there)
			}
		}
	}
}

func TestConfidentialClient(t *testing.T) {
	w := newWorld(t, options{config: func(c *Config) { c.Confidential = true }})
	for _, method := range []string{authBasic, authPost} {
		got := w.register(`{"redirect_uris":["https://app.example.com/cb"],"token_endpoint_auth_method":"` + method + `"}`)
		var out registered
		if err := json.Unmarshal([]byte(got.body), &out); err != nil || len(out.Secret) < 40 || out.SecretExpires == nil {
			t.Fatalf("%d %s", got.status, got.body)
		}
		w.canary(out.Secret)
		c, err := w.db.Client(t.Context(), out.ClientID, time.Now())
		if err != nil || string(c.SecretHash) != string(store.Hash(out.Secret)) {
			t.Errorf("kept secret: %x, %v", c.SecretHash, err)
		}
		f := (&app{w: w, id: out.ClientID, redirect: "https://app.example.com/cb"}).flow()
		code := f.code(w.browser(), dev)
		named := "" // beside the Authorization header
		ask := func(basic, post string) answer {
			t.Helper()
			v := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {f.redirect}, "code_verifier": {f.verifier}}
			if post != "" {
				v.Set("client_secret", post)
			}
			if basic == "" {
				v.Set("client_id", f.id)
			} else if named != "" {
				v.Set("client_id", named)
			}
			req, err := http.NewRequest("POST", w.url+pathToken, strings.NewReader(v.Encode()))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			if basic != "" {
				req.SetBasicAuth(url.QueryEscape(f.id), url.QueryEscape(basic))
			}
			return w.browser().do(req)
		}
		right, other := ask, func(a, b string) answer { return ask(b, a) }
		if method == authPost {
			right, other = other, right
		}
		for what, got := range map[string]answer{"none": right("", ""), "wrong": right("wrong-secret", ""), "the other way": other(out.Secret, ""), "both": ask(out.Secret, out.Secret)} {
			if got.status != http.StatusUnauthorized && got.status != http.StatusBadRequest {
				t.Errorf("%s, %s secret: %d %s", method, what, got.status, got.body)
			}
		}
		if method == authBasic {
			named = "somebody-else"
			if got := right(out.Secret, ""); got.status != http.StatusBadRequest {
				t.Errorf("client_id is another than the header's: %d %s", got.status, got.body)
			}
			named = f.id
		}
		if got := right(out.Secret, ""); got.status != http.StatusOK {
			t.Errorf("%s: %d %s", method, got.status, got.body)
		} else {
			var out tokens
			json.Unmarshal([]byte(got.body), &out)
			w.canary(out.AccessToken, out.RefreshToken)
		}
	}
	if got := w.register(`{"redirect_uris":["http://127.0.0.1/cb"],"token_endpoint_auth_method":"client_secret_basic"}`); got.status != http.StatusBadRequest {
		t.Errorf("a secret for a native client: %d", got.status)
	}
}

// T23: public documents.
func TestDocuments(t *testing.T) {
	w := newWorld(t, options{})
	b := w.browser()
	as, oidc := b.get(w.url+pathMetadata), b.get(w.url+pathOIDC)
	if as.body != oidc.body || as.status != http.StatusOK {
		t.Errorf("the documents differ: %s %s", as.body, oidc.body)
	}
	var doc map[string]any
	if err := json.Unmarshal([]byte(as.body), &doc); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{
		"issuer": w.url, "authorization_endpoint": w.url + pathAuthorize, "token_endpoint": w.url + pathToken, "jwks_uri": w.url + pathJWKS,
		"registration_endpoint": w.url + pathRegister, "revocation_endpoint": w.url + pathRevoke, "code_challenge_methods_supported": "[S256]",
		"authorization_response_iss_parameter_supported": "true", "token_endpoint_auth_methods_supported": "[none]", "response_types_supported": "[code]",
		"grant_types_supported": "[authorization_code refresh_token]", "scopes_supported": "[openid profile email offline_access]", "request_uri_parameter_supported": "false",
		"client_id_metadata_document_supported": "<nil>",
	} {
		if got := fmt.Sprint(doc[name]); got != want {
			t.Errorf("%s: got %s, want %v", name, got, want)
		}
	}
	for _, path := range []string{pathMetadata, pathJWKS} {
		got := b.get(w.url + path)
		if got.header.Get("Cache-Control") != "public, max-age=300" || got.header.Get("ETag") == "" || got.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %v", path, got.header)
		}
		req, err := http.NewRequest("GET", w.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("If-None-Match", got.header.Get("ETag"))
		req.Header.Set("Origin", "https://inspector.example.com")
		if again := b.do(req); again.status != http.StatusNotModified || again.body != "" || again.header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s again: %d %v", path, again.status, again.header)
		}
	}
	for path, want := range map[string]int{pathToken: http.StatusNoContent, pathRegister: http.StatusNoContent, pathRevoke: http.StatusNoContent, pathMetadata: http.StatusNoContent,
		pathAuthorize: http.StatusMethodNotAllowed, pathConsent: http.StatusMethodNotAllowed, pathCallback: http.StatusMethodNotAllowed} {
		req, err := http.NewRequest("OPTIONS", w.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Origin", "https://inspector.example.com")
		req.Header.Set("Access-Control-Request-Method", "POST")
		got := b.do(req)
		if got.status != want || (got.header.Get("Access-Control-Allow-Origin") != "") != (want == http.StatusNoContent) || got.header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("preflight of %s: %d %v", path, got.status, got.header)
		}
	}
	if got := b.get(w.url + "/oauth/nothing"); got.status != http.StatusNotFound {
		t.Errorf("%d", got.status)
	}
}
