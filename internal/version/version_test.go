package version

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
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

// TestImages: a build with the linker flags of the images says their version. Go ignores a misspelt variable.
func TestImages(t *testing.T) {
	text, err := os.ReadFile("../../deploy/images/services.Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	flags := regexp.MustCompile(`-ldflags "(.*?)"`).FindSubmatch(text)
	if flags == nil {
		t.Fatal("the images are built without -ldflags")
	}
	program := filepath.Join(t.TempDir(), "vmcp")
	build := exec.Command("go", "build", "-ldflags", strings.ReplaceAll(string(flags[1]), "$VERSION", "v9.9.9"), "-o", program, "vmcp/cmd/vmcp")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := exec.Command(program, "version").Output(); err != nil || !strings.HasPrefix(string(out), "vmcp v9.9.9 ") {
		t.Errorf("%q, %v", out, err)
	}
}
