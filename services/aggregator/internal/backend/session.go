package backend

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"

	"vmcp/internal/mcpwire"
)

// Session is one holder's way to the backend: one client session (legacy) or one principal (modern).
// Safe for concurrent use.
type Session struct {
	conn      *conn
	onUpdated func(mcpwire.Reply) // may be nil

	mu     sync.Mutex
	calls  map[string]*call // by the client's id, for Cancel
	closed atomic.Bool
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
	c.clock.over(context.Canceled)
}

// RootsChanged passes a legacy client's notifications/roots/list_changed to a legacy backend that may know of roots and
// with which the session is open; otherwise there is nobody to tell.
func (s *Session) RootsChanged(ctx context.Context, body []byte) error {
	l := s.conn.current()
	if l == nil || !s.conn.b.tellsRoots() || l.era() != mcpwire.EraLegacy || s.conn.opts.Era != mcpwire.EraLegacy || s.conn.b.cfg.Shared {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.conn.b.cfg.Timeout, ErrTimeout)
	defer cancel()
	return s.conn.b.fail(ctx, l.post(ctx, body, nil), true)
}

// Origin is where a request of the backend came from. Only there its answer means anything: a server that started anew
// uses the same ids for other questions.
type Origin struct {
	link   link
	answer chan<- []byte // of a question of a modern backend: to the call that asks in its place
}

// Respond passes a client's answer to the backend's request with this id. The body carries the id too.
func (s *Session) Respond(ctx context.Context, from Origin, id mcpwire.RawID, body []byte) error {
	s.conn.answered(string(id))
	if from.answer != nil {
		select {
		case from.answer <- bytes.Clone(body):
		default: // it has one
		}
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.conn.b.cfg.Timeout, ErrTimeout)
	defer cancel()
	if l := s.conn.current(); l == nil || l != from.link || l.era() != mcpwire.EraLegacy {
		return nil // the session in which it was asked is gone
	}
	return s.conn.b.fail(ctx, from.link.post(ctx, body, nil), true)
}

// Close gives the session up. The last holder of a legacy session ends it at the backend; a modern principal's stays
// for the next one until it is idle for 10 minutes.
func (s *Session) Close() {
	if !s.closed.Swap(true) {
		s.conn.forget(s)
		s.conn.release()
	}
}
