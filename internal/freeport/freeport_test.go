package freeport

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestAddress: no address twice, none that is in use, and none of another program's.
func TestAddress(t *testing.T) {
	if os.Getenv("FREEPORT_TEST_CHILD") != "" {
		for range size / 2 {
			a, err := Address()
			if err != nil {
				t.Fatal(err)
			}
			os.Stdout.WriteString(a + "\n")
		}
		return
	}
	given := map[string]bool{}
	used, err := Address()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", used)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for range size / 2 {
		a, err := Address()
		if err != nil || given[a] || a == used {
			t.Fatalf("%s, again %t, %v", a, given[a] || a == used, err)
		}
		given[a] = true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestAddress$")
	cmd.Env = append(os.Environ(), "FREEPORT_TEST_CHILD=1")
	out, err := cmd.Output()
	theirs := strings.Fields(string(out))
	if err != nil || len(theirs) < size/2 {
		t.Fatalf("%v: %s", err, out)
	}
	for _, a := range theirs {
		if given[a] {
			t.Errorf("another program was given %s too", a)
		}
	}
}
