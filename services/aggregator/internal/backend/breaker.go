package backend

import (
	"errors"
	"sync"
	"time"

	"vmcp/internal/gatewayconfig"
)

// breaker refuses calls of a backend that failed so many times in a row, until after a while one of them is let through
// and succeeds. Calls and lists feed it, each in a row of its own: a backend that answers lists may hang in calls. Each
// answer, an error too, is a success. The zero breaker never opens.
type breaker struct {
	cfg gatewayconfig.Breaker

	mu     sync.Mutex
	failed [2]int    // in a row, by source
	by     source    // of what opened it
	opened time.Time // zero: closed
	trying bool      // half open: one call is under way
}

// source is what an outcome is of.
type source uint8

const (
	ofCall source = iota
	ofList
)

// The states of a breaker, as people know them.
const (
	breakerOff      = "off" // not configured
	breakerClosed   = "closed"
	breakerOpen     = "open"
	breakerHalfOpen = "half-open"
)

func (b *breaker) state() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.cfg.Failures == 0:
		return breakerOff
	case b.opened.IsZero():
		return breakerClosed
	case b.trying || time.Since(b.opened) >= b.cfg.Timeout:
		return breakerHalfOpen
	}
	return breakerOpen
}

// allow says whether a call may be made. Whoever it allows tells the outcome to note.
func (b *breaker) allow() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.opened.IsZero() {
		return true
	}
	if b.trying || time.Since(b.opened) < b.cfg.Timeout {
		return false
	}
	b.trying = true
	return true
}

// note takes the outcome of a call or a list. What ended on our side, or the client's, says nothing about the backend.
func (b *breaker) note(of source, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if of == ofCall {
		b.trying = false
	}
	switch {
	case b.cfg.Failures == 0:
	case err == nil:
		b.failed[of] = 0
		if of == ofCall || b.by == ofList {
			b.opened = time.Time{}
		}
	case errors.Is(err, ErrUnavailable), errors.Is(err, ErrTimeout), errors.Is(err, ErrBusy), errors.Is(err, ErrRefused), errors.Is(err, ErrInvalidReply):
		if b.failed[of]++; b.failed[of] >= b.cfg.Failures {
			b.by, b.opened = of, time.Now()
		}
	}
}
