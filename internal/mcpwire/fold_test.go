package mcpwire

import (
	"strings"
	"testing"
)

// TestFold: two names have one form exactly where Go's encoding/json would take one for the other.
func TestFold(t *testing.T) {
	names := []string{"z", "Z", "zZ", "É", "é", "ſ", "s", "S", "\u212a", "k", "K", "ß", "ẞ", "ss", "", "a", "0", "_", "ς", "σ", "Σ", "İ", "i", "ı", "`", "{", "\u0080"}
	for _, a := range names {
		for _, b := range names {
			if got, want := Fold(a) == Fold(b), strings.EqualFold(a, b); got != want {
				t.Errorf("%q and %q: one form %v, want %v", a, b, got, want)
			}
		}
	}
}
