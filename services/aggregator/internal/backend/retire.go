package backend

import (
	"context"
	"time"

	"go.uber.org/zap"
)

// Retire says that another Backend, or none, stands behind the name from now on. Children and sessions that nobody calls
// end; who calls all the same is served until Run ends.
func (b *Backend) Retire() {
	b.retire.Do(func() { close(b.retired) })
	b.reap(time.Now().Add(idleTimeout))
}

// Retired is closed by Retire.
func (b *Backend) Retired() <-chan struct{} { return b.retired }

// Busy says whether calls are in progress.
func (b *Backend) Busy() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.conns {
		c.mu.Lock()
		busy := len(c.clocks) > 0
		c.mu.Unlock()
		if busy {
			return true
		}
	}
	return false
}

// Backend is whom the session is with.
func (s *Session) Backend() *Backend { return s.conn.b }

// Busy says whether calls of this session are in progress.
func (s *Session) Busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.calls) > 0
}

// Watching are the URIs that the session watches.
func (s *Session) Watching() []string {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	var mine []string
	for _, uri := range c.wants.uris() {
		if c.wants.watched[uri][s] {
			mine = append(mine, uri)
		}
	}
	return mine
}

// WatchAll watches each of the URIs, in the background.
func (s *Session) WatchAll(uris []string) {
	if len(uris) == 0 {
		return
	}
	b := s.conn.b
	b.inBackground(func() {
		ctx, cancel := context.WithTimeoutCause(b.ctx, b.cfg.Timeout, ErrTimeout)
		defer cancel()
		for _, uri := range uris {
			if err := s.Watch(ctx, uri); err != nil && ctx.Err() == nil {
				b.log.Warn("a resource is not watched any more", zap.Error(err))
			}
		}
	})
}
