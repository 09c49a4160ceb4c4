package mtls

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func shortDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "vmcp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestListenUnix(t *testing.T) {
	dir := shortDir(t)
	addr := "unix:" + dir + "/s"
	l, err := Listen(addr)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dir + "/s")
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := Listen(addr); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("served already: got %v", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // what a killed process leaves
	l.Close()
	l, err = Listen(addr)
	if err != nil {
		t.Fatalf("stale socket: %v", err)
	}
	l.Close()

	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("keep"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen("unix:" + file); err == nil {
		t.Error("a plain file was taken for a stale socket")
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "keep" {
		t.Errorf("the file is %q, %v", b, err)
	}
	if _, err := Listen("unix:" + dir + "/" + strings.Repeat("x", 110)); err == nil || !strings.Contains(err.Error(), "107") {
		t.Errorf("long path: got %v", err)
	}
}
