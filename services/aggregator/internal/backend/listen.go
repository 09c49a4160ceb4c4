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

// listen reads the standalone stream and opens it again when it ends, until the backend says that it has none.
func (c *conn) listen(ctx context.Context, l *httpLink) {
	id, retry := "", resumeDelay
	for {
		body, err := l.open(ctx, id)
		var status *statusError
		if errors.As(err, &status) && status.status >= 400 && status.status < 500 {
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
				r, err := mcpwire.ParseReply(data)
				if err != nil {
					c.b.log.Warn("the backend sent an invalid message on its standalone stream", zap.Error(err))
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
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(retry):
		}
	}
}
