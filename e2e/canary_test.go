package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"vmcp/internal/entrasim"
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
var looksSecret = regexp.MustCompile(`eyJ[A-Za-z0-9_-]{16,}|` + regexp.QuoteMeta(entrasim.CodePrefix) + `|` + regexp.QuoteMeta(entrasim.RefreshPrefix))

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

// silent fails the story where a secret stands in what the gateway wrote down for people: logs of the services and of
// Envoy, the access log, the audit trail, metrics. Databases and keys are no logs.
func (w *world) silent(t *testing.T) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(w.State, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".log" && filepath.Ext(path) != ".jsonl" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		for _, leak := range leaks(text) {
			t.Errorf("%s: %s", filepath.Base(path), leak)
		}
		return nil
	})
	if err != nil || files < 4 {
		t.Errorf("looking for secrets in %d files of %s: %v", files, w.State, err)
	}
}

// leaks are lines of a log that hold a secret, a few.
func leaks(text []byte) []string {
	secrets.mu.Lock()
	defer secrets.mu.Unlock()
	var found []string
	line := func(at int) string {
		end := bytes.IndexByte(text[at:], '\n')
		if end < 0 {
			end = len(text) - at
		}
		return string(text[bytes.LastIndexByte(text[:at], '\n')+1 : at+end])
	}
	if at := looksSecret.FindIndex(text); at != nil {
		found = append(found, "a token in: "+line(at[0]))
	}
	for value, what := range secrets.of {
		if at := bytes.Index(text, []byte(value)); at >= 0 && len(found) < 3 {
			found = append(found, what+" in: "+line(at))
		}
	}
	return found
}
