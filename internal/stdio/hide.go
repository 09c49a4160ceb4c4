package stdio

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// above says whether dir is a directory above one of the paths. All are resolved.
func above(dir string, paths []string) bool {
	return slices.ContainsFunc(paths, func(p string) bool {
		return p != dir && (dir == "/" || strings.HasPrefix(p, dir+"/"))
	})
}

// resolved is the path without symbolic links, as far as it exists.
func resolved(path string) string {
	real, err := filepath.EvalSymlinks(path)
	if err == nil {
		return real
	}
	dir := filepath.Dir(path)
	if dir == path {
		return path
	}
	return filepath.Join(resolved(dir), filepath.Base(path))
}

// temporary makes a directory for a child's temporary files where it could make none, since the usual one is above a
// hidden path. Empty: it needs none.
func temporary(hide []string) (string, error) {
	var real []string
	for _, path := range hide {
		real = append(real, resolved(path))
	}
	if !above(resolved(os.TempDir()), real) {
		return "", nil
	}
	return os.MkdirTemp("", "vmcp-child-")
}
