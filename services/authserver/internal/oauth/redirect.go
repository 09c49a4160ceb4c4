package oauth

import (
	"errors"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// privateSchemes are those of desktop clients that take the answer by a scheme of their own without a dot in it, which
// RFC 8252 section 7.1 asks for. Anything else would let a client register what starts another program.
var privateSchemes = []string{"cursor", "vscode", "vscode-insiders", "windsurf"}

// redirectURI is a redirect URI cut at its bytes. Nothing is decoded on the way, so what was checked is what a page shows,
// a policy lists and another URI is compared with.
type redirectURI struct {
	scheme string
	host   string // a name of letters, digits and hyphens, an IPv4 address or an IPv6 one in brackets; empty: none
	port   string // empty: none
	rest   string // path and query
}

// checkRedirect says what is wrong with a redirect URI that a client wants to register.
func checkRedirect(raw, applicationType string) error {
	u, err := parseRedirect(raw)
	if err != nil {
		return err
	}
	switch {
	case u.scheme == "https":
		if u.loopback() && applicationType == "web" {
			return errors.New("a web application's redirect URI must not be on this machine")
		}
		return nil
	case u.scheme == "http" && u.loopback():
		if applicationType == "web" {
			return errors.New("a web application needs https")
		}
		return nil
	case u.scheme == "http":
		return errors.New("plain http only to localhost, 127.0.0.1 or [::1]")
	case applicationType == "web":
		return errors.New("a web application needs https")
	case slices.Contains(privateSchemes, u.scheme), strings.Contains(u.scheme, "."):
		return nil
	}
	return errors.New("want https, http to a loopback address, or a private-use scheme such as com.example.app")
}

var (
	schemeForm = regexp.MustCompile(`^[a-z][a-z0-9+.-]*$`)
	labelForm  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	numberForm = regexp.MustCompile(`^([0-9]+|0x[0-9a-f]*)$`)
	portForm   = regexp.MustCompile(`^[1-9][0-9]{0,4}$`)
)

// parseRedirect accepts URIs that every parser reads alike, and that a person can tell apart: `%D0%B0` in a host is a
// Cyrillic letter for a browser, `%E2%80%AE` turns the text around it, and `I` looks like `l` (T01, T14).
func parseRedirect(raw string) (redirectURI, error) {
	var u redirectURI
	bad := func(why string) (redirectURI, error) { return redirectURI{}, errors.New(why) }
	if len(raw) > 2000 {
		return bad("longer than 2000 bytes")
	}
	for _, c := range []byte(raw) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`\"<>^{|}`+"`", c) >= 0 {
			return bad("a character that URIs do not have")
		}
	}
	if strings.Contains(raw, "#") { // RFC 6749 section 3.1.2
		return bad("it has a fragment")
	}
	scheme, rest, found := strings.Cut(raw, ":")
	if !found || !schemeForm.MatchString(scheme) {
		return bad("not an absolute URI with its scheme in lower case")
	}
	u.scheme = scheme
	authority, found := strings.CutPrefix(rest, "//")
	if found {
		end := strings.IndexAny(authority, "/?")
		if end < 0 {
			end = len(authority)
		}
		authority, rest = authority[:end], authority[end:]
		u.host = authority
		if colon := strings.LastIndexByte(authority, ':'); colon > strings.LastIndexByte(authority, ']') {
			u.host, u.port = authority[:colon], authority[colon+1:]
			if n, err := strconv.Atoi(u.port); !portForm.MatchString(u.port) || err != nil || n > 65535 {
				return bad("its port is no number from 1 to 65535")
			}
		}
		private := scheme != "https" && scheme != "http"
		if !hostForm(u.host) && !(private && authority == "") {
			return bad("its host is neither a name of lower-case letters, digits and hyphens nor an IP address")
		}
	} else if scheme == "https" || scheme == "http" || !strings.HasPrefix(rest, "/") {
		return bad("it has no host")
	}
	u.rest = rest
	parsed, err := url.Parse(raw)
	if err != nil {
		return bad("not a URI")
	}
	for segment := range strings.SplitSeq(parsed.Path, "/") {
		if segment == "." || segment == ".." {
			return bad("it has dot segments")
		}
	}
	return u, nil
}

// hostForm: a host has one spelling. What ends in a number is an IPv4 address for browsers, however it is written (WHATWG
// URL, section 3.5): 2130706433 and 0x7f.1 are 127.0.0.1.
func hostForm(host string) bool {
	if inner, found := strings.CutPrefix(host, "["); found {
		inner, found = strings.CutSuffix(inner, "]")
		ip, err := netip.ParseAddr(inner)
		return found && err == nil && ip.Is6() && !ip.Is4In6() && ip.Zone() == "" && ip.String() == inner
	}
	labels := strings.Split(host, ".")
	if numberForm.MatchString(labels[len(labels)-1]) {
		ip, err := netip.ParseAddr(host)
		return err == nil && ip.Is4()
	}
	return len(host) <= 253 && !slices.ContainsFunc(labels, func(l string) bool { return !labelForm.MatchString(l) })
}

// loopback: the three names of RFC 8252 section 7.3 and 8.3 and no other way to write them.
func (u redirectURI) loopback() bool {
	return u.host == "localhost" || u.host == "127.0.0.1" || u.host == "[::1]"
}

// native says that a program on the person's machine takes the answer, and any other could (RFC 8252 section 8.6).
func (u redirectURI) native() bool { return u.scheme != "https" || u.loopback() }

// String is scheme and authority.
func (u redirectURI) String() string {
	if u.port != "" {
		return u.scheme + "://" + u.host + ":" + u.port
	}
	return u.scheme + "://" + u.host
}

// shown is what a person is shown of where the answer goes.
func (u redirectURI) shown() string {
	return strings.TrimPrefix(strings.TrimPrefix(u.String(), "https://"), "http://")
}

// source is the URI as a source of a Content-Security-Policy. There are none for IPv6, and of private schemes only the scheme.
func (u redirectURI) source() string {
	if u.scheme != "https" && u.scheme != "http" || strings.HasPrefix(u.host, "[") {
		return u.scheme + ":"
	}
	return u.String()
}

// matchRedirect says whether a request may use raw: it is registered byte for byte, or it is on loopback by plain http
// and differs from a registered one in nothing but the port (RFC 8252 section 7.3; public clients only).
func matchRedirect(raw string, registered []string, public bool) (redirectURI, bool) {
	u, err := parseRedirect(raw)
	if err != nil {
		return u, false
	}
	if slices.Contains(registered, raw) {
		return u, true
	}
	return u, public && u.scheme == "http" && u.loopback() && slices.ContainsFunc(registered, func(r string) bool {
		other, err := parseRedirect(r)
		other.port = u.port
		return err == nil && other == u
	})
}

// withParams adds parameters to a redirect URI and leaves what it has as it is.
func withParams(redirect string, params url.Values) string {
	separator := "?"
	if strings.Contains(redirect, "?") {
		separator = "&"
		if strings.HasSuffix(redirect, "?") || strings.HasSuffix(redirect, "&") {
			separator = ""
		}
	}
	return redirect + separator + params.Encode()
}
