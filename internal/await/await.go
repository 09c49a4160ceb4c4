// Package await is how tests wait for what another goroutine or process does: for a condition, with one limit. It owns
// that limit, a net for what never comes; how long something takes is no test's business (docs/testing.md).
package await

import (
	"testing"
	"time"
)

// Limit is for every wait in a test.
const Limit = time.Minute

// That asks ok until it holds, and fails the test where it never does.
func That(t testing.TB, what string, ok func() bool) {
	t.Helper()
	pause := time.Millisecond
	for deadline := time.Now().Add(Limit); !ok(); time.Sleep(pause) {
		if time.Now().After(deadline) {
			t.Fatalf("it never came to this: %s", what)
		}
		pause = min(2*pause, 30*time.Millisecond)
	}
}
