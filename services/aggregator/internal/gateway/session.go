package gateway

import (
	"container/list"
	"context"
	"sync"
	"time"

	"vmcp/internal/mcpwire"
	"vmcp/services/aggregator/internal/backend"
)

// session is one legacy client session.
type session struct {
	id        string
	principal string
	version   string
	expires   time.Time
	hello     sealedSession

	// Guarded by sessions.mu.
	all  *sessions
	used time.Time
	refs int
	elem *list.Element
	gone bool

	mu       sync.Mutex
	ended    bool // by DELETE; calls in progress go on
	closed   bool
	backends map[string]*backend.Session
	level    string              // of the last logging/setLevel
	asked    map[string]question // requests of backends that wait for the client's answer, by the id it knows
	serial   int
	declines int // answers in progress, see decline
	outbox   outbox
}

// backend returns the client session's way to one backend, nil where there is no such backend.
func (s *session) backend(name string) *backend.Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.backends[name]; b != nil || s.closed {
		return b
	}
	to := s.all.backends[name]
	if to == nil {
		return nil
	}
	var box *backend.Session
	box = to.Session(backend.SessionOptions{
		Era: mcpwire.EraLegacy, Key: s.id, Principal: s.principal, Version: s.version,
		ClientInfo: s.hello.ClientInfo, Capabilities: s.hello.Capabilities,
		OnMessage: func(m mcpwire.Reply, from backend.Origin) { s.unsolicited(box, from, m) },
		OnUpdated: func(m mcpwire.Reply) { s.post(append([]byte(nil), m.Body.Text...)) },
	})
	if s.outbox.letters != nil {
		box.Listen()
	}
	if s.level != "" {
		box.SetLevel(context.Background(), s.level) // it is not open yet: told when it opens
	}
	s.backends[name] = box
	return box
}

// notified handles a client's notification. What has no meaning here is dropped.
func (s *session) notified(ctx context.Context, m *mcpwire.Message) {
	s.mu.Lock()
	open := make([]*backend.Session, 0, len(s.backends))
	for _, b := range s.backends {
		open = append(open, b)
	}
	s.mu.Unlock()
	switch m.Method {
	case "notifications/cancelled":
		reason, _ := m.Params.String("reason")
		for _, b := range open { // the one that runs the call knows its id
			b.Cancel(ctx, mcpwire.RawID(m.Params.Raw("requestId")), reason)
		}
	case "notifications/roots/list_changed":
		for _, b := range open {
			b.RootsChanged(ctx, m.Body) // a backend that is away learns of it when it asks
		}
	}
}

// close ends the session at the backends. Safe to call with sessions.mu held: backends are left in the background.
func (s *session) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, b := range s.backends {
		b.Close()
	}
	s.backends = nil
}
