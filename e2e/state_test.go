package e2e

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// TestStateIsPrivate: whatever a gateway keeps, keys among it, only its own user can read (T72).
func TestStateIsPrivate(t *testing.T) {
	w := start(t, guide)
	info, err := os.Stat(w.State)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the state directory is %v (%v), want 0700", info.Mode(), err)
	}
	keys := 0
	err = filepath.WalkDir(filepath.Join(w.State, "keys"), func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is %v: others can get at it", p, info.Mode())
		}
		if !d.IsDir() {
			keys++
		}
		return nil
	})
	if err != nil || keys == 0 {
		t.Errorf("%d keys seen (%v)", keys, err)
	}
}
