package gateway

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"vmcp/internal/keyring"
	"vmcp/services/aggregator/internal/backend"
	"vmcp/services/aggregator/internal/fleet"
)

const (
	sessionAge  = 24 * time.Hour   // an id is good for this long, wherever it is presented
	sessionIdle = 30 * time.Minute // after this the state here is given up; the id brings it back
	perCaller   = 1000             // live sessions of one principal; above it the longest unused one is given up
	maxHello    = 4 << 10          // bytes of capabilities and clientInfo that a session id carries
	maxEnded    = 10_000           // ended ids of one principal that are remembered; above it any of them is good again
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
	keys  *keyring.Ring
	fleet Fleet

	mu     sync.Mutex
	live   map[string]*session
	owners map[string]*list.List // sessions of each principal, longest unused first
	// Ids that were DELETEd, by principal and SHA-256, until they expire by themselves.
	ended map[string]map[[sha256.Size]byte]time.Time
}

func newSessions(keys *keyring.Ring, fleet Fleet) *sessions {
	return &sessions{keys: keys, fleet: fleet,
		live: map[string]*session{}, owners: map[string]*list.List{}, ended: map[string]map[[sha256.Size]byte]time.Time{}}
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
	s.outbox.close()
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

// renew follows a change of the backends.
func (ss *sessions) renew(state *fleet.State) {
	ss.mu.Lock()
	live := slices.Collect(maps.Values(ss.live))
	ss.mu.Unlock()
	for _, s := range live {
		s.renew(state)
	}
}

// Run reaps, and follows changes of the backends, until ctx ends.
func (g *Gateway) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	_, changed := g.cfg.Fleet.Next()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			var state *fleet.State
			state, changed = g.cfg.Fleet.Next()
			g.sessions.renew(state)
		case now := <-tick.C:
			g.sessions.reap(now)
		}
	}
}
