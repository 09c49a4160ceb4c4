package guid

import "testing"

func TestValid(t *testing.T) {
	for s, want := range map[string]bool{
		"7e4a0000-0000-4000-8000-00000000000a": true, "": false, "common": false, "7E4A0000-0000-4000-8000-00000000000A": false,
		"7e4a000000004000800000000000000a": false, "{7e4a0000-0000-4000-8000-00000000000a}": false, "7e4a0000-0000-4000-8000-00000000000a\n": false,
		"x7e4a0000-0000-4000-8000-00000000000a": false, "7e4a0000-0000-4000-8000-00000000000g": false,
	} {
		if got := Valid(s); got != want {
			t.Errorf("%q: %t, want %t", s, got, want)
		}
	}
}
