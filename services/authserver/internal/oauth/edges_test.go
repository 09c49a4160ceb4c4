package oauth

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ory/fosite"

	"vmcp/internal/entra"
	"vmcp/internal/token"
	"vmcp/services/authserver/internal/store"
)

// TestMethods: each address takes its own methods; what programs read may be asked for its headers too.
func TestMethods(t *testing.T) {
	w := newWorld(t, options{})
	for _, tt := range []struct {
		method, path string
		status       int
	}{
		{"HEAD", pathMetadata, 200}, {"HEAD", pathJWKS, 200}, {"POST", pathMetadata, 405}, {"DELETE", pathJWKS, 405},
		{"HEAD", pathToken, 405}, {"GET", pathToken, 405}, {"HEAD", pathAuthorize, 405}, {"HEAD", pathConsent, 405}, {"GET", pathRegister, 405},
	} {
		req, err := http.NewRequest(tt.method, w.url+tt.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := w.browser().do(req); got.status != tt.status || got.header.Get("Retry-After") != "" {
			t.Errorf("%s %s: %d, Retry-After %q", tt.method, tt.path, got.status, got.header.Get("Retry-After"))
		}
	}
}

// TestChallenge: a client that proves itself by Basic is told how, and nobody else (RFC 6749 section 5.2).
func TestChallenge(t *testing.T) {
	w := newWorld(t, options{})
	for _, tt := range []struct {
		header, grant, code string
		challenge           bool
	}{
		{"Basic bm9ib2R5Ong=", "authorization_code", codeInvalidClient, true},
		{"", "authorization_code", codeInvalidClient, false},
		{"Basic bm9ib2R5Ong=", "", codeInvalidRequest, false},
	} {
		form := url.Values{"grant_type": {tt.grant}, "code": {"x"}, "redirect_uri": {callbackURI}}
		if tt.header == "" {
			form.Set("client_id", "nobody")
		}
		var header []string
		if tt.header != "" {
			header = []string{"Authorization", tt.header}
		}
		got := w.browser().post(w.url+pathToken, form, header...)
		if !strings.Contains(got.body, `"`+tt.code+`"`) || (got.header.Get("WWW-Authenticate") != "") != tt.challenge {
			t.Errorf("%+v: %d %s, WWW-Authenticate %q", tt, got.status, got.body, got.header.Get("WWW-Authenticate"))
		}
	}
}

func TestClientIPOf(t *testing.T) {
	for _, tt := range []struct{ header, remote, want string }{
		{"192.0.2.7", "10.0.0.1:77", "192.0.2.7"}, {"", "10.0.0.1:77", "10.0.0.1"}, {"", "[::1]:77", "::1"}, {"", "@", "unknown"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = tt.remote
		if tt.header != "" {
			r.Header.Set(addressHeader, tt.header)
		}
		if got := clientIP(r); got != tt.want {
			t.Errorf("%+v: %s", tt, got)
		}
	}
}

// TestLengths: the longest of each is taken, and one more is not.
func TestLengths(t *testing.T) {
	if _, err := parseParams(strings.Repeat("&", maxParams-1)); err != nil {
		t.Errorf("%d parameters: %v", maxParams, err)
	}
	if _, err := parseParams(strings.Repeat("&", maxParams)); err == nil {
		t.Errorf("%d parameters are taken", maxParams+1)
	}
	long := "https://a/" + strings.Repeat("x", 2000-len("https://a/"))
	if _, ok := canonicalResource(long); !ok {
		t.Error("a resource of 2000 bytes is refused")
	}
	if _, ok := canonicalResource(long + "x"); ok {
		t.Error("a resource of 2001 bytes is taken")
	}
	name := strings.Repeat("é", maxName)
	if got := displayName(name); got != name {
		t.Errorf("the longest name became %q", got)
	}
	if got := displayName(name + "é"); got != strings.Repeat("é", maxName-1)+"…" {
		t.Errorf("a longer name became %q", got)
	}
	if got := displayName("a\u0301\u0302\u0303\u0304b\u0301"); got != "a\u0301\u0302b\u0301" {
		t.Errorf("piled up marks became %q", got)
	}
	w := newWorld(t, options{})
	f, b := w.app().flow(), w.browser()
	back := f.signIn(f.agree(b), dev) + "&x="
	_, query, _ := strings.Cut(back, "?")
	if got := b.get(back + strings.Repeat("a", maxForm-len(query)+1)); got.status != http.StatusBadRequest {
		t.Errorf("an answer of Entra of %d bytes: %d", maxForm+1, got.status)
	}
	if got := b.get(back + strings.Repeat("a", maxForm-len(query))).location(t); got.Query().Get("code") == "" {
		t.Errorf("an answer of Entra of %d bytes leads to %s", maxForm, got.Path)
	} else {
		w.canary(got.Query().Get("code"))
	}
	uris := strings.TrimSuffix(strings.Repeat(`"http://127.0.0.1/cb",`, maxRedirects), ",")
	if got := w.register(`{"redirect_uris":[` + uris + `]}`); got.status != http.StatusCreated {
		t.Errorf("%d redirects: %d %s", maxRedirects, got.status, got.body)
	}
}

func TestErrorText(t *testing.T) {
	for err, want := range map[error]string{
		&Error{Code: "c", Text: "t"}:                           "c: t",
		&Error{Code: "c", Text: "t", cause: errors.New("why")}: "c: t: why",
	} {
		if err.Error() != want {
			t.Errorf("%q, want %q", err, want)
		}
	}
}

// TestNoForm: a page on which nothing can be sent lets nothing be sent.
func TestNoForm(t *testing.T) {
	w := newWorld(t, options{})
	if got := w.browser().get(w.url + "/nowhere").header.Get("Content-Security-Policy"); !strings.Contains(got, "form-action 'none';") {
		t.Errorf("the page's policy is %q", got)
	}
}

func TestShownAs(t *testing.T) {
	for want, who := range map[string]*entra.Identity{
		"Ann (ann@x)": {Name: "Ann", Username: "ann@x", Email: "other@x"}, "Ann (a@x)": {Name: "Ann", Email: "a@x"},
		"ann@x": {Username: "ann@x"}, "Ann": {Name: "Ann"},
	} {
		if got := shownAs(who); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestAdmitted: the cookie of a browser in which somebody signed in lives longer than a stranger's.
func TestAdmitted(t *testing.T) {
	w := newWorld(t, options{})
	life := func(b *store.Browser) (*store.Browser, string) {
		rec := httptest.NewRecorder()
		b, err := w.server.admit(t.Context(), rec, b)
		if err != nil || len(rec.Result().Cookies()) != 1 {
			t.Fatalf("%v, %v", rec.Result().Cookies(), err)
		}
		w.canary(rec.Result().Cookies()[0].Value)
		return b, fmt.Sprint(rec.Result().Cookies()[0].MaxAge)
	}
	b, got := life(nil)
	if want := fmt.Sprint(int(strangerTime / time.Second)); got != want {
		t.Errorf("a new browser: %s s, want %s", got, want)
	}
	if _, got = life(b); got != fmt.Sprint(int(strangerTime/time.Second)) {
		t.Errorf("a known browser: %s s", got)
	}
	b.Sub = "somebody"
	if _, got = life(b); got != fmt.Sprint(int(browserTime/time.Second)) {
		t.Errorf("a browser in which somebody signed in: %s s", got)
	}
}

func TestForget(t *testing.T) {
	w := newWorld(t, options{})
	if got, want := w.server.forget(), 15*time.Minute+token.Margin; got != want {
		t.Errorf("a revocation is remembered for %s, want %s", got, want)
	}
}

// TestUpstreamTokenKept: what Entra gives at a refresh is what it is asked with the next time.
func TestUpstreamTokenKept(t *testing.T) {
	w := newWorld(t, options{})
	a := w.app()
	got := a.login(dev)
	tsid := w.claims(got.AccessToken)["tsid"].(string)
	kept := func() string {
		g, err := w.db.Grant(t.Context(), tsid)
		if err != nil {
			t.Fatal(err)
		}
		w.canary(g.RefreshToken)
		return g.RefreshToken
	}
	before := kept()
	if got = a.refresh(got.RefreshToken); got.status != http.StatusOK {
		t.Fatalf("%+v", got)
	}
	if kept() == before {
		t.Error("the old token of Entra is kept, and the new one lost")
	}
}

// TestEndedFamilyIsUnknown: the storage below fosite knows no token of a sign-in that has ended, whoever asks.
func TestEndedFamilyIsUnknown(t *testing.T) {
	w := newWorld(t, options{})
	got := w.app().login(dev)
	_, signature, _ := strings.Cut(got.RefreshToken, ".")
	s := &storage{w.db, audience, w.server.end}
	if _, err := s.GetRefreshTokenSession(t.Context(), signature, nil); err != nil {
		t.Fatalf("a good token: %v", err)
	}
	if err := w.server.end(t.Context(), w.claims(got.AccessToken)["tsid"].(string), "test"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.GetRefreshTokenSession(t.Context(), signature, nil); !errors.Is(err, fosite.ErrNotFound) {
		t.Errorf("a token of an ended sign-in: %v", err)
	}
}
