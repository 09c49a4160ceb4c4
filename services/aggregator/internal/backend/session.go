package backend

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"vmcp/internal/mcpwire"
)

// Session is one holder's way to the backend: one client session (legacy) or one principal (modern).
// Safe for concurrent use.
type Session struct {
	conn *conn

	mu     sync.Mutex
	calls  map[string]*call // by the client's id, for Cancel
	closed atomic.Bool
}

func isRejection(err error) bool {
	return errors.Is(err, errSessionGone) || errors.Is(err, errEraChanged) || errors.Is(err, errStaleHeaders)
}

// Do sends one request and calls sink for each message that belongs to it, in order, the response last. It returns
// after the response, or with an *Error, the sink's error, or the cause of ctx. A sink that blocks holds up this call
// only. After an error the sink has seen no response.
func (s *Session) Do(ctx context.Context, req Request, sink func(Message) error) error {
	b := s.conn.b
	ctx, cancel := context.WithTimeoutCause(ctx, b.cfg.Timeout, ErrTimeout)
	defer cancel()

	c := &call{s: s, req: req, client: s.conn.key.era, sink: sink, cancel: cancel}
	id := string(req.Message.ID)
	s.mu.Lock()
	s.calls[id] = c
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		if s.calls[id] == c {
			delete(s.calls, id)
		}
		s.mu.Unlock()
	}()
	s.conn.begin()
	defer s.conn.end()

	for attempt := 0; ; attempt++ {
		l, err := s.conn.open(ctx)
		if err != nil {
			return err
		}
		c.at(l)
		err = c.run(ctx, l)
		if err == nil {
			if req.Message.Method == "resources/subscribe" {
				s.Listen()
			}
			return nil
		}
		if c.sinkErr != nil {
			c.abandon(ctx, l)
			return c.sinkErr
		}
		if isRejection(err) && attempt == 0 && ctx.Err() == nil {
			b.log.Info("repeating a request that was refused unexecuted", zap.Error(err))
			if errors.Is(err, errStaleHeaders) {
				if _, err := b.List(ctx); err != nil {
					return err
				}
				continue
			}
			if errors.Is(err, errEraChanged) {
				b.facts.Store(nil)
			}
			s.conn.discard(l)
			continue
		}
		var status *statusError
		if errors.As(err, &status) && l.era() == mcpwire.EraModern && status.contradicts() {
			b.facts.Store(nil) // BR-3: the next call probes again
			s.conn.discard(l)
		}
		c.abandon(ctx, l)
		if c.cancelled.Load() {
			return b.errorf(ErrCancelled, true, "cancelled by the client")
		}
		return b.fail(ctx, err, !isRejection(err))
	}
}

// at notes where the call is running.
func (c *call) at(l link) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.link, c.wire, c.id = l, l.era(), c.s.conn.mint()
}

// abandon tells the backend that nobody waits any more: where the time is up, and where a modern client closed its
// stream, which is its way to cancel. A legacy client's disconnect is no cancellation (HL-6). A modern backend sees
// the stream close.
func (c *call) abandon(ctx context.Context, l link) {
	if ctx.Err() == nil && c.sinkErr == nil || c.cancelled.Load() {
		return
	}
	timeout := errors.Is(context.Cause(ctx), ErrTimeout)
	if timeout || c.client == mcpwire.EraModern {
		c.sendCancel(context.WithoutCancel(ctx), l, "")
	}
}

// sendCancel tells a backend with sessions, or any child, that a request is no longer wanted.
func (c *call) sendCancel(ctx context.Context, l link, reason string) {
	if _, http := l.(*httpLink); http && l.era() == mcpwire.EraModern {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, partingTimeout)
	defer cancel()
	body := append([]byte(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":`), c.id...)
	if reason != "" {
		body = append(append(body, `,"reason":`...), mcpwire.Quote(reason)...)
	}
	if err := l.post(ctx, append(body, "}}"...), nil); err != nil {
		c.s.conn.b.log.Debug("a cancellation did not reach the backend", zap.Error(err))
	}
}

// Cancel ends the call with this id of the client: the backend is told, and Do returns ErrCancelled. An id of no
// running call is ignored (PC-3).
func (s *Session) Cancel(ctx context.Context, id mcpwire.RawID, reason string) {
	s.mu.Lock()
	c := s.calls[string(id)]
	var l link
	if c != nil {
		l = c.link
	}
	s.mu.Unlock()
	if c == nil || c.cancelled.Swap(true) {
		return
	}
	if l != nil {
		c.sendCancel(ctx, l, reason)
	}
	c.cancel()
}

// RootsChanged passes a legacy client's notifications/roots/list_changed to a legacy backend that may know of roots and
// with which the session is open; otherwise there is nobody to tell.
func (s *Session) RootsChanged(ctx context.Context, body []byte) error {
	l := s.conn.current()
	if l == nil || !s.conn.b.tellsRoots() || l.era() != mcpwire.EraLegacy || s.conn.opts.Era != mcpwire.EraLegacy || s.conn.b.cfg.Shared {
		return nil
	}
	return s.conn.b.fail(ctx, l.post(ctx, body, nil), true)
}

// Respond passes a client's answer to a request of the backend. The body carries the backend's id.
func (s *Session) Respond(ctx context.Context, body []byte) error {
	l := s.conn.current()
	if l == nil || l.era() != mcpwire.EraLegacy {
		return nil // the session in which it was asked is gone
	}
	return s.conn.b.fail(ctx, l.post(ctx, body, nil), true)
}

// Listen opens the backend's standalone stream, now or when the session opens, and keeps it open: its messages go to
// OnMessage. A child and a modern backend have no such stream.
func (s *Session) Listen() {
	c := s.conn
	c.mu.Lock()
	l, already := c.link, c.listens
	c.listens = true
	c.mu.Unlock()
	if l != nil && !already {
		c.startListening(l)
	}
}

// Close gives the session up. The last holder of a legacy session ends it at the backend; a modern principal's stays
// for the next one until it is idle for 10 minutes.
func (s *Session) Close() {
	if !s.closed.Swap(true) {
		s.conn.release()
	}
}

func (c *conn) startListening(l link) {
	h, ok := l.(*httpLink)
	if !ok || h.wire != mcpwire.EraLegacy {
		return
	}
	ctx, cancel := context.WithCancel(c.b.ctx)
	c.mu.Lock()
	if c.link != l || c.unlist != nil {
		c.mu.Unlock()
		cancel()
		return
	}
	c.unlist = cancel
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
				if err := c.unsolicited(ctx, l, r); err != nil {
					c.b.log.Debug("answering a request of the backend", zap.Error(err))
				}
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
