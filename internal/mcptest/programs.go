package mcptest

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// RunWithPrograms is a TestMain whose tests start the programs of cmd/: they are built once, without the race detector,
// which would make each start of a child a second long, to a folder that it gives to use before the tests run.
func RunWithPrograms(m *testing.M, use func(folder string)) {
	dir, err := os.MkdirTemp("", "mcptest")
	if err != nil {
		panic(err)
	}
	if out, err := exec.Command("go", "build", "-o", dir, "vmcp/internal/mcptest/cmd/...").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the servers of the tests: %v\n%s", err, out)
		os.Exit(1)
	}
	use(dir)
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}
