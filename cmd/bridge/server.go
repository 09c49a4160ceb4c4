package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"vmcp/internal/mcpwire"
	"vmcp/internal/stdio"
)

const (
	endpoint  = "/mcp"
	maxBody   = 8 << 20          // bytes of a client's message; the gateway takes 4 MiB
	keepAlive = 15 * time.Second // of silence, then a comment
	lookIdle  = 10 * time.Second
)

// childHeader names the child that a request of 2026-07-28 is for, which knows no sessions: the aggregator has one for each
// of its own, and the first request starts it.
const childHeader = "Vmcp-Child"

// server is the Streamable HTTP side: a session is a child.
type server struct {
	command []string
	hide    []string
	most    int
	idle    time.Duration
	log     *zap.Logger
	stopped chan struct{} // closed by Drain

	mu       sync.Mutex
	sessions map[string]*session // nil: closed
	starting int
	reading  sync.WaitGroup
}

func newServer(command []string, most int, idle time.Duration, log *zap.Logger) *server {
	return &server{command: command, most: most, idle: idle, log: log, stopped: make(chan struct{}), sessions: map[string]*session{}}
}

var errStops = errors.New("the server stops")

// ready says whether sessions can be opened. Not whether the server works: nobody would ask it any more.
func (s *server) ready() error {
	select {
	case <-s.stopped:
		return errStops
	default:
	}
	return nil
}

// Drain ends the streams, so that the listener can: calls in progress go on.
func (s *server) Drain() { close(s.stopped) }

// Run ends sessions that nobody uses until ctx ends.
func (s *server) Run(ctx context.Context) error {
	tick := time.NewTicker(lookIdle)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			s.reap(now)
		}
	}
}

func (s *server) reap(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.sessions {
		if since, followed := c.idleSince(); !since.IsZero() && !followed && now.Sub(since) >= s.idle {
			s.drop(c)
		}
	}
}

// end is drop for those who do not hold mu.
func (s *server) end(c *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(c)
}

// drop ends a session. Callers hold mu.
func (s *server) drop(c *session) {
	if s.sessions[c.id] != c {
		return
	}
	delete(s.sessions, c.id)
	s.reading.Go(c.process.Stop)
}

// Close ends all children and waits for it.
func (s *server) Close() {
	s.mu.Lock()
	for _, c := range s.sessions {
		s.drop(c)
	}
	s.sessions = nil
	s.mu.Unlock()
	s.reading.Wait()
}

func (s *server) find(id string) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[id]
}

// ServeHTTP is the one endpoint.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != endpoint {
		http.Error(w, "the MCP endpoint is "+endpoint, http.StatusNotFound)
		return
	}
	if r.Header.Get("Origin") != "" { // no client of a bridge is a web page, and one could reach it on loopback (HT-1)
		http.Error(w, "pages may not use this", http.StatusForbidden)
		return
	}
	id, child := r.Header.Get("Mcp-Session-Id"), r.Header.Get(childHeader)
	if id == "" && child != "" {
		s.alone(w, r, "child "+child)
		return
	}
	c := s.find(id)
	switch {
	case id != "" && c == nil:
		http.Error(w, "no such session: initialize again", http.StatusNotFound)
	case r.Method == http.MethodPost:
		s.post(w, r, c)
	case c == nil && (r.Method == http.MethodGet || r.Method == http.MethodDelete):
		http.Error(w, "Mcp-Session-Id is missing", http.StatusBadRequest)
	case r.Method == http.MethodGet:
		s.stream(w, r, c)
	case r.Method == http.MethodDelete:
		s.end(c)
		w.WriteHeader(http.StatusNoContent)
	default:
		w.Header().Set("Allow", "GET, POST, DELETE")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
	}
}

// alone serves a request of 2026-07-28.
func (s *server) alone(w http.ResponseWriter, r *http.Request, id string) {
	c := s.find(id)
	switch {
	case r.Method == http.MethodDelete:
		if c != nil {
			s.end(c)
		}
		w.WriteHeader(http.StatusNoContent)
		return
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", "POST, DELETE")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	case c == nil:
		var err error
		if c, err = s.open(id); err != nil {
			s.log.Warn("no child started", zap.Error(err))
			fail(w, http.StatusServiceUnavailable, nil, mcpwire.CodeInternal, err.Error())
			return
		}
	}
	s.post(w, r, c)
}

func (s *server) post(w http.ResponseWriter, r *http.Request, c *session) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, "the body cannot be read: at most 8 MiB", http.StatusRequestEntityTooLarge)
		return
	}
	var e envelope
	if err := json.Unmarshal(body, &e); err != nil || e.Method == "" && e.ID == nil {
		fail(w, http.StatusBadRequest, nil, mcpwire.CodeParse, "the body is no JSON-RPC message; batches are not taken")
		return
	}
	switch {
	case c != nil:
	case e.Method == "initialize" && e.ID != nil:
		if c, err = s.open(rand.Text()); err != nil {
			s.log.Warn("no session opened", zap.Error(err))
			fail(w, http.StatusServiceUnavailable, e.ID, mcpwire.CodeInternal, err.Error())
			return
		}
		w.Header().Set("Mcp-Session-Id", c.id)
	case e.ID != nil:
		fail(w, http.StatusBadRequest, e.ID, mcpwire.CodeMethodNotFound, "a session is opened by initialize")
		return
	default:
		http.Error(w, "Mcp-Session-Id is missing", http.StatusBadRequest)
		return
	}
	if e.Method == "" || e.ID == nil { // a response, a notification
		if err := c.process.Write(r.Context(), body); err != nil {
			http.Error(w, "the server does not read", http.StatusBadGateway)
			return
		}
		w.WriteHeader(http.StatusAccepted)
		return
	}
	b := c.begin(e)
	defer c.finish(b)
	if err = c.process.Write(r.Context(), body); err == nil {
		err = c.carry(w, r, b)
	}
	if err != nil && r.Context().Err() != nil && c.alone {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), 2*time.Second)
		defer cancel()
		if err := c.process.Write(ctx, []byte(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":`+string(e.ID)+`}}`)); err != nil {
			s.log.Debug("a request is not cancelled", zap.Error(err))
		}
	}
	if err != nil && r.Context().Err() == nil {
		text := err.Error()
		if ended := c.process.Err(); ended != nil {
			text = ended.Error()
		}
		w.Header().Del("Mcp-Session-Id")
		s.log.Warn("a call was not answered", zap.String("method", e.Method), zap.String("error", text))
		http.Error(w, strings.ToValidUTF8(text, ""), http.StatusBadGateway)
	}
	if e.Method == "initialize" && err != nil {
		s.end(c)
	}
}

// open starts the child of a new session. Where all places are taken, the session that was longest without a call makes
// room.
func (s *server) open(id string) (*session, error) {
	if err := s.room(); err != nil {
		return nil, err
	}
	process, err := stdio.Start(stdio.Config{Command: s.command, Env: environment(), Hide: s.hide, Loud: true, Log: s.log})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.starting--
	switch {
	case err != nil:
		return nil, err
	case s.sessions == nil:
		s.reading.Go(process.Stop)
		return nil, errStops
	}
	if other := s.sessions[id]; other != nil { // another request of it came first
		s.reading.Go(process.Stop)
		return other, nil
	}
	c := newSession(id, process)
	c.alone = strings.HasPrefix(id, "child ")
	s.sessions[id] = c
	s.reading.Go(func() {
		c.read(func(line []byte, err error) {
			s.log.Debug("a line that is no message", zap.ByteString("line", line[:min(len(line), 200)]), zap.Error(err))
		})
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.sessions[c.id] == c { // it ended by itself
			delete(s.sessions, c.id)
			s.log.Warn("a child ended", zap.Error(process.Err()))
		}
	})
	return c, nil
}

// environment is that of the container, which is the server's.
func environment() map[string]string {
	env := map[string]string{}
	for _, v := range os.Environ() {
		name, value, _ := strings.Cut(v, "=")
		env[name] = value
	}
	return env
}

// room takes a place for a child.
func (s *server) room() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions == nil {
		return errStops
	}
	if len(s.sessions)+s.starting >= s.most {
		var longest *session
		var since time.Time
		for _, c := range s.sessions {
			if idle, _ := c.idleSince(); !idle.IsZero() && (longest == nil || idle.Before(since)) {
				longest, since = c, idle
			}
		}
		if longest == nil {
			return fmt.Errorf("all %d sessions are in calls", s.most)
		}
		s.drop(longest)
	}
	s.starting++
	return nil
}

// stream is the client's GET: what is part of no call. Of two the newer one gets it.
func (s *server) stream(w http.ResponseWriter, r *http.Request, c *session) {
	taken := c.follow()
	defer c.unfollow(taken)
	out := newEvents(w)
	alive := time.NewTicker(keepAlive)
	defer alive.Stop()
	for {
		messages, _, gone := c.take(c.notices)
		for _, msg := range messages {
			if out.event(msg) != nil {
				return
			}
		}
		if gone {
			return
		}
		select {
		case <-c.notices.wake:
		case <-taken:
			c.notices.nudge() // for whoever took it
			return
		case <-s.stopped:
			return
		case <-r.Context().Done():
			return
		case <-alive.C:
			if out.comment() != nil {
				return
			}
		}
	}
}

// fail answers with a JSON-RPC error.
func fail(w http.ResponseWriter, status int, id json.RawMessage, code int, message string) {
	if id == nil {
		id = json.RawMessage("null")
	}
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": id, "error": map[string]any{"code": code, "message": message}})
	if err != nil {
		http.Error(w, message, status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(body)
}

// events writes server-sent events.
type events struct{ w http.ResponseWriter }

func newEvents(w http.ResponseWriter) *events {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	w.WriteHeader(http.StatusOK)
	e := &events{w}
	e.flush()
	return e
}

// event writes one message, which is one line.
func (e *events) event(msg []byte) error {
	out := make([]byte, 0, len(msg)+8)
	out = append(append(append(out, "data: "...), msg...), "\n\n"...)
	if _, err := e.w.Write(out); err != nil {
		return err
	}
	return e.flush()
}

func (e *events) comment() error {
	if _, err := io.WriteString(e.w, ": \n\n"); err != nil {
		return err
	}
	return e.flush()
}

func (e *events) flush() error { return http.NewResponseController(e.w).Flush() }
