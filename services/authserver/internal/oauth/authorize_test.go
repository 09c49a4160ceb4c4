package oauth

import (
	"database/sql"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// refusedPage: the person is told, nothing goes anywhere, and the reference stands in the log (T01, T03).
func refusedPage(t *testing.T, w *world, what string, got answer, status int) {
	t.Helper()
	if got.status != status || got.header.Get("Location") != "" || !strings.Contains(got.header.Get("Content-Type"), "text/html") {
		t.Errorf("%s: got %d to %q, want a page with %d: %s", what, got.status, got.header.Get("Location"), status, got.text())
		return
	}
	if !w.logged(got.reference(t)) {
		t.Errorf("%s: the reference is not in the log", what)
	}
}

// refusedToClient: the client hears of it with its state and our issuer (T08).
func refusedToClient(t *testing.T, f *flow, what string, got answer, code string) {
	t.Helper()
	if got.status != http.StatusSeeOther {
		t.Errorf("%s: got %d, want a redirect with %s: %s", what, got.status, code, got.text())
		return
	}
	u := got.location(t)
	q := u.Query()
	if !strings.HasPrefix(u.String(), f.redirect+"?") || q.Get("error") != code || q.Get("iss") != f.w.url || q.Get("state") != f.params.Get("state") || q.Has("code") {
		t.Errorf("%s: redirected to %s, want %s", what, u, code)
	}
}

// refusedOnPage: the error is on a page of ours, and the client hears of it where the person follows the link, which says
// where it leads (T03).
func refusedOnPage(t *testing.T, f *flow, what string, got answer, code string, status int) {
	t.Helper()
	refusedPage(t, f.w, what, got, status)
	title := "This request was refused"
	if code == codeAccessDenied {
		title = "Nothing was connected"
	}
	if !strings.Contains(got.text(), title) {
		t.Errorf("%s: %q is not on the page: %s", what, title, got.text())
	}
	if q := backLink(t, f, got); q.Get("error") != code || q.Get("iss") != f.w.url || q.Has("code") || !strings.Contains(got.text(), "Back to Test Client at app.example.com") {
		t.Errorf("%s: the link leads to %v, want %s: %s", what, q, code, got.text())
	}
}

func TestAuthorizeRefuses(t *testing.T) {
	w := newWorld(t, options{})
	a, site := w.app(), w.webApp()
	b, agreed := w.browser(), w.browser()
	site.flow().code(agreed, dev)
	for what, change := range map[string]func(*flow) string{
		"no client":            func(f *flow) string { f.params.Del("client_id"); return f.address() },
		"unknown client":       func(f *flow) string { f.params.Set("client_id", "nobody"); return f.address() },
		"no redirect":          func(f *flow) string { f.params.Del("redirect_uri"); return f.address() },
		"another redirect":     func(f *flow) string { f.params.Set("redirect_uri", "https://evil.example.com/cb"); return f.address() },
		"another path":         func(f *flow) string { f.params.Set("redirect_uri", callbackURI+"/x"); return f.address() },
		"two redirects":        func(f *flow) string { return f.address() + "&redirect_uri=" + url.QueryEscape(callbackURI) },
		"two states":           func(f *flow) string { return f.address() + "&state=x" },
		"two clients":          func(f *flow) string { return f.address() + "&client_id=x" },
		"a broken escape":      func(f *flow) string { return f.address() + "&x=%zz" },
		"a semicolon":          func(f *flow) string { return f.address() + "&x=1;y=2" },
		"a zero byte":          func(f *flow) string { return f.address() + "&x=%00" },
		"no UTF-8":             func(f *flow) string { return f.address() + "&x=%ff" },
		"too long a query":     func(f *flow) string { return f.ofLength(maxQuery + 1) },
		"very many parameters": func(f *flow) string { return f.address() + strings.Repeat("&a=", maxParams) },
		"unknown client and code": func(f *flow) string {
			f.params.Set("client_id", "x")
			f.params.Del("code_challenge")
			return f.address()
		},
	} {
		refusedPage(t, w, what, b.get(change(a.flow())), http.StatusBadRequest)
	}
	for what, tt := range map[string]struct {
		change func(*flow)
		code   string
	}{
		"no response type":     {func(f *flow) { f.params.Del("response_type") }, codeUnsupportedType},
		"implicit":             {func(f *flow) { f.params.Set("response_type", "token") }, codeUnsupportedType},
		"hybrid":               {func(f *flow) { f.params.Set("response_type", "code id_token") }, codeUnsupportedType},
		"fragment":             {func(f *flow) { f.params.Set("response_mode", "fragment") }, codeInvalidRequest},
		"no challenge":         {func(f *flow) { f.params.Del("code_challenge") }, codeInvalidRequest},
		"no method":            {func(f *flow) { f.params.Del("code_challenge_method") }, codeInvalidRequest},
		"plain":                {func(f *flow) { f.params.Set("code_challenge_method", "plain") }, codeInvalidRequest},
		"short challenge":      {func(f *flow) { f.params.Set("code_challenge", "abc") }, codeInvalidRequest},
		"request object":       {func(f *flow) { f.params.Set("request", "eyJhbGciOiJub25lIn0.e30.") }, codeRequestObject},
		"request uri":          {func(f *flow) { f.params.Set("request_uri", "https://evil.example.com/r") }, codeRequestURI},
		"pushed request":       {func(f *flow) { f.params.Set("request_uri", "urn:ietf:params:oauth:request_uri:x") }, codeRequestURI},
		"another resource":     {func(f *flow) { f.params.Set("resource", "https://other.example.com/mcp") }, codeInvalidTarget},
		"two resources":        {func(f *flow) { f.params.Add("resource", audience) }, codeInvalidTarget},
		"resource, fragment":   {func(f *flow) { f.params.Set("resource", endpointURL+"#x") }, codeInvalidTarget},
		"resource, two slashs": {func(f *flow) { f.params.Set("resource", endpointURL+"//") }, codeInvalidTarget},
		"unknown scope":        {func(f *flow) { f.params.Set("scope", "openid admin") }, codeInvalidScope},
		"nobody may be asked":  {func(f *flow) { f.params.Set("prompt", "none") }, codeLoginRequired},
		"no state":             {func(f *flow) { f.params.Del("state"); f.params.Set("scope", "x") }, codeInvalidScope},
	} {
		f := a.flow()
		tt.change(f)
		refusedToClient(t, f, what, b.get(f.address()), tt.code)

		f = site.flow()
		tt.change(f)
		refusedOnPage(t, f, what+", a site", b.get(f.address()), tt.code, http.StatusBadRequest)
		refusedToClient(t, f, what+", a site that was agreed to", agreed.get(f.address()), tt.code)
	}
	f := w.webApp().flow()
	f.params.Set("scope", "x")
	refusedOnPage(t, f, "another client of that site", agreed.get(f.address()), codeInvalidScope, http.StatusBadRequest)
	for _, method := range []string{"POST", "PUT", "HEAD", "DELETE"} {
		req, err := http.NewRequest(method, a.flow().address(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := b.do(req); got.status != http.StatusMethodNotAllowed || got.header.Get("Allow") != "GET" {
			t.Errorf("%s: %d", method, got.status)
		}
	}
}

// What clients send that is fine (T02, T15).
func TestAuthorizeAccepts(t *testing.T) {
	w := newWorld(t, options{})
	a := w.app()
	for what, change := range map[string]func(*flow){
		"no state":               func(f *flow) { f.params.Del("state"); f.state = "" },
		"short state":            func(f *flow) { f.params.Set("state", "x"); f.state = "x" },
		"state to be escaped":    func(f *flow) { f.state = `a b&c=d#"<é`; f.params.Set("state", f.state) },
		"no scope":               func(f *flow) { f.params.Del("scope") },
		"no resource":            func(f *flow) { f.params.Del("resource") },
		"resource as audience":   func(f *flow) { f.params.Set("resource", audience) },
		"resource with slash":    func(f *flow) { f.params.Set("resource", endpointURL+"/") },
		"resource in upper case": func(f *flow) { f.params.Set("resource", "HTTPS://MCP.EXAMPLE.COM/mcp") },
		"another port":           func(f *flow) { f.redirect = "http://127.0.0.1:1024/callback"; f.params.Set("redirect_uri", f.redirect) },
		"response mode":          func(f *flow) { f.params.Set("response_mode", "query") },
		"unknown parameters": func(f *flow) {
			f.params.Set("audience", "https://x")
			f.params.Set("registration", "{}")
			f.params.Set("x", "y")
		},
		"prompt": func(f *flow) { f.params.Set("prompt", "select_account consent") },
	} {
		f := a.flow()
		change(f)
		b := w.browser()
		back := b.get(f.signIn(f.agree(b), dev)).location(t)
		q := back.Query()
		if !strings.HasPrefix(back.String(), f.redirect+"?") || q.Get("code") == "" || q.Get("state") != f.state || q.Has("state") != (f.state != "") || q.Get("iss") != w.url {
			t.Errorf("%s: %s", what, back)
			continue
		}
		w.canary(q.Get("code"))
		got := f.redeem(q.Get("code"))
		if got.status != http.StatusOK || fmt.Sprint(w.claims(got.AccessToken)["aud"]) != "["+audience+"]" {
			t.Errorf("%s: %+v", what, got)
		}
	}
}

// ofLength is an address whose query has so many bytes.
func (f *flow) ofLength(n int) string {
	address := f.address() + "&x="
	_, query, _ := strings.Cut(address, "?")
	return address + strings.Repeat("a", n-len(query))
}

func TestLongestQuery(t *testing.T) {
	w := newWorld(t, options{})
	if got := w.browser().get(w.app().flow().ofLength(maxQuery)); got.status != http.StatusOK {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// TestHintsToEntra: what a client says of the person and of how to ask goes on to Entra, where Entra knows it.
func TestHintsToEntra(t *testing.T) {
	w := newWorld(t, options{})
	for _, tt := range []struct{ prompt, hint, wantPrompt, wantHint string }{
		{"login", "", "login", ""},
		{"consent select_account", "", "select_account", ""},
		{"consent", "", "", ""},
		{"create", strings.Repeat("h", 256), "", strings.Repeat("h", 256)},
		{"", strings.Repeat("h", 257), "", ""},
	} {
		f := w.app().flow()
		f.params.Set("prompt", tt.prompt)
		f.params.Set("login_hint", tt.hint)
		q := f.agree(w.browser()).Query()
		if q.Get("prompt") != tt.wantPrompt || q.Get("login_hint") != tt.wantHint {
			t.Errorf("prompt %q, login_hint of %d bytes: Entra gets %q and %q", tt.prompt, len(tt.hint), q.Get("prompt"), q.Get("login_hint"))
		}
	}
}

// The resource never reaches Entra, and what Entra gets is complete.
func TestToEntra(t *testing.T) {
	w := newWorld(t, options{})
	f := w.app().flow()
	f.params.Set("login_hint", dev)
	to := f.agree(w.browser())
	q := to.Query()
	if !strings.HasPrefix(to.String(), w.sim.URL) || q.Has("resource") || q.Get("code_challenge_method") != "S256" || len(q.Get("state")) < 40 ||
		len(q.Get("nonce")) < 40 || q.Get("redirect_uri") != w.url+pathCallback || q.Get("login_hint") != dev || q.Get("state") == f.state {
		t.Errorf("to Entra: %s", to)
	}
}

// rows counts what sign-ins leave behind before anybody has signed in.
func (w *world) rows(table string) (n int) {
	w.t.Helper()
	db, err := sql.Open("sqlite", "file:"+w.file)
	if err != nil {
		w.t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow("SELECT count(*) FROM " + table).Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

// T24: many who start and do not finish are slowed down, by address; who opens pages leaves nothing behind, and who fills
// what is kept after consent shuts nobody out.
func TestStartsAreBounded(t *testing.T) {
	w := newWorld(t, options{})
	w.server.starting = newLimiter(1, 20, 1000, 1000)
	a := w.app()
	refused := 0
	for range 60 {
		if got := w.browser().get(a.flow().address()); got.status == http.StatusTooManyRequests {
			refused++
			if after := got.header.Get("Retry-After"); after != "60" {
				t.Errorf("Retry-After %q, want a minute", after)
			}
		}
	}
	if refused < 35 {
		t.Errorf("%d of 60 refused", refused)
	}
	for _, table := range []string{"browsers", "pending"} {
		if n := w.rows(table); n != 0 {
			t.Errorf("%d rows of %s before anybody agreed", n, table)
		}
	}

	w.server.starting = newLimiter(0.001, 2, 1000, 1000)
	a.flow().agree(w.browser()) // a page and an answer to it
	if got := w.browser().get(a.flow().address()); got.status != http.StatusTooManyRequests {
		t.Errorf("the answer to a page is not counted: %d", got.status)
	}

	w.server.starting = newLimiter(10_000, 10_000, 10_000, 10_000)
	w.sql(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < ?)
		INSERT INTO browsers (cookie_hash, sub, expires_at) SELECT CAST(i AS BLOB), '', ? + i FROM n`, maxPending+100, time.Now().Add(time.Minute).UnixMicro())
	w.sql("INSERT INTO pending SELECT cookie_hash, id, '', 1, '', expires_at FROM browsers")
	a.login(dev)
	if n := w.rows("pending"); n > maxPending {
		t.Errorf("%d rows of pending, want at most %d", n, maxPending)
	}
	if n := w.rows("browsers WHERE sub = ''"); n > maxPending {
		t.Errorf("%d browsers of strangers, want at most %d", n, maxPending)
	}
}
