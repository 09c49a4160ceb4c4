// Package keyringtest is a ring of secret keys for one test.
package keyringtest

import (
	"testing"

	"vmcp/internal/keyring"
)

// New makes a ring with one key, in a folder of its own.
func New(t testing.TB) *keyring.Ring {
	t.Helper()
	dir := t.TempDir()
	if err := keyring.Ensure(dir); err != nil {
		t.Fatal(err)
	}
	ring, err := keyring.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}
