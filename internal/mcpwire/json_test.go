package mcpwire

import (
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

// TestKeyStart: a member begins at the opening quote of its name, whatever is escaped in that.
func TestKeyStart(t *testing.T) {
	for _, name := range []string{`a`, ``, `a\"b`, `\"`, `\\`, `\\\"`, `x\\\\`, `\"\"`, `a\\\"b\\`} {
		text := []byte(`{ "first" : 1, "` + name + `" : 2 }`)
		o, err := ParseObject(text, 0, len(text))
		if err != nil || len(o.Members) != 2 || o.Start != 0 || o.End != len(text) {
			t.Fatalf("%s: %v", text, err)
		}
		if m := o.Members[1]; !strings.HasPrefix(string(text[m.KeyStart:]), `"`+name+`" :`) {
			t.Errorf("%s: the name begins at %q", text, text[m.KeyStart:])
		}
	}
}

func TestIDBounds(t *testing.T) {
	for id, want := range map[string]bool{
		`"` + strings.Repeat("x", 1022) + `"`: true, `"` + strings.Repeat("x", 1023) + `"`: false,
		strings.Repeat("1", 32): true, strings.Repeat("1", 33): false, "1.0": false, "1e3": false, "1E3": false, "null": false, "true": false, "-1": true,
	} {
		if got := validID(jsontext.Value(id)); got != want {
			t.Errorf("%.40s: %v", id, got)
		}
	}
	for n, want := range map[int]bool{128: true, 129: false} {
		if s := strings.Repeat("x", n); (clip(s) == s) != want {
			t.Errorf("a text of %d bytes is kept: %v", n, !want)
		}
	}
}
