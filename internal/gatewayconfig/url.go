package gatewayconfig

import (
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"

	"vmcp/internal/loopback"
)

// urlRule says what beyond an https URL with a clean path is accepted.
type urlRule struct {
	http   bool // plain http to any host
	origin bool // nothing but scheme, host and port
	remote bool // somebody else's URL: query, any path and a trailing slash are theirs to choose
	slash  bool // a trailing slash
}

// url checks the URL in field at of d and returns it, or nil where it has a problem. Texts never repeat the URL: it may
// hold a password.
func (r *resolver) url(d *document, at, raw string, rule urlRule) *url.URL {
	bad := func(format string, args ...any) *url.URL {
		d.bad(at, format, args...)
		return nil
	}
	if raw == "" {
		return bad("required")
	}
	if p := urlPlaceholder.FindString(raw); p != "" {
		return bad("%s", placeholderAdvice(p))
	}
	u, err := url.Parse(raw)
	if err != nil || u.Opaque != "" || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" {
		return bad("want a URL such as https://mcp.example.com")
	}
	host := u.Hostname()
	switch {
	case u.User != nil:
		return bad("must not contain a user name or password")
	case strings.Contains(raw, "#"):
		return bad("must not contain a fragment (#)")
	case (u.RawQuery != "" || u.ForceQuery) && !rule.remote:
		return bad("must not contain a query (?)")
	case host != strings.ToLower(host) || !isASCII(host):
		return bad("write the host in lower case and ASCII: clients compare URLs byte by byte")
	case !validPort(u):
		return bad("leave out the port, or give another one: clients drop the default port of %s", u.Scheme)
	case oddNumericHost(host):
		return bad("the host looks like a number; write an IP address as 192.0.2.1 or [2001:db8::1]")
	}
	if u.Scheme == "http" && !rule.http && !rule.remote {
		if !r.src.Loopback || !isLoopback(host) {
			return bad("want https (plain http needs insecureAllowHTTP, or a loopback address under `vmcp up`)")
		}
		if !r.noted["loopback"] {
			r.noted["loopback"] = true
			r.note(d, at, "plain http is accepted: the address is this machine's own")
		}
	}
	if rule.remote {
		return u
	}
	switch {
	case rule.origin && strings.Trim(u.Path, "/") != "":
		return bad("must have no path: want %s://%s", u.Scheme, u.Host)
	case strings.HasSuffix(u.Path, "/") && !rule.slash:
		return bad("leave out the trailing slash: clients compare URLs byte by byte")
	case u.Path != "" && path.Clean(u.Path) != strings.TrimSuffix(u.Path, "/") && u.Path != "/",
		strings.ContainsAny(u.EscapedPath(), `%\;`):
		return bad("the path must not contain //, dot segments, %% or semicolons: proxies rewrite them")
	}
	return u
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) < 0
}

func validPort(u *url.URL) bool {
	if u.Port() == "" {
		return !strings.HasSuffix(u.Host, ":")
	}
	n, err := strconv.Atoi(u.Port())
	if err != nil || n < 1 || n > 65535 || strconv.Itoa(n) != u.Port() {
		return false
	}
	return !(u.Scheme == "https" && n == 443) && !(u.Scheme == "http" && n == 80)
}

var numeric = regexp.MustCompile(`^(0x[0-9a-f]*|[0-9]+)$`)

// oddNumericHost finds hosts that some resolvers read as an IPv4 address though they are not written as one, such as
// 2130706433 or 127.1 (WHATWG URL, "ends in a number").
func oddNumericHost(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return false
	}
	host = strings.TrimSuffix(host, ".")
	return numeric.MatchString(host[strings.LastIndexByte(host, '.')+1:])
}

// isLoopback says whether host names this machine, without asking a resolver.
func isLoopback(host string) bool {
	host = strings.TrimSuffix(host, ".")
	return loopback.Host(host) || strings.HasSuffix(host, ".localhost")
}

// isMetadata says whether host is link-local, unspecified or a cloud's metadata service: never an MCP server.
func isMetadata(host string) bool {
	host = strings.TrimSuffix(host, ".")
	if host == "metadata.google.internal" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	ip = ip.Unmap().WithZone("")
	return ip.IsLinkLocalUnicast() || ip.IsUnspecified() || ip.IsMulticast() || ip == netip.MustParseAddr("fd00:ec2::254")
}

// origin is scheme://host[:port].
func origin(u *url.URL) string { return u.Scheme + "://" + u.Host }
