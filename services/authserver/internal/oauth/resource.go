package oauth

import (
	"net/url"
	"slices"
	"strings"
)

// canonicalResource makes two spellings of a resource comparable: scheme and host in lower case, one trailing slash less.
// ok is false for what is no resource indicator (RFC 8707: an absolute URI without a fragment).
func canonicalResource(raw string) (canonical string, ok bool) {
	if strings.Contains(raw, "#") || len(raw) > 2000 {
		return "", false
	}
	u, err := url.Parse(raw)
	if err != nil || u.Scheme == "" || u.User != nil {
		return "", false
	}
	if u.Host == "" || u.Opaque != "" { // an audience such as urn:example:gateway
		return raw, true
	}
	i := strings.Index(raw, u.Host)
	return strings.ToLower(raw[:i]+u.Host) + strings.TrimSuffix(raw[i+len(u.Host):], "/"), true
}

// checkResource accepts one of the names of this gateway, or none. All mean the same audience.
func (s *Server) checkResource(values []string) error {
	switch len(values) {
	case 0:
		return nil
	case 1:
		if c, ok := canonicalResource(values[0]); ok && slices.Contains(s.resources, c) {
			return nil
		}
		return fail(codeInvalidTarget, "the resource is not this gateway")
	}
	return fail(codeInvalidTarget, "only one resource can be asked for at a time")
}
