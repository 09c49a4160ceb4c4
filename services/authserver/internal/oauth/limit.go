package oauth

import (
	"net/netip"
	"sync"

	"golang.org/x/time/rate"
)

// limiter bounds what one address, and all together, may ask for.
type limiter struct {
	each  rate.Limit
	burst int
	all   *rate.Limiter

	mu sync.Mutex
	by map[string]*rate.Limiter
}

const maxAddresses = 10_000

func newLimiter(each rate.Limit, burst int, all rate.Limit, allBurst int) *limiter {
	return &limiter{each: each, burst: burst, all: rate.NewLimiter(all, allBurst), by: map[string]*rate.Limiter{}}
}

// allow takes one from the address's share and from the common one. Of IPv6 a whole /64 is one address: it is one
// customer's.
func (l *limiter) allow(address string) bool {
	if ip, err := netip.ParseAddr(address); err == nil && ip.Is6() && !ip.Is4In6() {
		if p, err := ip.WithZone("").Prefix(64); err == nil {
			address = p.String()
		}
	}
	l.mu.Lock()
	one := l.by[address]
	if one == nil {
		if len(l.by) >= maxAddresses {
			for a, old := range l.by { // those who have not asked for a while lose nothing
				if old.Tokens() >= float64(l.burst) {
					delete(l.by, a)
				}
			}
			for a := range l.by {
				if len(l.by) < maxAddresses {
					break
				}
				delete(l.by, a)
			}
		}
		one = rate.NewLimiter(l.each, l.burst)
		l.by[address] = one
	}
	l.mu.Unlock()
	return one.Allow() && l.all.Allow()
}
