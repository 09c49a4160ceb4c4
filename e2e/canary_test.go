package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"vmcp/internal/entrasim"
	"vmcp/internal/stack"
)

// canaries are the secrets that went over the wire in all stories so far. None may stand in a log.
type canaries struct {
	mu sync.Mutex
	of map[string]string // value → what it is
}

var secrets = canaries{of: map[string]string{}}

func (c *canaries) add(what, value string) {
	if len(value) < 12 { // what a person wrote, or nothing
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of[value] = what
}

// kinds counts what was collected.
func (c *canaries) kinds() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	kinds := map[string]int{}
	for _, what := range c.of {
		kinds[what]++
	}
	return kinds
}

// secretParameters are those that nobody else may learn, in queries, forms and JSON answers of OAuth.
var secretParameters = []string{"code", "code_verifier", "client_secret", "access_token", "refresh_token", "id_token", "token", "transaction", "state"}

func (c *canaries) addAll(v url.Values) {
	for _, name := range secretParameters {
		c.add(name, v.Get(name))
	}
}

// looksSecret is what must not be in a log whoever it belongs to: a JWT, and what the simulated tenant gives out.
var looksSecret = regexp.MustCompile(`eyJ[A-Za-z0-9_-]{17,}|` + regexp.QuoteMeta(entrasim.CodePrefix) + `|` + regexp.QuoteMeta(entrasim.RefreshPrefix))

// witness takes note of every secret that a client of these tests sends or gets, and changes nothing.
type witness struct{ next http.RoundTripper }

func (w witness) RoundTrip(r *http.Request) (*http.Response, error) {
	secrets.addAll(r.URL.Query())
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		secrets.add("access_token", token)
	}
	for _, cookie := range r.Cookies() {
		secrets.add("cookie", cookie.Value)
	}
	if r.Body != nil && r.Header.Get("Content-Type") == "application/x-www-form-urlencoded" {
		body, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil {
			return nil, err
		}
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(body))
		if form, err := url.ParseQuery(string(body)); err == nil {
			secrets.addAll(form)
		}
	}
	resp, err := w.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	for _, cookie := range resp.Cookies() {
		secrets.add("cookie", cookie.Value)
	}
	if to, err := resp.Location(); err == nil {
		secrets.addAll(to.Query())
	}
	if strings.HasSuffix(r.URL.Path, "/token") && resp.StatusCode == http.StatusOK {
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			return nil, err
		}
		resp.Body = io.NopCloser(bytes.NewReader(body))
		var answer map[string]any
		if json.Unmarshal(body, &answer) == nil {
			for _, name := range secretParameters {
				text, _ := answer[name].(string)
				secrets.add(name, text)
			}
		}
	}
	return resp, nil
}

// silent fails the story where a secret stands in what the gateway wrote down: logs of the services and of Envoy, the
// access log, the audit trail. In authserver's database, what must be known later is hashed or sealed.
func (w *world) silent(t *testing.T) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(w.State, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		var kinds []string
		switch name := d.Name(); {
		case strings.HasPrefix(name, "authserver.db"): // requests wait there with the client's state, and with nothing else of this
			kinds = []string{"code", "code_verifier", "client_secret", "access_token", "refresh_token", "id_token", "cookie", "secret"}
		case filepath.Ext(name) != ".log" && filepath.Ext(name) != ".jsonl":
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		w.clean(t, filepath.Base(path), text, kinds...)
		return nil
	})
	if err != nil || files < 4 {
		t.Errorf("looking for secrets in %d files of %s: %v", files, w.State, err)
	}
}

// metrics looks for secrets in what the running gateway tells about itself.
func (w *world) metrics(t *testing.T) {
	t.Helper()
	for service, path := range map[string]string{"authz": "/metrics", "aggregator": "/metrics", "authserver": "/metrics", "envoy": "/stats"} {
		w.clean(t, path+" of "+service, []byte(w.page(t, service, path)))
	}
}

// page is one of a service's admin listener.
func (w *world) page(t *testing.T, service, path string) string {
	t.Helper()
	client := stack.Client(w.Socket(service + "-admin"))
	defer client.CloseIdleConnections()
	resp, err := client.Get("http://admin" + path)
	if err != nil {
		t.Errorf("%s of %s: %v", path, service, err)
		return ""
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || len(text) < 100 {
		t.Errorf("%s of %s: %d bytes, %v", path, service, len(text), err)
	}
	return string(text)
}

func (w *world) clean(t *testing.T, what string, text []byte, kinds ...string) {
	t.Helper()
	for _, leak := range leaks(text, kinds...) {
		t.Errorf("%s: %s", what, leak)
	}
}

// leaks are lines that hold a secret of these kinds, of any without, a few.
func leaks(text []byte, kinds ...string) []string {
	line := func(at int) string {
		end := bytes.IndexByte(text[at:], '\n')
		if end < 0 {
			end = len(text) - at
		}
		return string(text[bytes.LastIndexByte(text[:at], '\n')+1 : at+end])
	}
	var found []string
	for _, at := range looksSecret.FindAllIndex(text, -1) {
		if isToken(text[at[0]:at[1]]) {
			found = append(found, "a token in: "+line(at[0]))
			break
		}
	}
	secrets.mu.Lock()
	defer secrets.mu.Unlock()
	for value, what := range secrets.of {
		if len(kinds) > 0 && !slices.Contains(kinds, what) {
			continue
		}
		if at := bytes.Index(text, []byte(value)); at >= 0 && len(found) < 3 {
			found = append(found, what+" in: "+line(at))
		}
	}
	return found
}

// isToken says of what looks like one that it is: sealed and hashed values begin like a JWT now and then, by chance, but
// only a JWT goes on as JSON.
func isToken(text []byte) bool {
	const head = 20
	if !bytes.HasPrefix(text, []byte("eyJ")) {
		return true
	}
	json, err := base64.RawURLEncoding.DecodeString(string(text[:min(len(text), head)]))
	return err != nil || !bytes.ContainsFunc(json, func(r rune) bool { return r < ' ' || r > '~' })
}

// TestCanaries: what the other stories rely on: every kind of secret is noticed on the wire, and found in a log.
func TestCanaries(t *testing.T) {
	o := openOffice(t, 1)
	l := o.signIn(t, "dev")
	l.refresh(t)
	if err := l.Revoke(t.Context(), l.Refresh); err != nil {
		t.Fatal(err)
	}
	for _, form := range o.entra.TokenRequests() {
		secrets.addAll(form)
	}
	kinds := secrets.kinds()
	for _, kind := range append(secretParameters, "cookie", "secret") {
		if kind == "id_token" || kind == "token" { // Entra's, which no client of these tests gets; one that is given back
			continue
		}
		if kinds[kind] == 0 {
			t.Errorf("no %s was noticed", kind)
		}
	}
	for _, secret := range []string{l.Access, l.Refresh, o.secret, "eyJhbGciOiJSUzI1NiIs", entrasim.CodePrefix + "x", entrasim.RefreshPrefix + "x"} {
		if got := leaks([]byte("a line\n{\"path\":\"/x?y=" + secret + "&z\"}\nanother\n")); len(got) == 0 || !strings.HasSuffix(got[0], `&z"}`) {
			t.Errorf("not found in a log: %q", got)
		}
	}
	if got := leaks([]byte("a line\nanother")); len(got) > 0 {
		t.Errorf("found %q", got)
	}
}
