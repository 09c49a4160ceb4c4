package backend

import (
	"context"
	"time"
)

// startup is that of a child. It goes on when those who wait for it give up: npx and uvx download a program first, and
// whoever tries again finds it running.
type startup struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when the link is the conn's, or err is set
	link   link
	err    error
}

// await waits for a child to start, and starts one if need be: the lister as long as it takes, a call with patience.
func (c *conn) await(ctx context.Context) (link, error) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, c.b.errorf(ErrUnavailable, false, "%w", errClosed)
	}
	s := c.start
	switch {
	case s != nil:
	case c.up.link != nil: // just now
		s = &startup{done: make(chan struct{}), link: c.up.link}
		close(s.done)
	default:
		ctx, cancel := context.WithTimeoutCause(c.b.ctx, startTimeout, ErrTimeout)
		s = &startup{cancel: cancel, done: make(chan struct{})}
		c.start = s
		c.b.running.Go(func() { c.run(ctx, s) })
	}
	c.mu.Unlock()

	var late <-chan time.Time
	if c != c.b.lister {
		t := time.NewTimer(c.b.patience)
		defer t.Stop()
		late = t.C
	}
	select {
	case <-s.done:
		return s.link, s.err
	case <-late:
		return nil, c.b.errorf(ErrStarting, false, "the start of its child takes long, and goes on")
	case <-ctx.Done():
		return nil, c.b.fail(ctx, ctx.Err(), false)
	}
}

func (c *conn) run(ctx context.Context, s *startup) {
	defer s.cancel()
	l, err := c.b.startChild(ctx, c)
	err = c.b.fail(ctx, err, false)
	if err == nil {
		c.retell(ctx, l)
	}
	c.mu.Lock()
	if err == nil {
		err = c.take(l)
	}
	closing := err != nil && l != nil
	if !closing {
		s.link = l
	}
	s.err, c.start = err, nil
	close(s.done)
	c.idle = time.Now()
	c.mu.Unlock()
	if closing {
		l.close()
	} else if l != nil {
		c.startListening(l)
	}
}
