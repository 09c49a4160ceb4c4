package oauth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"vmcp/internal/entrasim"
)

// browser is one with its own cookies, which follows nothing.
type browser struct {
	w *world
	*http.Client
}

func (w *world) browser() *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return &browser{w, &http.Client{Jar: jar, Timeout: 20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) location(t testing.TB) *url.URL {
	t.Helper()
	if a.status != http.StatusSeeOther {
		t.Fatalf("got %d, want a redirect: %s", a.status, a.text())
	}
	u, err := url.Parse(a.header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	return u
}

var tags = regexp.MustCompile(`(?s)<style.*?</style>|<[^>]*>`)

// text is what a person reads.
func (a answer) text() string {
	return strings.Join(strings.Fields(html.UnescapeString(tags.ReplaceAllString(a.body, " "))), " ")
}

var referenceForm = regexp.MustCompile(`reference <code>([A-Z2-7]{8})</code>`)

func (a answer) reference(t testing.TB) string {
	t.Helper()
	m := referenceForm.FindStringSubmatch(a.body)
	if m == nil {
		t.Fatalf("no reference on the page: %s", a.text())
	}
	return m[1]
}

func (b *browser) do(req *http.Request) answer {
	b.w.t.Helper()
	resp, err := b.Do(req)
	if err != nil {
		b.w.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.w.t.Fatal(err)
	}
	for _, c := range resp.Cookies() {
		b.w.canary(c.Value)
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

func (b *browser) get(address string) answer {
	b.w.t.Helper()
	req, err := http.NewRequest("GET", address, nil)
	if err != nil {
		b.w.t.Fatal(err)
	}
	return b.do(req)
}

func (b *browser) post(address string, form url.Values, header ...string) answer {
	b.w.t.Helper()
	req, err := http.NewRequest("POST", address, strings.NewReader(form.Encode()))
	if err != nil {
		b.w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return b.do(req)
}

var hidden = regexp.MustCompile(`<input type="hidden" name="([a-z]+)" value="([^"]*)">`)

// form are the hidden fields of a page.
func form(page string) url.Values {
	v := url.Values{}
	for _, m := range hidden.FindAllStringSubmatch(page, -1) {
		v.Set(m[1], html.UnescapeString(m[2]))
	}
	return v
}

// app is a registered client.
type app struct {
	w        *world
	id       string
	redirect string
}

func (w *world) register(body string) answer {
	w.t.Helper()
	req, err := http.NewRequest("POST", w.url+pathRegister, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	return w.browser().do(req)
}

// app registers a client with a loopback redirect URI without a port, as native clients do.
func (w *world) app() *app { return w.appAt("http://127.0.0.1/callback", callbackURI) }

// webApp registers a client on the web.
func (w *world) webApp() *app { return w.appAt(webCallback, webCallback) }

func (w *world) appAt(registers, uses string) *app {
	w.t.Helper()
	a := w.register(`{"client_name":"Test Client","redirect_uris":["` + registers + `"]}`)
	var out registered
	if err := json.Unmarshal([]byte(a.body), &out); err != nil || a.status != http.StatusCreated {
		w.t.Fatalf("registration: %d %s", a.status, a.body)
	}
	return &app{w: w, id: out.ClientID, redirect: uses}
}

// flow is one sign-in of an app.
type flow struct {
	*app
	verifier string
	state    string
	params   url.Values
}

func (a *app) flow() *flow {
	f := &flow{app: a, verifier: rand.Text() + rand.Text(), state: rand.Text()}
	a.w.canary(f.verifier)
	sum := sha256.Sum256([]byte(f.verifier))
	f.params = url.Values{"response_type": {"code"}, "client_id": {a.id}, "redirect_uri": {a.redirect}, "state": {f.state},
		"code_challenge": {base64url(sum[:])}, "code_challenge_method": {"S256"}, "scope": {"openid offline_access"}, "resource": {endpointURL}}
	return f
}

func (f *flow) address() string { return f.w.url + pathAuthorize + "?" + f.params.Encode() }

// agree gets through the consent page to Entra's address.
func (f *flow) agree(b *browser) *url.URL {
	f.w.t.Helper()
	page := b.get(f.address())
	if page.status != http.StatusOK || !strings.Contains(page.body, "Continue to sign-in") {
		f.w.t.Fatalf("consent page: %d %s", page.status, page.text())
	}
	fields := form(page.body)
	f.w.canary(fields.Get("transaction"))
	fields.Set("decision", "approve")
	return b.post(f.w.url+pathConsent, fields).location(f.w.t)
}

// signIn picks the account at Entra, which sends the browser back: the address of our callback.
func (f *flow) signIn(to *url.URL, upn string) string {
	f.w.t.Helper()
	f.w.canary(to.Query().Get("state"), to.Query().Get("nonce"))
	back, err := entrasim.SignIn(f.w.t.Context(), nil, to.String(), upn)
	if err != nil {
		f.w.t.Fatal(err)
	}
	f.w.canary(back.Query().Get("code"))
	return back.String()
}

// code goes through everything and returns the client's code.
func (f *flow) code(b *browser, upn string) string {
	f.w.t.Helper()
	q := b.get(f.signIn(f.agree(b), upn)).location(f.w.t).Query()
	if q.Get("code") == "" || q.Get("state") != f.state || q.Get("iss") != f.w.url {
		f.w.t.Fatalf("answer to the client: %v", q)
	}
	f.w.canary(q.Get("code"))
	return q.Get("code")
}

// tokens is an answer of the token endpoint.
type tokens struct {
	tokenResponse
	Error       string `json:"error"`
	Description string `json:"error_description"`
	status      int
	header      http.Header
}

func (a *app) ask(form url.Values) tokens {
	a.w.t.Helper()
	if !form.Has("client_id") {
		form.Set("client_id", a.id)
	}
	return a.w.ask(form)
}

func (w *world) ask(form url.Values) tokens {
	w.t.Helper()
	got := w.browser().post(w.url+pathToken, form)
	out := tokens{status: got.status, header: got.header}
	if err := json.Unmarshal([]byte(got.body), &out); err != nil {
		w.t.Fatalf("token endpoint: %d %s", got.status, got.body)
	}
	w.canary(out.AccessToken, out.RefreshToken)
	return out
}

func (f *flow) redeem(code string) tokens {
	f.w.t.Helper()
	return f.ask(url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {f.redirect}, "code_verifier": {f.verifier}, "resource": {endpointURL}})
}

func (a *app) refresh(token string) tokens {
	a.w.t.Helper()
	return a.ask(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}, "resource": {endpointURL}})
}

// login signs a person in with a fresh browser.
func (a *app) login(upn string) tokens {
	a.w.t.Helper()
	f := a.flow()
	out := f.redeem(f.code(a.w.browser(), upn))
	if out.status != http.StatusOK {
		a.w.t.Fatalf("login: %d %s %s", out.status, out.Error, out.Description)
	}
	return out
}
