package engine

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/yosida95/uritemplate/v3"
)

// Bounds of what matching a URI against a backend's templates may cost: the time grows with their product.
const (
	maxURI       = 8 << 10 // bytes
	maxTemplate  = 8 << 10 // bytes
	maxVariables = 32
)

// template is a URI template (RFC 6570) that a backend offers.
type template struct {
	backend string
	match   *regexp.Regexp
}

// anotherWay reports whether a URI is another spelling of one that is written without dot segments and without escapes
// of what needs none (RFC 3986 section 6.2.2). Nothing is normalised here: what is sent on is what was judged (AG-12, T63).
func anotherWay(uri string) bool {
	path, _, _ := strings.Cut(uri, "#")
	path, _, _ = strings.Cut(path, "?")
	if _, rest, ok := strings.Cut(path, ":"); ok {
		path = rest
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return true
		}
	}
	for i := range len(uri) {
		if uri[i] != '%' || i+3 > len(uri) {
			continue
		}
		b, err := strconv.ParseUint(uri[i+1:i+3], 16, 8)
		if c := byte(b); err == nil && ('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0) {
			return true
		}
	}
	return false
}

// compile makes the pattern of a template, nil for one that is unreadable or too large: it owns nothing. The library's
// own Match takes minutes for a URI of 8 KiB and a template like {a:9999}; a regular expression takes time that is linear.
func compile(raw string) *regexp.Regexp {
	// More repetitions than the regular expressions know would be a panic in the library.
	if len(raw) > maxTemplate || strings.Count(raw, "{")+strings.Count(raw, ",") > maxVariables {
		return nil
	}
	t, err := uritemplate.New(raw)
	if err != nil {
		return nil
	}
	return t.Regexp()
}
