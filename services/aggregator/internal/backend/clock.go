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
	last  time.Time // the end of the longest time
	over  context.CancelCauseFunc

	mu    sync.Mutex
	timer *time.Timer     // one for both, set to what comes first
	asked map[string]bool // the backend's ids of what the client was asked
	ended bool
}

// newClock makes a clock that stands still until wind, and the context that it ends; the longest time begins now.
func newClock(ctx context.Context, limit, longest time.Duration) (context.Context, *clock) {
	longest = max(longest, limit)
	ctx, over := context.WithCancelCause(ctx)
	return ctx, &clock{limit: limit, last: time.Now().Add(longest), over: over,
		timer: time.AfterFunc(longest, func() { over(ErrTimeout) })}
}

// wind starts the clock, or starts it anew.
func (c *clock) wind() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended && len(c.asked) == 0 {
		c.timer.Reset(min(c.limit, time.Until(c.last)))
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
	if !c.ended {
		c.timer.Reset(time.Until(c.last))
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
	c.timer.Stop()
	c.mu.Unlock()
	c.over(context.Canceled)
}
