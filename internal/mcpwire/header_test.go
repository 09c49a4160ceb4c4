package mcpwire

import (
	"strings"
	"testing"
)

// TestHeaderBounds: the longest header that is read, and values that hold the marks of base64 but nothing between them.
func TestHeaderBounds(t *testing.T) {
	for n, ok := range map[int]bool{MaxHeader: true, MaxHeader + 1: false} {
		r := Request{Header: func(string) []string { return []string{strings.Repeat("x", n)} }}
		if v, err := single(r, "Mcp-Name"); (err == nil) != ok || ok && len(v) != n {
			t.Errorf("%d bytes: %d, %v", n, len(v), err)
		}
	}
	for v, literal := range map[string]bool{"a b~": true, "": true, "=?x": true, "x?=": true, "=?x?=": false, " a": false, "a ": false, "a\x1f": false, "a\x7f": false, "é": false} {
		if got := EncodeHeader(v); (got == v) != literal {
			t.Errorf("%q is sent as %q, want literally: %v", v, got, literal)
		}
	}
	for in, want := range map[string]string{"=?base64?=": "=?base64?=", "=?base64??=": "", "?=": "?="} {
		if got, ok := DecodeHeader(in); !ok || got != want {
			t.Errorf("%s: %q, %v, want %q", in, got, ok, want)
		}
	}
}
