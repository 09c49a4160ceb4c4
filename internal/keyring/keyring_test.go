package keyring

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// TestRotation adds, breaks and removes keys while the ring is in use.
func TestRotation(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	write := func(id string, age time.Duration) {
		t.Helper()
		path := filepath.Join(dir, id)
		if err := os.WriteFile(path, []byte(New()), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, now, now.Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	write("a", time.Hour)
	ring, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	old := ring.Newest().MAC("test", []byte("x"))

	// A new key verifies at once and signs when every process has had time to read it.
	write("b", settle-time.Second)
	if err := ring.reload(); err != nil {
		t.Fatal(err)
	}
	if got := ring.Newest().ID; got != "a" || ring.ByID("b") == nil {
		t.Errorf("a fresh key: %s signs, want a; b known: %v", got, ring.ByID("b") != nil)
	}
	write("b", settle+time.Second)
	if err := ring.reload(); err != nil {
		t.Fatal(err)
	}
	if got := ring.Newest().ID; got != "b" {
		t.Errorf("newest key is %s, want b", got)
	}
	if got := ring.ByID("a").MAC("test", []byte("x")); !bytes.Equal(got, old) {
		t.Error("the older key no longer verifies")
	}

	// A half-written key leaves the ring as it was.
	if err := os.WriteFile(filepath.Join(dir, "c"), []byte("abc"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := ring.reload(); err == nil {
		t.Error("reload took a key of 2 bytes")
	}
	if ring.ByID("a") == nil || ring.ByID("b") == nil {
		t.Error("a failed reload lost keys")
	}
	os.Remove(filepath.Join(dir, "c"))

	os.Remove(filepath.Join(dir, "a"))
	if err := ring.reload(); err != nil {
		t.Fatal(err)
	}
	if ring.ByID("a") != nil {
		t.Error("a removed key is still there")
	}

	os.Remove(filepath.Join(dir, "b"))
	if err := ring.reload(); err == nil || ring.Newest().ID != "b" {
		t.Errorf("an empty directory: %v, newest %s; want an error and the last key kept", err, ring.Newest().ID)
	}
}

// TestRun: whoever rotates keys reads in the log which ones a process has, the one that signs first; and trouble once.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	write := func(id, text string, at time.Time) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, id), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(filepath.Join(dir, id), at, at); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		write("a", New(), now.Add(-time.Hour))
		ring, err := Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		core, logs := observer.New(zap.InfoLevel)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- ring.Run(ctx, zap.New(core)) }()
		time.Sleep(10*time.Second + time.Second/2) // between two looks
		write("b", New(), now)
		time.Sleep(settle)
		write("c", "abc", now)
		time.Sleep(10 * time.Second)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		var said []string
		for _, e := range logs.All() {
			said = append(said, fmt.Sprint(e.Message, " ", e.ContextMap()["keys"]))
		}
		if diff := cmp.Diff(said, []string{"keys [a b]", "keys [b a]", "keys not reloaded <nil>"}); diff != "" {
			t.Errorf("logged (-got +want):\n%s", diff)
		}
	})
}

// TestSeparation: one key gives unrelated results for different uses.
func TestSeparation(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, ".key.new"), nil, 0o600); err != nil { // of one that was killed here
		t.Fatal(err)
	}
	if err := Ensure(dir); err != nil {
		t.Fatal(err)
	}
	if err := Ensure(dir); err != nil { // finds the key of before
		t.Fatal(err)
	}
	ring, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	k := ring.Newest()
	if bytes.Equal(k.MAC("a", nil), k.MAC("b", nil)) {
		t.Error("MACs of two domains are equal")
	}
	nonce := make([]byte, 12)
	sealed := k.AEAD("a").Seal(nil, nonce, []byte("text"), nil)
	if _, err := k.AEAD("b").Open(nil, nonce, sealed, nil); err == nil {
		t.Error("what was sealed for one purpose opens for another")
	}
	if got, err := k.AEAD("a").Open(nil, nonce, sealed, nil); err != nil || string(got) != "text" {
		t.Errorf("Open = %q, %v", got, err)
	}
}

// TestSeal: what is sealed opens for its purpose and what it is bound to, and for nothing else.
func TestSeal(t *testing.T) {
	dir := t.TempDir()
	if err := Ensure(dir); err != nil {
		t.Fatal(err)
	}
	ring, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	sealed := ring.Seal("a", []byte("text"), []byte("ann"))
	if got, ok := ring.Open("a", sealed, []byte("ann")); !ok || string(got) != "text" {
		t.Errorf("Open = %q, %v", got, ok)
	}
	if again := ring.Seal("a", []byte("text"), []byte("ann")); again == sealed {
		t.Error("the same text is sealed twice alike")
	}
	for name, open := range map[string]func() ([]byte, bool){
		"other purpose":   func() ([]byte, bool) { return ring.Open("b", sealed, []byte("ann")) },
		"other bound":     func() ([]byte, bool) { return ring.Open("a", sealed, []byte("bob")) },
		"no bound":        func() ([]byte, bool) { return ring.Open("a", sealed, nil) },
		"no key id":       func() ([]byte, bool) { return ring.Open("a", sealed[len(ring.Newest().ID)+1:], []byte("ann")) },
		"other key id":    func() ([]byte, bool) { return ring.Open("a", "x"+sealed, []byte("ann")) },
		"cut short":       func() ([]byte, bool) { return ring.Open("a", sealed[:len(ring.Newest().ID)+9], []byte("ann")) },
		"another's spell": func() ([]byte, bool) { return ring.Open("a", sealed+"=", []byte("ann")) },
		"empty":           func() ([]byte, bool) { return ring.Open("a", "", []byte("ann")) },
	} {
		if got, ok := open(); ok {
			t.Errorf("%s: opens as %q", name, got)
		}
	}
}
