package oauth

import (
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// privateSchemes are those of desktop clients that take the answer by a scheme of their own without a dot in it, which
// RFC 8252 section 7.1 asks for. Anything else would let a client register what starts another program.
var privateSchemes = []string{"cursor", "vscode", "vscode-insiders", "windsurf"}

// checkRedirect says what is wrong with a redirect URI that a client wants to register.
func checkRedirect(raw, applicationType string) error {
	u, err := parseRedirect(raw)
	if err != nil {
		return err
	}
	switch {
	case u.Scheme == "https":
		if isLoopback(u) && applicationType == "web" {
			return errors.New("a web application's redirect URI must not be on this machine")
		}
		return nil
	case u.Scheme == "http" && isLoopback(u):
		if applicationType == "web" {
			return errors.New("a web application needs https")
		}
		return nil
	case u.Scheme == "http":
		return errors.New("plain http only to localhost, 127.0.0.1 or [::1]")
	case applicationType == "web":
		return errors.New("a web application needs https")
	case slices.Contains(privateSchemes, u.Scheme), strings.Contains(u.Scheme, "."):
		return nil
	}
	return errors.New("want https, http to a loopback address, or a private-use scheme such as com.example.app")
}

// parseRedirect accepts URIs that every parser reads alike.
func parseRedirect(raw string) (*url.URL, error) {
	if len(raw) > 2000 {
		return nil, errors.New("longer than 2000 bytes")
	}
	for _, c := range []byte(raw) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`\"<>^{|}`+"`", c) >= 0 {
			return nil, errors.New("a character that URIs do not have")
		}
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Scheme == "" || u.Opaque != "":
		return nil, errors.New("not an absolute URI")
	case strings.Contains(raw, "#"):
		return nil, errors.New("it has a fragment") // RFC 6749 section 3.1.2
	case u.User != nil || strings.Contains(u.Host, "@"):
		return nil, errors.New("it has a user name")
	case strings.Contains(u.Host, "*"):
		return nil, errors.New("it has a wildcard")
	case (u.Scheme == "https" || u.Scheme == "http") && (u.Hostname() == "" || strings.HasSuffix(u.Host, ":")):
		return nil, errors.New("it has no host")
	case !strings.HasPrefix(raw, u.Scheme+":"):
		return nil, errors.New("write the scheme in lower case")
	}
	for segment := range strings.SplitSeq(u.Path, "/") {
		if segment == "." || segment == ".." {
			return nil, errors.New("it has dot segments")
		}
	}
	return u, nil
}

// isLoopback: the three names of RFC 8252 section 7.3 and 8.3 and no other way to write them.
func isLoopback(u *url.URL) bool {
	switch u.Hostname() {
	case "localhost", "127.0.0.1":
		return true
	case "::1":
		return strings.HasPrefix(u.Host, "[::1]")
	}
	return false
}

// matchRedirect says whether a request may use raw: it is registered byte for byte, or it is on loopback by plain http
// and differs from a registered one in nothing but the port (RFC 8252 section 7.3; public clients only).
func matchRedirect(raw string, registered []string, public bool) bool {
	if _, err := parseRedirect(raw); err != nil {
		return false
	}
	if slices.Contains(registered, raw) {
		return true
	}
	host, rest, ok := splitLoopback(raw)
	return ok && public && slices.ContainsFunc(registered, func(r string) bool {
		h, other, ok := splitLoopback(r)
		return ok && h == host && other == rest
	})
}

// splitLoopback takes the port out of an http loopback URI, by bytes: what is left of two must be equal.
func splitLoopback(raw string) (host, rest string, ok bool) {
	after, ok := strings.CutPrefix(raw, "http://")
	if !ok {
		return "", "", false
	}
	end := strings.IndexAny(after, "/?")
	if end < 0 {
		end = len(after)
	}
	authority, rest := after[:end], after[end:]
	for _, host := range []string{"localhost", "127.0.0.1", "[::1]"} {
		port, found := strings.CutPrefix(authority, host)
		if !found {
			continue
		}
		if port == "" {
			return host, rest, true
		}
		if _, err := netip.ParseAddrPort("127.0.0.1" + port); err == nil {
			return host, rest, true
		}
	}
	return "", "", false
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

// redirectHost is what a person is shown of where the answer goes.
func redirectHost(redirect string) string {
	u, err := url.Parse(redirect)
	if err != nil {
		return ""
	}
	if u.Scheme != "https" && u.Scheme != "http" {
		return u.Scheme + "://" + u.Host
	}
	return u.Host
}
