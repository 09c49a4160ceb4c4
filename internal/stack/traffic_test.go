package stack

import (
	"testing"
	"time"
)

func TestTraffic(t *testing.T) {
	now := time.Now()
	for want, b := range map[string]Backend{
		"":                                      {Breaker: "off"},
		"protocol 2025, 1 session, 2 processes": {Era: "2025", Sessions: 1, Children: 2, Breaker: "closed"},
		"breaker open, 12 calls, 8.25 ms each, 2 failed, the last 1m30s ago: backend timed out": {Backend: "a", Breaker: "open", Calls: 12, Latency: 8.25, Failures: 2,
			LastErrorAt: now.Add(-90 * time.Second), LastError: "backend a: backend timed out"},
	} {
		if got := b.Traffic(now); got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
}
