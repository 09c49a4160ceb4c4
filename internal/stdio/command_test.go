package stdio

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWords(t *testing.T) {
	for in, want := range map[string][]string{
		"":                              nil,
		"  ":                            nil,
		"a":                             {"a"},
		" a  b\tc ":                     {"a", "b", "c"},
		`'/My Programs/x' --name "a b"`: {"/My Programs/x", "--name", "a b"},
		`--x='a b' ""`:                  {"--x=a b", ""},
		`"it's"`:                        {"it's"},
	} {
		got, err := Words(in)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("Words(%q): %v (-want +got):\n%s", in, err, diff)
		}
	}
	if got, err := Words(`a 'b`); err == nil {
		t.Errorf("an open quote gives %q", got)
	}
}
