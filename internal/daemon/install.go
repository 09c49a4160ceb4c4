package daemon

import (
	"fmt"
	"os"
)

// Install writes the running program to path, executable for everybody: how an init container brings it into a container of
// another image.
func Install(path string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	program, err := os.ReadFile(self)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, program, 0o755); err != nil {
		return fmt.Errorf("-install: %w", err)
	}
	return os.Chmod(path, 0o755) // whatever the umask is
}
