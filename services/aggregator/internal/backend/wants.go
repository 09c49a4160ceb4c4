package backend

import (
	"context"
	"slices"
	"time"

	"go.uber.org/zap"

	"vmcp/internal/mcpwire"
)

// retellTime is for telling a new link all that a session wants of it. A call may be waiting.
const retellTime = 5 * time.Second

// wants are what a session wants of its backend beyond answers to calls. What a link was told is lost with it, so each
// new one is told again. Guarded by conn.mu.
type wants struct {
	stream  bool                         // the standalone stream of a legacy backend
	lists   []mcpwire.ItemKind           // whose changes a modern backend is to tell of
	level   string                       // of log messages; empty: as the backend likes
	watched map[string]map[*Session]bool // by URI, who wants to know of its changes; no set is empty
}

// uris are the watched ones, in order.
func (w *wants) uris() []string {
	all := make([]string, 0, len(w.watched))
	for uri := range w.watched {
		all = append(all, uri)
	}
	slices.Sort(all)
	return all
}

// watch notes that s watches a resource; fresh says that it did not before.
func (c *conn) watch(s *Session, uri string) (fresh bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wants.watched == nil {
		c.wants.watched = map[string]map[*Session]bool{}
	}
	all := c.wants.watched[uri]
	if all == nil {
		all = map[*Session]bool{}
		c.wants.watched[uri] = all
	}
	fresh = !all[s]
	all[s] = true
	return fresh
}

// unwatch is the end of that; last says that nobody watches it any more.
func (c *conn) unwatch(s *Session, uri string) (last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.wants.watched[uri]
	if !all[s] {
		return len(all) == 0
	}
	if delete(all, s); len(all) > 0 {
		return false
	}
	delete(c.wants.watched, uri)
	return true
}

// watches says whether anybody waits for changes of a resource: then the link stays open, and is opened again.
func (c *conn) watches() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.wants.watched) > 0
}

// retell tells a new link what the session wants of it. A backend that refuses is none the less good for calls.
func (c *conn) retell(ctx context.Context, l link) {
	c.mu.Lock()
	level, uris := c.wants.level, c.wants.uris()
	c.mu.Unlock()
	if l.era() == mcpwire.EraModern || level == "" && len(uris) == 0 {
		return // a modern backend is told with each request, and by the stream that listens
	}
	ctx, cancel := context.WithTimeoutCause(ctx, retellTime, ErrTimeout)
	defer cancel()
	tell := func(method, member, value string) {
		params := object([]mcpwire.Field{{Name: member, Value: mcpwire.Quote(value)}})
		if _, err := c.b.query(ctx, l, c.mint(), method, params); err != nil {
			c.b.log.Debug("the backend does not take up again what a session wanted of it", zap.String("method", method), zap.Error(err))
		}
	}
	if level != "" && l.hello().capabilities.Raw("logging") != nil {
		tell("logging/setLevel", "level", level)
	}
	for _, uri := range uris {
		tell("resources/subscribe", "uri", uri)
	}
}

// SetLevel tells the backend from which level on log messages are wanted, now and whenever the session opens.
func (s *Session) SetLevel(ctx context.Context, level string) {
	c := s.conn
	c.mu.Lock()
	same := c.wants.level == level
	c.wants.level = level
	l := c.up.link
	c.mu.Unlock()
	if same || l == nil || l.era() == mcpwire.EraModern || l.hello().capabilities.Raw("logging") == nil {
		return
	}
	if _, err := c.b.query(ctx, l, c.mint(), "logging/setLevel", object([]mcpwire.Field{{Name: "level", Value: mcpwire.Quote(level)}})); err != nil {
		c.b.log.Debug("the backend does not take the level of log messages", zap.Error(err))
	}
}
