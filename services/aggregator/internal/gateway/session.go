package gateway

import (
	"container/list"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"vmcp/internal/mcpwire"
	"vmcp/services/aggregator/internal/backend"
	"vmcp/services/aggregator/internal/fleet"
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
	former   []*backend.Session  // with backends that were replaced, for the calls in progress there
	level    string              // of the last logging/setLevel
	asked    map[string]question // requests of backends that wait for the client's answer, by the id it knows
	serial   int
	declines int // answers in progress, see decline
	outbox   outbox
}

// backend returns the client session's way to one backend, nil where there is no such backend. A session that has ended
// has none.
func (s *session) backend(name string) (way *backend.Session, ended bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, true
	}
	return s.way(name, s.all.fleet.State().Backends[name]), false
}

// way is the session's to the backend to, which is the one behind that name now: nil is none. What the client wanted of
// the one before is wanted of this one; calls in progress stay where they are. Callers hold mu.
func (s *session) way(name string, to *backend.Backend) *backend.Session {
	old := s.backends[name]
	if old != nil && old.Backend() == to {
		return old
	}
	var watching []string
	if old != nil {
		watching = old.Watching()
		delete(s.backends, name)
		s.former = append(s.former, old)
	}
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
	box.WatchAll(watching)
	s.backends[name] = box
	return box
}

// renew follows a change of the backends, for what the client wants of them without calling.
func (s *session) renew(state *fleet.State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.former = slices.DeleteFunc(s.former, func(b *backend.Session) bool { return !b.Busy() })
	for name := range s.backends {
		s.way(name, state.Backends[name])
	}
}

// notified handles a client's notification. What has no meaning here is dropped.
func (s *session) notified(ctx context.Context, m *mcpwire.Message) {
	s.mu.Lock()
	open := slices.Collect(maps.Values(s.backends))
	former := slices.Clone(s.former)
	s.mu.Unlock()
	switch m.Method {
	case "notifications/cancelled":
		reason, _ := m.Params.String("reason")
		for _, b := range append(former, open...) { // the one that runs the call knows its id
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
	s.backends, s.former = nil, nil // those end with their backends
}
