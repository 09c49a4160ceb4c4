package oauth

import (
	"fmt"
	"testing"
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
