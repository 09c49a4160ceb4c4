package gateway

import (
	"context"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"vmcp/internal/mcpwire"
	"vmcp/services/aggregator/internal/backend"
)

const (
	maxAsked    = 1000 // requests of backends in one session that wait for the client's answer
	maxDeclines = 16   // answers in one session on the way to backends that ask a client that does not listen
)

// question is a backend's request to the client.
type question struct {
	backend *backend.Session
	id      mcpwire.RawID // the backend's
}

// ask notes a backend's request and returns the id under which the client gets it (AG-25). Ids of two backends may be
// equal, so the client sees one of ours. Nil where too many wait already.
func (s *session) ask(b *backend.Session, id mcpwire.RawID) mcpwire.RawID {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.asked) >= maxAsked {
		return nil
	}
	s.serial++
	ours := mcpwire.RawID(`"vmcp-` + strconv.Itoa(s.serial) + `"`)
	s.asked[string(ours)] = question{b, append(mcpwire.RawID(nil), id...)}
	return ours
}

// forget drops questions that nobody will answer any more.
func (s *session) forget(ids []mcpwire.RawID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		delete(s.asked, string(id))
	}
}

// responded passes the client's answer to the backend that asked; an answer to no question is dropped.
func (s *session) responded(ctx context.Context, m *mcpwire.Message, log *zap.Logger) {
	s.mu.Lock()
	q, ok := s.asked[string(m.ID)]
	delete(s.asked, string(m.ID))
	s.mu.Unlock()
	if !ok {
		return
	}
	if err := q.backend.Respond(ctx, mcpwire.Splice(m.Body, m.IDEdit(q.id))); err != nil {
		log.Warn("a client's answer did not reach the backend", zap.Error(err))
	}
}

// unsolicited handles what a backend sends outside of any call: to the open GET stream, or nowhere (AG-26).
func (s *session) unsolicited(b *backend.Session, m mcpwire.Reply) {
	switch {
	case strings.HasSuffix(m.Method, "/list_changed"):
		return // the catalog changes first, and streams tell of that
	case m.Kind == mcpwire.KindRequest:
		text := m.Body.Text
		s.mu.Lock()
		streaming := s.outbox.box != nil
		s.mu.Unlock()
		if !streaming {
			s.decline(b, m.ID)
			return
		}
		id := s.ask(b, m.ID)
		if id == nil {
			s.decline(b, m.ID)
			return
		}
		if !s.post(mcpwire.Splice(text, mcpwire.Edit{Start: m.IDSpan.Start, End: m.IDSpan.End, With: id})) {
			s.forget([]mcpwire.RawID{id})
		}
	case m.Kind == mcpwire.KindNotification:
		s.post(append([]byte(nil), m.Body.Text...))
	}
}

// decline answers a backend's request that the client will not see, apart from the reading of its messages. A backend
// that asks faster than it takes answers gets none.
func (s *session) decline(b *backend.Session, id mcpwire.RawID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.declines == maxDeclines {
		return
	}
	s.declines++
	answer := mcpwire.AppendError(nil, id, mcpwire.CodeMethodNotFound, "the client listens to no requests", nil)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		b.Respond(ctx, answer) // best effort
		cancel()
		s.mu.Lock()
		s.declines--
		s.mu.Unlock()
	}()
}
