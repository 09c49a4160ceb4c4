package gateway

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"maps"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"vmcp/internal/keyring"
	"vmcp/internal/mcpwire"
	"vmcp/services/aggregator/internal/backend"
)

const (
	sessionAge  = 24 * time.Hour   // an id is good for this long, wherever it is presented
	sessionIdle = 30 * time.Minute // after this the state here is given up; the id brings it back
	perCaller   = 1000             // live sessions of one principal; above it the longest unused one is given up
	maxHello    = 4 << 10          // bytes of capabilities and clientInfo that a session id carries
	maxEnded    = 10_000           // ended ids of one principal that are remembered; above it any of them is good again
	maxAsked    = 1000             // requests of backends in one session that wait for the client's answer
	maxDeclines = 16               // answers in one session on the way to backends that ask a client that does not listen
	purpose     = "mcp-session-v1"
)

// sealedSession is what a session id holds, sealed: enough to go on with the session on another replica or after a
// restart. It holds nothing of a backend's.
type sealedSession struct {
	Principal    string          `json:"p"`
	Version      string          `json:"v"`
	Opened       int64           `json:"t"` // seconds since the Unix epoch
	Capabilities json.RawMessage `json:"c,omitempty"`
	ClientInfo   json.RawMessage `json:"i,omitempty"`
}

// sessions are the legacy client sessions that this replica has state for.
type sessions struct {
	keys     *keyring.Ring
	backends map[string]*backend.Backend

	mu     sync.Mutex
	live   map[string]*session
	owners map[string]*list.List // sessions of each principal, longest unused first
	// Ids that were DELETEd, by principal and SHA-256, until they expire by themselves.
	ended map[string]map[[sha256.Size]byte]time.Time
}

func newSessions(keys *keyring.Ring, backends map[string]*backend.Backend) *sessions {
	return &sessions{keys: keys, backends: backends,
		live: map[string]*session{}, owners: map[string]*list.List{}, ended: map[string]map[[sha256.Size]byte]time.Time{}}
}

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
	declines int           // answers in progress, see decline
	outbox   chan []byte   // to the open GET stream; nil without one
	replaced chan struct{} // closed when the stream has to end: a newer one takes over, or the session ends
}

// question is a backend's request to the client.
type question struct {
	backend *backend.Session
	id      mcpwire.RawID // the backend's
}

// open makes a session id. State comes with first use.
func (ss *sessions) open(principal, version string, capabilities, clientInfo json.RawMessage) (string, error) {
	if len(capabilities)+len(clientInfo) > maxHello {
		return "", errors.New("params.capabilities and params.clientInfo are too long: at most 4096 bytes together")
	}
	text, err := json.Marshal(sealedSession{principal, version, time.Now().Unix(), capabilities, clientInfo})
	if err != nil {
		return "", errors.New("params.capabilities and params.clientInfo must be objects")
	}
	return ss.keys.Seal(purpose, text, nil), nil
}

// unseal reads an id that any replica made.
func (ss *sessions) unseal(id string) (sealedSession, bool) {
	var s sealedSession
	plain, ok := ss.keys.Open(purpose, id, nil)
	return s, ok && json.Unmarshal(plain, &s) == nil
}

// find returns the principal's session with this id, to be released after use; nil where there is none. Whose session
// it is, or whether it exists, is the same to everybody else (HL-2).
func (ss *sessions) find(id, principal string) *session {
	now := time.Now()
	ss.mu.Lock()
	defer ss.mu.Unlock()
	s := ss.live[id]
	if s == nil {
		hello, ok := ss.unseal(id)
		expires := time.Unix(hello.Opened, 0).Add(sessionAge)
		if _, ended := ss.ended[principal][sha256.Sum256([]byte(id))]; !ok || ended || hello.Principal != principal || now.After(expires) {
			return nil
		}
		s = &session{id: id, principal: principal, version: hello.Version, expires: expires, hello: hello, all: ss,
			backends: map[string]*backend.Session{}, asked: map[string]question{}}
		ss.live[id] = s
		own := ss.owners[principal]
		if own == nil {
			own = list.New()
			ss.owners[principal] = own
		}
		s.elem = own.PushBack(s)
		ss.limit(own)
	}
	if s.principal != principal || now.After(s.expires) {
		return nil
	}
	ss.owners[principal].MoveToBack(s.elem)
	s.used = now
	s.refs++
	return s
}

// limit gives up the longest unused session of a principal that has too many, never the one that was just added.
// Callers hold mu.
func (ss *sessions) limit(own *list.List) {
	if own.Len() <= perCaller {
		return
	}
	for e := own.Front(); e != own.Back(); e = e.Next() {
		if s := e.Value.(*session); s.refs == 0 {
			ss.drop(s)
			return
		}
	}
}

// drop forgets the state of a session. Callers hold mu.
func (ss *sessions) drop(s *session) {
	if s.gone {
		return
	}
	s.gone = true
	delete(ss.live, s.id)
	own := ss.owners[s.principal]
	own.Remove(s.elem)
	if own.Len() == 0 {
		delete(ss.owners, s.principal)
	}
	if s.refs == 0 {
		s.close()
	}
}

func (s *session) release() {
	s.all.mu.Lock()
	defer s.all.mu.Unlock()
	s.refs--
	s.used = time.Now()
	if s.gone && s.refs == 0 {
		s.close()
	}
}

// end is the owner's DELETE: the id is no longer good, and the open stream ends.
func (ss *sessions) end(s *session) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	own := ss.ended[s.principal]
	if own == nil {
		own = map[[sha256.Size]byte]time.Time{}
		ss.ended[s.principal] = own
	}
	for id := range own { // full: any may go
		if len(own) < maxEnded {
			break
		}
		delete(own, id)
	}
	own[sha256.Sum256([]byte(s.id))] = s.expires
	s.mu.Lock()
	s.ended = true
	if s.replaced != nil {
		close(s.replaced)
		s.outbox, s.replaced = nil, nil
	}
	s.mu.Unlock()
	ss.drop(s)
}

// reap gives up what is idle or expired.
func (ss *sessions) reap(now time.Time) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for _, s := range ss.live {
		if s.refs == 0 && (now.Sub(s.used) > sessionIdle || now.After(s.expires)) {
			ss.drop(s)
		}
	}
	for principal, own := range ss.ended {
		maps.DeleteFunc(own, func(_ [sha256.Size]byte, expires time.Time) bool { return now.After(expires) })
		if len(own) == 0 {
			delete(ss.ended, principal)
		}
	}
}

// Run reaps until ctx ends.
func (g *Gateway) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			g.sessions.reap(now)
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

// backend returns the client session's way to one backend, nil where there is no such backend.
func (s *session) backend(name string) (b *backend.Session, fresh bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.backends[name]; b != nil || s.closed {
		return b, false
	}
	to := s.all.backends[name]
	if to == nil {
		return nil, false
	}
	var box *backend.Session
	box = to.Session(backend.SessionOptions{
		Era: mcpwire.EraLegacy, Key: s.id, Version: s.version,
		ClientInfo: s.hello.ClientInfo, Capabilities: s.hello.Capabilities,
		OnMessage: func(m mcpwire.Reply) { s.unsolicited(box, m) },
	})
	s.backends[name] = box
	return box, true
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

// unsolicited handles what a backend sends outside of any call: to the open GET stream, or nowhere (AG-26).
func (s *session) unsolicited(b *backend.Session, m mcpwire.Reply) {
	switch {
	case strings.HasSuffix(m.Method, "/list_changed"):
		return // the catalog changes first, and streams tell of that
	case m.Kind == mcpwire.KindRequest:
		text := m.Body.Text
		s.mu.Lock()
		streaming := s.outbox != nil
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

// post puts a message into the GET stream; without one, or when it is full, the message is lost, as it would be on a
// connection that broke.
func (s *session) post(msg []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case s.outbox <- msg: // a nil channel is never ready
		return true
	default:
		return false
	}
}
