package engine

import (
	"regexp"
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
