package backend

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"vmcp/internal/mcpwire"
)

// Listen opens the backend's standalone stream, now or when the session opens, and keeps it open: its messages go to
// OnMessage. A child and a modern backend have no such stream.
func (s *Session) Listen() {
	c := s.conn
	c.mu.Lock()
	l, already := c.up.link, c.listens
	c.listens = true
	c.mu.Unlock()
	if l != nil && !already {
		c.startListening(l)
	}
}

func (c *conn) startListening(l link) {
	h, ok := l.(*httpLink)
	if !ok || h.wire != mcpwire.EraLegacy {
		return
	}
	ctx, cancel := context.WithCancel(c.b.ctx)
	c.mu.Lock()
	if c.up.link != l || c.up.unlist != nil {
		c.mu.Unlock()
		cancel()
		return
	}
	c.up.unlist = cancel
	c.mu.Unlock()
	c.b.running.Go(func() { c.listen(ctx, h) })
}

// again is how long to wait before the stream is opened once more, after so many times in a row that it brought nothing
// and ended soon; false: there is no such stream.
func again(retry time.Duration, fruitless int) (time.Duration, bool) {
	return min(retry<<fruitless, 5*time.Minute), fruitless < 12
}

// listen reads the standalone stream and opens it again when it ends, until the backend says or shows that it has none.
func (c *conn) listen(ctx context.Context, l *httpLink) {
	const soon = 10 * time.Second
	id, retry := "", resumeDelay
	for fruitless := 0; ; fruitless++ {
		began := time.Now()
		body, err := l.open(ctx, id)
		var status *statusError
		if errors.As(err, &status) && status.status < 500 {
			c.b.log.Debug("the backend has no standalone stream", zap.Error(err))
			return
		}
		if err == nil {
			stream := newEvents(body)
			for {
				data, err := stream.next()
				if err != nil {
					break
				}
				fruitless = 0
				r, err := parse(data)
				if err != nil && isNoise(data) {
					continue
				}
				if err != nil {
					c.b.warn("the backend sent an invalid message on its standalone stream", err)
					continue
				}
				c.unsolicited(l, r, func(r mcpwire.Reply) {
					if err := c.b.refuse(ctx, l, r); err != nil {
						c.b.log.Debug("answering a request of the backend", zap.Error(err))
					}
				})
			}
			body.Close()
			id = stream.id
			if stream.retry > 0 {
				retry = min(stream.retry, longestRetry)
			}
			if time.Since(began) > soon {
				fruitless = 0
			}
		}
		pause, more := again(retry, fruitless)
		if !more {
			c.b.log.Info("the backend's standalone stream brings nothing; it is not opened any more", zap.Error(err))
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}
