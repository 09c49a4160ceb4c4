package oauth

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// T01, T02: what a client may register.
func TestCheckRedirect(t *testing.T) {
	for _, tt := range []struct {
		uri, kind string
		ok        bool
	}{
		{"https://app.example.com/cb", "web", true}, {"https://app.example.com/cb", "native", true}, {"https://app.example.com", "web", true},
		{"https://app.example.com:8443/cb?x=1", "web", true},
		{"http://127.0.0.1/cb", "native", true}, {"http://127.0.0.1:8080/cb", "native", true}, {"http://[::1]/cb", "native", true}, {"http://localhost/cb", "native", true},
		{"http://localhost/cb", "web", false}, {"https://localhost/cb", "web", false}, {"http://app.example.com/cb", "native", false},
		{"http://127.0.0.2/cb", "native", false}, {"http://0.0.0.0/cb", "native", false}, {"http://foo.localhost/cb", "native", false},
		{"http://localhost.example.com/cb", "native", false}, {"http://2130706433/cb", "native", false}, {"http://0x7f.1/cb", "native", false},
		{"http://[::ffff:127.0.0.1]/cb", "native", false}, {"http://127.1/cb", "native", false}, {"http://LOCALHOST/cb", "native", false},
		{"cursor://anysphere.cursor-retrieval/oauth/callback", "native", true}, {"com.example.app:/cb", "native", true}, {"com.example.app://cb", "native", true},
		{"cursor://x/cb", "web", false}, {"myapp://cb", "native", false}, {"javascript:alert(1)", "native", false}, {"data:text/html,x", "native", false},
		{"file:///etc/passwd", "native", false}, {"vbscript:x", "native", false}, {"about:blank", "native", false},
		{"https://app.example.com/cb#x", "web", false}, {"https://app.example.com/cb#", "web", false}, {"https://ann@app.example.com/cb", "web", false},
		{"https://ann:x@app.example.com/cb", "web", false}, {"https://*.example.com/cb", "web", false}, {"https://app.example.com/../cb", "web", false},
		{"https://app.example.com/%2e%2e/cb", "web", false}, {"https://app.example.com\\@evil/cb", "web", false}, {"https:app.example.com", "web", false},
		{"https:///cb", "web", false}, {"https://app.example.com:/cb", "web", false}, {"HTTPS://app.example.com/cb", "web", false}, {"/cb", "native", false},
		{"", "native", false}, {"https://app.example.com/a b", "web", false}, {"https://app.example.com/\u00e9", "web", false}, {"https://b\u00fccher.example/cb", "web", false},
		{"https://app.example.com/\n", "web", false}, {"https://" + strings.Repeat("a", 2000) + ".example.com", "web", false}, {"http://localhost:99999/cb", "native", false},
		// T14: what is shown is what was checked, and reads the same for everybody.
		{"https://app.ex%D0%B0mple.com/cb", "web", false}, {"https://app%E2%80%AE.example.com/cb", "web", false}, {"https://app%3Bscript-src.example.com/cb", "web", false},
		{"https://app.example.com/a\\b", "web", false}, {"https://app.example.com/" + strings.Repeat("a", 2000-24), "web", true}, {"https://app.example.com/" + strings.Repeat("a", 2001-24), "web", false},
		{"https://app;x.example.com/cb", "web", false}, {"https://app,x.example.com/cb", "web", false}, {"https://app'x.example.com/cb", "web", false},
		{"https://App.example.com/cb", "web", false}, {"https://app_x.example.com/cb", "web", false}, {"https://-app.example.com/cb", "web", false},
		{"https://app..example.com/cb", "web", false}, {"https://app.example.com./cb", "web", false}, {"https://.example.com/cb", "web", false},
		{"https://" + strings.Repeat("a", 64) + ".example.com/cb", "web", false}, {"https://" + strings.Repeat("a", 63) + ".example.com/cb", "web", true},
		{"https://" + strings.Repeat("aaa.", 63) + "aa", "web", false}, {"https://" + strings.Repeat("aaa.", 63) + "a", "web", true},
		{"https://xn--bcher-kva.example/cb", "web", true}, {"https://192.0.2.1/cb", "web", true}, {"https://192.0.2.1:1/cb", "web", true}, {"https://[2001:db8::1]:8443/cb", "web", true},
		{"https://192.0.2.01/cb", "web", false}, {"https://192.0.2/cb", "web", false}, {"https://app.0x1/cb", "web", false}, {"https://3232235521/cb", "web", false},
		{"https://[2001:db8::1%25eth0]/cb", "web", false}, {"https://[2001:DB8::1]/cb", "web", false}, {"https://[2001:db8::1/cb", "web", false}, {"https://[::ffff:192.0.2.1]/cb", "web", false},
		{"https://[192.0.2.1]/cb", "web", false}, {"https://2001:db8::1/cb", "web", false}, {"https://app.example.com:0/cb", "web", false}, {"https://app.example.com:0443/cb", "web", false},
		{"https://app.example.com:65535/cb", "web", true}, {"https://app.example.com:65536/cb", "web", false}, {"https://app.example.com:+1/cb", "web", false},
		{"https://app.example.com?x=1", "web", true}, {"https://app.example.com/%zz", "web", false}, {"com.example.app:cb", "native", false}, {"com.example.app://a%E2%80%AE/cb", "native", false},
		{"com.example.app://ann@x/cb", "native", false}, {"com.example.app:///cb", "native", true}, {"com.example.app://:1/cb", "native", false}, {"cursor://X/cb", "native", false}, {"com_example.app:/cb", "native", false},
	} {
		if err := checkRedirect(tt.uri, tt.kind); (err == nil) != tt.ok {
			t.Errorf("%q %s: %v, want ok %t", tt.uri, tt.kind, err, tt.ok)
		}
	}
}

// T01, T02: what a request may use.
func TestMatchRedirect(t *testing.T) {
	registered := []string{"https://app.example.com/cb", "http://127.0.0.1/cb", "http://localhost:8080/cb?x=1", "http://[::1]/cb", "cursor://x/cb"}
	for uri, want := range map[string]bool{
		"https://app.example.com/cb": true, "http://127.0.0.1/cb": true, "http://127.0.0.1:1/cb": true, "http://127.0.0.1:65535/cb": true,
		"http://localhost/cb?x=1": true, "http://localhost:9/cb?x=1": true, "http://[::1]:77/cb": true, "cursor://x/cb": true,

		"https://app.example.com/cb/": false, "https://app.example.com/CB": false, "https://APP.example.com/cb": false, "https://app.example.com:443/cb": false,
		"https://app.example.com/%63b": false, "https://app.example.com/cb?": false, "https://app.example.com/cb?x": false, "https://app.example.com/cb#": false,
		"https://app.example.com": false, "https://x@app.example.com/cb": false, "https://app.example.com./cb": false, "https://app.example.com/a/../cb": false,
		"http://app.example.com/cb": false, "https://127.0.0.1/cb": false, "https://127.0.0.1:443/cb": false, "http://127.0.0.1:1/cb/": false,
		"http://127.0.0.1:1/%63b": false, "http://127.0.0.1:1/cb?x=1": false, "http://127.0.0.1:1/cb?": false, "http://localhost:1/cb": false,
		"http://127.0.0.2:1/cb": false, "http://0.0.0.0:1/cb": false, "http://foo.localhost:1/cb?x=1": false, "http://2130706433:1/cb": false,
		"http://user@127.0.0.1:1/cb": false, "http://127.0.0.1:/cb": false, "http://127.0.0.1:x/cb": false, "http://127.0.0.1:65536/cb": false,
		"http://127.0.0.1:-1/cb": false, "http://127.0.0.1:1:2/cb": false, "http://127.0.0.1.evil.example/cb": false, "http://127.0.0.1@evil.example/cb": false,
		"http://127.0.0.1:1@evil.example/cb": false, "http://127.0.0.1\\@evil.example/cb": false, "HTTP://127.0.0.1:1/cb": false, "http:127.0.0.1:1/cb": false,
		"http://[::1]:1/cb/x": false, "http://[::1%25lo]:1/cb": false, "http://[0:0:0:0:0:0:0:1]:1/cb": false, "//127.0.0.1/cb": false, "": false, "cursor://x/cb/": false,
		"http://127.0.0.1:0080/cb ": false, " http://127.0.0.1/cb": false, "http://127.0.0.1/cb\n": false,
	} {
		if _, got := matchRedirect(uri, registered, true); got != want {
			t.Errorf("%q: %t, want %t", uri, got, want)
		}
		if _, ok := matchRedirect(uri, registered, false); ok && !slices.Contains(registered, uri) {
			t.Errorf("%q: a confidential client may choose the port", uri)
		}
	}
}

// Whatever matches is registered, or one URL parser reads it as a registered one with another port.
func FuzzMatchRedirect(f *testing.F) {
	registered := []string{"https://app.example.com/cb", "http://127.0.0.1/cb", "http://localhost:8080/cb?x=1", "http://[::1]/cb"}
	for _, s := range append(registered, "http://127.0.0.1:1/cb", "http://127.0.0.1:1@e/cb", "http://[::1]:2/cb") {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		if _, ok := matchRedirect(uri, registered, true); !ok {
			return
		}
		u, err := url.Parse(uri)
		if err != nil {
			t.Fatalf("%q matches and does not parse", uri)
		}
		for _, r := range registered {
			want, err := url.Parse(r)
			if err != nil {
				t.Fatal(err)
			}
			if r == uri || u.Scheme == "http" && want.Scheme == "http" && u.Hostname() == want.Hostname() && u.EscapedPath() == want.EscapedPath() &&
				u.RawQuery == want.RawQuery && u.ForceQuery == want.ForceQuery && u.User == nil && u.Fragment == "" {
				return
			}
		}
		t.Errorf("%q matches nothing that is registered", uri)
	})
}

// T14: what a page and a policy show of an accepted URI holds nothing but what hosts are made of, and is where a browser
// goes.
func FuzzRedirectShown(f *testing.F) {
	for _, s := range []string{"https://app.example.com:8443/cb", "http://[::1]:7/cb?x", "com.example.app:/cb", "cursor://x/cb", "https://app.ex%D0%B0mple.com/cb",
		"https://a%E2%80%AEb/", "https://a;b/", "https://a,b/", "https://a@b/", "https://a:b@c:1/", "https://[fe80::1%25a]/", "https://0x7f.1/", "https://a:080/"} {
		f.Add(s)
	}
	shown := regexp.MustCompile(`^([a-z][a-z0-9+.-]*://)?([a-z0-9.-]*|\[[0-9a-f:]+\])(:[0-9]+)?$`)
	source := regexp.MustCompile(`^[a-z][a-z0-9+.-]*:(//[a-z0-9.-]+(:[0-9]+)?)?$`)
	f.Fuzz(func(t *testing.T, raw string) {
		if checkRedirect(raw, "native") != nil {
			return
		}
		u, err := parseRedirect(raw)
		if err != nil {
			t.Fatalf("%q: accepted, then %v", raw, err)
		}
		if !shown.MatchString(u.shown()) || !source.MatchString(u.source()) || !strings.HasPrefix(raw, u.scheme+":") || !strings.HasSuffix(raw, u.rest) {
			t.Errorf("%q: shown as %q, in the policy as %q", raw, u.shown(), u.source())
		}
		goes, err := url.Parse(raw)
		if err != nil || goes.Scheme != u.scheme || goes.Hostname() != strings.Trim(u.host, "[]") || goes.Port() != u.port || goes.User != nil {
			t.Errorf("%q: shown as %q, goes to %q, %v", raw, u.shown(), goes, err)
		}
	})
}

func FuzzParseParams(f *testing.F) {
	for _, s := range []string{"", "a=b", "a=b&a=c", "resource=a&resource=b", "a=%zz", "a=%00", "a;b", "a=%ff", "=", "&&", "a", strings.Repeat("a=b&", 60)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		v, err := parseParams(raw)
		if err != nil {
			return
		}
		again, err := parseParams(v.Encode())
		if err != nil || again.Encode() != v.Encode() {
			t.Errorf("%q → %q → %q, %v", raw, v.Encode(), again.Encode(), err)
		}
		for name, values := range v {
			if name != "resource" && (len(values) != 1 || values[0] == "") {
				t.Errorf("%q: %s has %q", raw, name, values)
			}
		}
	})
}

func TestCanonicalResource(t *testing.T) {
	for raw, want := range map[string]string{
		"https://mcp.example.com": "https://mcp.example.com", "https://mcp.example.com/": "https://mcp.example.com", "HTTPS://MCP.Example.com/mcp": "https://mcp.example.com/mcp",
		"https://mcp.example.com/mcp/": "https://mcp.example.com/mcp", "https://mcp.example.com/MCP": "https://mcp.example.com/MCP", "urn:example:gateway": "urn:example:gateway",
		"https://mcp.example.com//": "https://mcp.example.com/", "https://mcp.example.com/mcp?x": "https://mcp.example.com/mcp?x",
	} {
		if got, ok := canonicalResource(raw); !ok || got != want {
			t.Errorf("%s: %q %t, want %q", raw, got, ok, want)
		}
	}
	for _, raw := range []string{"", "mcp.example.com", "/mcp", "https://mcp.example.com#x", "https://mcp.example.com#", "https://u@mcp.example.com", "://x"} {
		if got, ok := canonicalResource(raw); ok {
			t.Errorf("%s: %q", raw, got)
		}
	}
}

func TestWithParams(t *testing.T) {
	for redirect, want := range map[string]string{
		"https://a/cb": "https://a/cb?code=1", "https://a/cb?x=%41": "https://a/cb?x=%41&code=1", "https://a/cb?": "https://a/cb?code=1", "com.example:/cb": "com.example:/cb?code=1",
	} {
		if got := withParams(redirect, url.Values{"code": {"1"}}); got != want {
			t.Errorf("%s: %s, want %s", redirect, got, want)
		}
	}
}
