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
	maxAsked    = 100 // requests of one backend in one session that wait for the client's answer
	maxDeclines = 16  // answers in one session on the way to backends that ask a client that does not listen
)

// question is a backend's request to the client.
type question struct {
	backend *backend.Session
	from    backend.Origin
	id      mcpwire.RawID // the backend's
	serial  int
}

// ask notes a backend's request and returns the id under which the client gets it (AG-25). Ids of two backends may be
// equal, so the client sees one of ours. It stays good when the call is over of which the question was a part: the
// backend may still wait. Of too many the oldest is given up.
func (s *session) ask(b *backend.Session, from backend.Origin, id mcpwire.RawID) mcpwire.RawID {
	s.mu.Lock()
	defer s.mu.Unlock()
	oldest, n := "", 0
	for known, q := range s.asked {
		if q.backend != b {
			continue
		}
		if n++; n == 1 || q.serial < s.asked[oldest].serial {
			oldest = known
		}
	}
	if n >= maxAsked {
		delete(s.asked, oldest)
	}
	s.serial++
	ours := mcpwire.RawID(`"vmcp-` + strconv.Itoa(s.serial) + `"`)
	s.asked[string(ours)] = question{b, from, append(mcpwire.RawID(nil), id...), s.serial}
	return ours
}

// withdraw makes a backend's notifications/cancelled one about the question as the client knows it. Nil: of no question
// that waits.
func (s *session) withdraw(b *backend.Session, m mcpwire.Reply) []byte {
	params, _ := m.Params()
	at, ok := params.Find("requestId")
	if !ok {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for ours, q := range s.asked {
		if q.backend == b && string(q.id) == string(m.Body.Text[at.Start:at.End]) {
			delete(s.asked, ours)
			return mcpwire.Splice(m.Body.Text, mcpwire.Edit{Start: at.Start, End: at.End, With: []byte(ours)})
		}
	}
	return nil
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
	if err := q.backend.Respond(ctx, q.from, q.id, mcpwire.Splice(m.Body, m.IDEdit(q.id))); err != nil {
		log.Warn("a client's answer did not reach the backend", zap.Error(err))
	}
}

// unsolicited handles what a backend sends outside of any call: to the open GET stream, or nowhere (AG-26).
func (s *session) unsolicited(b *backend.Session, from backend.Origin, m mcpwire.Reply) {
	switch {
	case strings.HasSuffix(m.Method, "/list_changed"):
		return // the catalog changes first, and streams tell of that
	case m.Kind == mcpwire.KindRequest:
		text := m.Body.Text
		s.mu.Lock()
		streaming := s.outbox.letters != nil
		s.mu.Unlock()
		if !streaming {
			s.decline(b, from, m.ID)
			return
		}
		id := s.ask(b, from, m.ID)
		if !s.post(mcpwire.Splice(text, mcpwire.Edit{Start: m.IDSpan.Start, End: m.IDSpan.End, With: id})) {
			s.mu.Lock()
			delete(s.asked, string(id))
			s.mu.Unlock()
			s.decline(b, from, m.ID)
		}
	case m.Method == "notifications/cancelled":
		if text := s.withdraw(b, m); text != nil {
			s.post(text)
		}
	case m.Kind == mcpwire.KindNotification:
		s.post(append([]byte(nil), m.Body.Text...))
	}
}

// decline answers a backend's request that the client will not see, apart from the reading of its messages. A backend
// that asks faster than it takes answers gets none.
func (s *session) decline(b *backend.Session, from backend.Origin, id mcpwire.RawID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.declines == maxDeclines {
		return
	}
	s.declines++
	id = append(mcpwire.RawID(nil), id...)
	answer := mcpwire.AppendError(nil, id, mcpwire.CodeMethodNotFound, "the client listens to no requests", nil)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		b.Respond(ctx, from, id, answer) // best effort
		cancel()
		s.mu.Lock()
		s.declines--
		s.mu.Unlock()
	}()
}
