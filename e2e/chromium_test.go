package e2e

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"vmcp/internal/await"
	"vmcp/internal/browser"
	"vmcp/internal/entrasim"
)

var screenshots = flag.String("screenshots", "", "write pictures of the sign-in pages to this `directory` (make screenshots)")

// task is one visit of a real browser with a fresh profile, see node/chromium.mjs.
type task struct {
	URL    string      `json:"url"`
	Press  [][2]string `json:"press"` // buttons, by name and value
	Scheme string      `json:"scheme"`
	Width  int         `json:"width"`
	Height int         `json:"height"`
	Script bool        `json:"script"`
	Shot   string      `json:"shot,omitempty"`
}

// visit is what came of a task.
type visit struct {
	URL        string
	Status     int
	Title      string
	Text       string
	Seen       []string // titles on the way
	Complaints []string // of the console: errors, among them those of the content security policy
	Overflow   bool     // the page is wider than the window
	Error      string
}

// chromium is a running browser.
type chromium struct {
	in   io.Writer
	out  *json.Decoder
	kill func() error
}

// startChromium starts Debian's Chromium, and skips the story, loudly, where there is none.
func startChromium(t *testing.T) *chromium {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		fmt.Fprintf(os.Stderr, "\n*** SKIPPED: %s needs Chromium (on Debian: apt-get install chromium). Nothing was shown about the pages in a real browser.\n\n", t.Name())
		t.Skip("no chromium on PATH")
	}
	cmd := exec.Command("node", "chromium.mjs")
	cmd.Dir = npm(t, "node")
	cmd.Env = append(os.Environ(), "CHROMIUM="+path)
	var complaint strings.Builder
	cmd.Stderr = &complaint
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close() // ends it
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Errorf("%v\n%s", err, complaint.String())
		}
	})
	return &chromium{in, json.NewDecoder(out), cmd.Process.Kill}
}

func (c *chromium) do(t *testing.T, task task) visit {
	t.Helper()
	line, err := json.Marshal(task)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.in.Write(append(line, '\n')); err != nil {
		t.Fatal(err)
	}
	var v visit
	answered := make(chan error, 1)
	go func() { answered <- c.out.Decode(&v) }()
	select {
	case err := <-answered:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(await.Limit):
		c.kill()
		t.Fatalf("%s: no answer of the browser", task.URL)
	}
	if v.Error != "" {
		t.Fatalf("%s: %s", task.URL, v.Error)
	}
	return v
}

// look is a window.
type look struct {
	name, scheme  string
	width, height int
}

var looks = []look{
	{"desktop-light", "light", 800, 600}, {"desktop-dark", "dark", 800, 600},
	{"phone-light", "light", 390, 844}, {"phone-dark", "dark", 390, 844},
}

// TestChromium: a real browser gets through the pages under their strict policy, with and without JavaScript, and they
// fit on a phone.
func TestChromium(t *testing.T) {
	c := startChromium(t)
	addr := freeAddress(t)
	if *screenshots != "" {
		addr = "127.0.0.1:4483" // as in the example
	}
	o := openOfficeAt(t, addr, 1)
	answers := make(chan url.Values, 100)
	listener := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // as a client on this machine
		if r.URL.Path != "/callback" {
			http.NotFound(w, r)
			return
		}
		answers <- r.URL.Query()
		fmt.Fprint(w, "<!doctype html><link rel=icon href=data:,><title>Connected</title>You can close this page.")
	}))
	t.Cleanup(listener.Close)
	app := o.app(t)
	app.RedirectURI = listener.URL + "/callback" // of loopback redirects any port is good (RFC 8252 section 7.3)
	approve, pick := [2]string{"decision", "approve"}, func(name string) [2]string { return [2]string{"account", account(name)} }

	for _, script := range []bool{true, false} {
		for _, l := range looks {
			verifier := rand43()
			v := c.do(t, task{app.AuthorizeURL(verifier, "the-state"), [][2]string{approve, pick("dev")}, l.scheme, l.width, l.height, script, ""})
			if want := []string{"Let e2e use engineering-tools?", "Pick an account (simulated Entra tenant)", "Connected"}; !slices.Equal(v.Seen, want) || len(v.Complaints) > 0 {
				t.Errorf("%s, JavaScript %t: the way was %q, want %q; the console says %q", l.name, script, v.Seen, want, v.Complaints)
				continue
			}
			q := <-answers
			if q.Get("state") != "the-state" || q.Get("iss") != app.Issuer {
				t.Errorf("the client was answered %v", q)
			}
			tokens, err := app.Redeem(t.Context(), q.Get("code"), verifier)
			if err != nil || !o.accepted(t, tokens.Access) {
				t.Errorf("%s: %v", l.name, err)
			}
		}
	}
	// Cancel leads back, too.
	if v := c.do(t, task{app.AuthorizeURL(rand43(), "s"), [][2]string{{"decision", "deny"}}, "light", 800, 600, true, ""}); v.Title != "Connected" || len(v.Complaints) > 0 {
		t.Errorf("cancel: %+v", v)
	} else if q := <-answers; q.Get("error") != "access_denied" {
		t.Errorf("cancel: %v", q)
	}
	pictures(t, o, c)
}

// pictures visits each kind of page in each window. With -screenshots it writes what they look like.
func pictures(t *testing.T, o *office, c *chromium) {
	approve, pick := [2]string{"decision", "approve"}, func(name string) [2]string { return [2]string{"account", account(name)} }
	named, err := browser.NewApplication(t.Context(), o.URL, "Claude Code")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []struct {
		name   string
		status int
		says   string
		press  [][2]string
		faults entrasim.Faults
	}{
		{"consent", 200, "wants to use the tools of", nil, entrasim.Faults{}},
		{"no-role", 403, "has no role", [][2]string{approve, pick("norole")}, entrasim.Faults{}},
		{"error", 503, "not available at the moment", [][2]string{approve, pick("dev")}, entrasim.Faults{TokenError: 90033}},
	} {
		o.entra.SetFaults(p.faults)
		for _, l := range looks {
			shot := ""
			if *screenshots != "" {
				dir := filepath.Join(root, *screenshots)
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				shot = filepath.Join(dir, p.name+"-"+l.name+".png")
			}
			v := c.do(t, task{named.AuthorizeURL(rand43(), "s"), p.press, l.scheme, l.width, l.height, true, shot})
			if shot != "" {
				shrink(t, shot)
			}
			if v.Status != p.status || !strings.Contains(v.Title+v.Text, p.says) || v.Overflow {
				t.Errorf("%s, %s: %d %q %q, wider than the window: %t", p.name, l.name, v.Status, v.Title, v.Text, v.Overflow)
			}
			for _, complaint := range v.Complaints { // that it is an error, is in the console as well
				if p.status == 200 || !strings.Contains(complaint, fmt.Sprintf("status of %d", p.status)) {
					t.Errorf("%s, %s: the console says %s", p.name, l.name, complaint)
				}
			}
		}
		o.entra.SetFaults(entrasim.Faults{})
	}
}

// shrink rewrites a picture with its 256 most frequent colours, which is all of such a page but shades of letters.
func shrink(t *testing.T, file string) {
	t.Helper()
	in, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	full, err := png.Decode(in)
	in.Close()
	if err != nil {
		t.Fatal(err)
	}
	count := map[color.Color]int{}
	b := full.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			count[full.At(x, y)]++
		}
	}
	colours := slices.SortedFunc(maps.Keys(count), func(a, b color.Color) int { return cmp.Compare(count[b], count[a]) })
	small := image.NewPaletted(b, colours[:min(256, len(colours))])
	draw.Draw(small, b, full, b.Min, draw.Src)
	out, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := cmp.Or((&png.Encoder{CompressionLevel: png.BestCompression}).Encode(out, small), out.Close()); err != nil {
		t.Fatal(err)
	}
}
