package backend

import (
	"context"
	"sync"
	"time"
)

// clock ends the context of a call in which nothing moves for limit: progress winds it up again, and while the client
// is asked something it stands still, since a person takes longer than a server. The longest time of a call, which
// newClock is told too, runs on through both (HT-9).
type clock struct {
	limit time.Duration
	over  context.CancelCauseFunc

	mu    sync.Mutex
	timer *time.Timer     // nil: not started yet, or ended
	asked map[string]bool // the backend's ids of what the client was asked
	ended bool
}

// newClock makes a clock that stands still until wind, and the context that it ends; the longest time begins now.
func newClock(ctx context.Context, limit, longest time.Duration) (context.Context, *clock) {
	ctx, cancel := context.WithTimeoutCause(ctx, max(longest, limit), ErrTimeout)
	ctx, over := context.WithCancelCause(ctx)
	return ctx, &clock{limit: limit, over: func(cause error) { over(cause); cancel() }}
}

// wind starts the clock, or starts it anew.
func (c *clock) wind() {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.ended || len(c.asked) > 0:
	case c.timer == nil:
		c.timer = time.AfterFunc(c.limit, func() { c.over(ErrTimeout) })
	default:
		c.timer.Reset(c.limit)
	}
}

// ask stops the clock until the question with this id is answered.
func (c *clock) ask(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asked == nil {
		c.asked = map[string]bool{}
	}
	c.asked[id] = true
	if c.timer != nil {
		c.timer.Stop()
	}
}

// answered winds the clock up again where no other question is open.
func (c *clock) answered(id string) {
	c.mu.Lock()
	known := c.asked[id]
	delete(c.asked, id)
	c.mu.Unlock()
	if known {
		c.wind()
	}
}

// end is for when the call is over.
func (c *clock) end() {
	c.mu.Lock()
	c.ended = true
	if c.timer != nil {
		c.timer.Stop()
	}
	c.mu.Unlock()
	c.over(context.Canceled)
}
