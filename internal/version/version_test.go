package version

import (
	"runtime/debug"
	"testing"
)

func TestRead(t *testing.T) {
	for main, want := range map[string]string{
		"": "devel", "(devel)": "devel", "v1.2.3": "v1.2.3", "v0.0.0-20260101000000-0123456789ab+dirty": "v0.0.0-20260101000000-0123456789ab+dirty",
	} {
		if got := read(&debug.BuildInfo{Main: debug.Module{Version: main}}, true); got != want {
			t.Errorf("%q: %q, want %q", main, got, want)
		}
	}
	if got := read(nil, false); got != "devel" {
		t.Errorf("without build information: %q", got)
	}
}
