package inventory

import (
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
)

// TestUnhealthyThreshold: a server that was listed counts as failing after so many failures in a row, one that never was
// at once.
func TestUnhealthyThreshold(t *testing.T) {
	inBubble(t, "", zap.NewNop(), func() []*server { return []*server{newServer("a", false, "x")} }, func(t *testing.T, inv *Inventory, s []*server) {
		cfg := config
		cfg.UnhealthyThreshold = 3
		inv.cfg.Store(&cfg)
		if n := inv.Failing(); n != 0 {
			t.Fatalf("%d are failing", n)
		}
		s[0].fail(errors.New("refused"))
		var counted []int
		for range 1000 {
			st := inv.Status()[0]
			if st.Failures > len(counted) {
				counted = append(counted, inv.Failing())
			}
			time.Sleep(100 * time.Millisecond)
		}
		for i, failing := range counted {
			if want := map[bool]int{true: 1, false: 0}[i >= 2]; failing != want {
				t.Errorf("after %d failures %d are failing", i+1, failing)
			}
		}
		if len(counted) < 4 {
			t.Errorf("it failed %d times in 100 s", len(counted))
		}
		s[0].fail(nil)
		time.Sleep(time.Minute)
		if st := inv.Status()[0]; st.Failures != 0 || inv.Failing() != 0 {
			t.Errorf("well again: %+v", st)
		}
	})
}

// TestLongNames: names that many model APIs refuse are told, unless a limit was set.
func TestLongNames(t *testing.T) {
	long := strings.Repeat("x", modelLimit)
	inBubble(t, "", zap.NewNop(), func() []*server { return []*server{newServer("a", false, long, long[1:]), newServer("b", false, "y")} }, func(t *testing.T, inv *Inventory, _ []*server) {
		got := inv.Status()
		if len(got[0].LongNames) != 2 || got[1].LongNames != nil {
			t.Errorf("%q, %q", got[0].LongNames, got[1].LongNames)
		}
		cfg := config
		cfg.NameLimit = 64
		inv.cfg.Store(&cfg)
		if got := inv.Status()[0].LongNames; got != nil {
			t.Errorf("with a limit: %q", got)
		}
	})
}
