package oauth

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/time/rate"
)

func TestLimiter(t *testing.T) {
	l := newLimiter(0.001, 2, 1000, 1000)
	for i, tt := range []struct {
		address string
		want    bool
	}{
		{"192.0.2.1", true}, {"192.0.2.1", true}, {"192.0.2.1", false}, {"192.0.2.2", true},
		{"2001:db8::1", true}, {"2001:db8::2", true}, {"2001:db8::3", false}, {"2001:db8:0:1::1", true},
	} {
		if got := l.allow(tt.address); got != tt.want {
			t.Errorf("%d, %s: %t", i, tt.address, got)
		}
	}
	// Where there are too many addresses, those go that would be let in again anyway; if there are none, any one goes.
	for name, tt := range map[string]struct{ tokens, kept int }{"idle": {1, 2}, "busy": {0, maxAddresses}} {
		l := newLimiter(0, 1, 1000, 1000)
		l.allow("192.0.2.1")
		for i := range maxAddresses - 1 {
			one := rate.NewLimiter(0, 1)
			one.AllowN(time.Now(), 1-tt.tokens)
			l.by[fmt.Sprint(i)] = one
		}
		if !l.allow("192.0.2.2") || len(l.by) != tt.kept {
			t.Errorf("%s: %d addresses are kept, want %d", name, len(l.by), tt.kept)
		}
		if name == "idle" && l.allow("192.0.2.1") {
			t.Error("who was limited is forgotten for those who were not")
		}
	}
	all := newLimiter(1000, 1000, 0.001, 3)
	allowed := 0
	for i := range 3 * maxAddresses {
		if all.allow(fmt.Sprint(i)) {
			allowed++
		}
	}
	if allowed != 3 || len(all.by) > maxAddresses {
		t.Errorf("%d allowed of all, %d addresses kept", allowed, len(all.by))
	}
}
