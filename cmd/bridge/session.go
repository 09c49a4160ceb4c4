package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"vmcp/internal/mcpwire"
	"vmcp/internal/stdio"
)

const (
	maxWaiting = 64 << 20 // bytes that wait for one answer or stream
	maxNotices = 1000     // messages that wait for a stream
)

// envelope is what has to be known of a message to carry it. Nothing is decided upon it, so it is read as generously as
// encoding/json does.
type envelope struct {
	ID     json.RawMessage
	Method string
	Params struct {
		ProgressToken json.RawMessage
		Meta          struct {
			ProgressToken  json.RawMessage
			SubscriptionID json.RawMessage `json:"io.modelcontextprotocol/subscriptionId"`
		} `json:"_meta"`
	}
}

// key makes one of the spellings of an id or token: some servers make a string of a number.
func key(raw json.RawMessage) string { return string(bytes.Trim(raw, `" `)) }

// asks says of a method of a client that the server may ask the client something in the course of it (AG-26).
func asks(method string) bool {
	return method == "tools/call" || method == "prompts/get" || method == "resources/read"
}

// box holds messages for one answer, or for the stream of a session, until its writer takes them: all of them share the
// child's output, and one that is not read must not hold up the others.
type box struct {
	id, token string
	asks      bool
	wake      chan struct{} // holds one token while there may be something

	// Guarded by session.mu.
	queue  [][]byte
	queued int
	lost   bool // more came than may wait
	ended  bool
}

func newBox() *box { return &box{wake: make(chan struct{}, 1)} }

func (b *box) put(msg []byte) {
	switch {
	case b.id != "" && b.queued+len(msg) > maxWaiting:
		b.lost = true
	case b.queued+len(msg) > maxWaiting || b.id == "" && len(b.queue) >= maxNotices: // nobody reads them
	default:
		b.queue = append(b.queue, msg)
		b.queued += len(msg)
	}
	b.nudge()
}

func (b *box) nudge() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// session is a child and who waits for what it writes.
type session struct {
	id      string
	alone   bool // 2026-07-28: every request stands for itself, and one that nobody waits for is cancelled
	process *stdio.Process

	mu      sync.Mutex
	calls   []*box // in progress, in the order they began
	notices *box   // what is part of no call
	reader  bool   // a stream takes the notices
	taken   chan struct{}
	used    time.Time
	ended   bool
}

func newSession(id string, process *stdio.Process) *session {
	return &session{id: id, process: process, notices: newBox(), taken: make(chan struct{}), used: time.Now()}
}

// read routes what the child writes until it ends.
func (s *session) read(noise func(line []byte, err error)) {
	for {
		line, err := s.process.Read()
		switch {
		case errors.Is(err, stdio.ErrLineTooLong):
			noise(nil, err)
			continue
		case err != nil:
			s.process.Stop()
			s.end()
			return
		}
		line = bytes.TrimSpace(bytes.TrimPrefix(line, []byte("\xef\xbb\xbf")))
		if len(line) == 0 {
			continue
		}
		parts := []json.RawMessage{line}
		if line[0] == '[' && json.Unmarshal(line, &parts) != nil {
			parts = []json.RawMessage{line}
		}
		for _, part := range parts {
			var e envelope
			if err := json.Unmarshal(part, &e); err != nil || e.ID == nil && e.Method == "" {
				noise(part, err)
				continue
			}
			s.route(e, bytes.Clone(part))
		}
	}
}

// route hands a message to whoever waits for it. Responses name their call by id, progress by token, what a subscription
// brings that by its id. A request of the server is part of the last call in which servers ask, other notices of the last
// call; what is about lists and watched resources, and all else where there is no such call, is for the stream.
func (s *session) route(e envelope, msg []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	callOf := func(id json.RawMessage) *box {
		return s.find(func(b *box) bool { return id != nil && b.id == key(id) })
	}
	to := s.notices
	switch subscription := callOf(e.Params.Meta.SubscriptionID); {
	case e.Method == "":
		if to = callOf(e.ID); to == nil && string(e.ID) == "null" && len(s.calls) == 1 { // of a request that it could not read
			to = s.calls[0]
		}
		if to == nil { // of a call that has ended
			return
		}
		to.ended = true
	case subscription != nil:
		to = subscription
	case e.Method == "notifications/progress":
		token := key(e.Params.ProgressToken)
		if to = s.find(func(b *box) bool { return b.token != "" && b.token == token }); to == nil {
			return
		}
	case e.Method == "notifications/resources/updated", mcpwire.IsListChanged(e.Method):
	default:
		for _, b := range s.calls {
			if !b.ended && (e.ID == nil || b.asks) {
				to = b
			}
		}
	}
	to.put(msg)
}

// find is the first call that ok says yes of, or nil. Callers hold mu.
func (s *session) find(ok func(b *box) bool) *box {
	if at := slices.IndexFunc(s.calls, ok); at >= 0 {
		return s.calls[at]
	}
	return nil
}

// end tells everybody that the child is gone.
func (s *session) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	for _, b := range append(s.calls, s.notices) {
		b.nudge()
	}
}

// begin makes the box of a request, before it is written.
func (s *session) begin(e envelope) *box {
	b := newBox()
	b.id, b.token, b.asks = key(e.ID), key(e.Params.Meta.ProgressToken), asks(e.Method)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, b)
	return b
}

func (s *session) finish(b *box) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = slices.DeleteFunc(s.calls, func(other *box) bool { return other == b })
	s.used = time.Now()
}

// follow makes the caller the one who takes the notices, and who was it before not any more; taken closes when somebody
// else is.
func (s *session) follow() (taken <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.taken)
	s.taken = make(chan struct{})
	s.reader = true
	return s.taken
}

func (s *session) unfollow(taken <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if taken == s.taken {
		s.reader, s.used = false, time.Now()
	}
}

// idleSince is since when nobody calls, and whether somebody follows; the zero time: somebody calls.
func (s *session) idleSince() (since time.Time, followed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.calls) > 0 {
		return time.Time{}, s.reader
	}
	return s.used, s.reader
}

// take empties a box: what came, whether that was all, and whether the child is gone or too much waited.
func (s *session) take(b *box) (messages [][]byte, done, gone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	messages, b.queue, b.queued = b.queue, nil, 0
	return messages, b.ended, s.ended || b.lost
}

// carry writes what comes to b as the answer to a request: JSON where the response is all that comes, an event stream
// where something comes before it, or nothing for keepAlive.
func (s *session) carry(w http.ResponseWriter, r *http.Request, b *box) error {
	var stream *events
	begin := func() {
		if stream == nil {
			stream = newEvents(w)
		}
	}
	alive := time.NewTicker(keepAlive)
	defer alive.Stop()
	for {
		select {
		case <-r.Context().Done():
			return r.Context().Err()
		case <-alive.C:
			begin()
			if err := stream.comment(); err != nil {
				return err
			}
			continue
		case <-b.wake:
		}
		messages, done, gone := s.take(b)
		if done && stream == nil && len(messages) == 1 {
			w.Header().Set("Content-Type", "application/json")
			_, err := w.Write(messages[0])
			return err
		}
		for _, msg := range messages {
			begin()
			if err := stream.event(msg); err != nil {
				return err
			}
		}
		switch {
		case done:
			return nil
		case gone && stream == nil:
			return errGone
		case gone:
			panic(http.ErrAbortHandler) // the stream ends before the response, and has to look like that
		}
	}
}

var errGone = errors.New("the server ended before it answered")
