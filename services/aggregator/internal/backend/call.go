package backend

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"vmcp/internal/mcpwire"
)

// Request is one request of a client.
type Request struct {
	Message *mcpwire.Message // as parsed from the client, a KindRequest
	Name    string           // original name or URI, in place of the advertised one; used where Message.Item is set
	Header  http.Header      // further headers for the backend, an explicit choice of the caller; may be nil
	// LogLevel is what a legacy client set with logging/setLevel, stamped on requests to a modern backend.
	LogLevel string
	// State guards what a modern backend gives a modern client to bring back; nil: it passes as it is.
	State StateSeal
	// Again says, before each further round of a call in a legacy client's name, whether the client may still make it
	// (MR-4); nil: it may.
	Again func(context.Context) error
}

// StateSeal makes a backend's requestState one that only who got it can bring back, in the same call (MR-5).
type StateSeal interface {
	Seal(state string) string
	Open(sealed string) (state string, ok bool)
}

// Message is one message for the client: of the client's era, with the client's id and progress token.
type Message struct {
	Kind   mcpwire.Kind // a response ends the call; requests come to legacy clients only
	Method string
	ID     mcpwire.RawID // of a response the client's, of a request the backend's
	Raw    []byte        // valid until the sink returns
	// Status is the HTTP status for a modern client: 200, or 400 or 404 where a modern backend answered an error with
	// that (HM-3). Any other of a backend's ends here: a client that saw its 401 would sign in to us again.
	Status int
	From   Origin // of a request, for Respond
}

// call is one Do in progress.
type call struct {
	hop  // its wire and id are guarded by Session.mu until it runs
	s    *Session
	sink func(Message) error

	rounds // of a legacy client's call to a modern backend

	sent     bool // something went to the sink
	refused  bool // the backend answered with an error
	watching bool // the call began to watch a resource
	sinkErr  error

	link      link // where it runs; guarded by Session.mu
	clock     *clock
	cancelled atomic.Bool // by Session.Cancel
}

// run sends the request over l and serves what comes back.
func (c *call) run(ctx context.Context, l link) error {
	if done, err := c.subscribes(l); done {
		return err
	}
	if !c.req.Message.Rule.In(c.wire) { // HM-4, between eras that are not bridged; others the gateway answers itself
		return c.answer(mcpwire.AppendError(nil, c.req.Message.ID, mcpwire.CodeMethodNotFound, "the server behind this gateway does not have this method", nil))
	}
	if c.b.volunteersRoots(c.req.Message) {
		return c.answer(mcpwire.AppendError(nil, c.req.Message.ID, mcpwire.CodeInvalidParams, "params.inputResponses: this server is told of no roots", nil))
	}
	if !c.opensState() {
		return c.answer(mcpwire.AppendError(nil, c.req.Message.ID, mcpwire.CodeInvalidParams, "params.requestState is not of this request, or too old: make the request without it", nil))
	}
	err := c.exchange(ctx, l)
	for err == nil && c.asks != nil {
		if err = c.nextRound(ctx); err == nil && c.asks == nil {
			err = c.exchange(ctx, l)
		}
	}
	if errors.Is(err, errAnswered) {
		return nil
	}
	if err != nil && c.sent && classify(err, c.wire).repeat {
		return c.b.errorf(ErrInvalidReply, true, "after other messages: %w", err)
	}
	return err
}

// exchange is one request and what comes back for it.
func (c *call) exchange(ctx context.Context, l link) error {
	err := l.exchange(ctx, c.outgoing(), func(r mcpwire.Reply, status int) (bool, error) {
		return c.receive(ctx, l, r, status)
	})
	c.settle(err)
	return err
}

func (c *call) answer(raw []byte) error {
	return c.deliver(Message{Kind: mcpwire.KindResponse, ID: c.req.Message.ID, Raw: raw, Status: http.StatusOK})
}

func (c *call) deliver(m Message) error {
	c.sent = true
	c.sinkErr = c.sink(m)
	return c.sinkErr
}

// receive handles one message that came for this call.
func (c *call) receive(ctx context.Context, l link, r mcpwire.Reply, status int) (done bool, err error) {
	switch r.Kind {
	case mcpwire.KindResponse:
		if err := c.respond(r, status); err != nil {
			return false, err
		}
		return true, nil

	case mcpwire.KindRequest:
		if c.client == mcpwire.EraLegacy && !c.b.cfg.Shared && c.wire == mcpwire.EraLegacy && c.b.mayAsk(r.Method) {
			// A child does not say of which call it is a part, so it stops the clocks of all.
			if _, child := l.(*pipeLink); child {
				c.s.conn.ask(string(r.ID))
			} else {
				c.clock.ask(string(r.ID))
			}
			return false, c.deliver(Message{Kind: r.Kind, Method: r.Method, ID: r.ID, Raw: c.b.named(r), Status: status, From: Origin{link: l}})
		}
		return false, c.b.refuse(ctx, l, r)
	}

	if c.s.conn.noteListChange(r.Method) {
		return false, nil
	}
	raw := r.Body.Text
	switch r.Method {
	case "notifications/resources/updated": // part of no call: it goes where each delivery is judged
		c.s.conn.unsolicited(l, r, nil)
		return false, nil
	case "notifications/progress":
		var ok bool
		if raw, ok = c.restoreToken(r); !ok {
			return false, nil
		}
		c.clock.wind()
		if !c.rises(r) {
			return false, nil
		}
	case "notifications/cancelled": // of a question of its own
		params, _ := r.Params()
		c.s.conn.answered(string(params.Raw("requestId")))
	case "notifications/message":
		if c.client == mcpwire.EraModern && !c.wantsLog(r) { // HM-9
			return false, nil
		}
	}
	return false, c.deliver(Message{Kind: r.Kind, Method: r.Method, Raw: raw, Status: status})
}

// respond checks a response and hands it on in the form of the client's era.
func (c *call) respond(r mcpwire.Reply, status int) error {
	b := c.b
	// An error of a request that could not be read has no id; on the stream of one request it can only be that one's.
	if !isID(r.ID, string(c.id)) && !(r.ID == nil && r.ErrorSpan.Exists()) {
		return b.errorf(ErrInvalidReply, true, "the response has another id")
	}
	if c.cancelled.Load() { // whatever it still says
		return b.errorf(ErrCancelled, true, "answered after the cancellation")
	}
	c.refused = r.ErrorSpan.Exists()
	if c.refused {
		answered := &rpcError{code: r.ErrorCode(), status: status, noID: r.ID == nil}
		v := classify(answered, c.wire)
		if v.repeat {
			return answered
		}
		c.s.conn.heed(v, c.link)
	}
	if asks, err := c.questions(r); asks || err != nil {
		return err
	}
	raw, err := c.restore(r)
	if err != nil {
		return err
	}
	c.tellCompleted()
	switch {
	case c.client == mcpwire.EraModern && r.ErrorCode() == mcpwire.CodeMissingCapability:
		status = http.StatusBadRequest // HM-3; a legacy backend says it with 200
	case c.wire != mcpwire.EraModern || status != http.StatusBadRequest && status != http.StatusNotFound:
		status = http.StatusOK
	}
	return c.deliver(Message{Kind: mcpwire.KindResponse, ID: c.req.Message.ID, Raw: raw, Status: status})
}

// limit is the time in which a request has to move.
func (b *Backend) limit(req Request) time.Duration {
	if limit := b.cfg.ToolTimeouts[req.Name]; limit > 0 && req.Message.Method == "tools/call" {
		return limit
	}
	return b.cfg.Timeout
}

// Do sends one request and calls sink for each message that belongs to it, in order, the response last. It returns
// after the response, or with an *Error, the sink's error, or the cause of ctx. A sink that blocks holds up this call
// only. After an error the sink has seen no response.
func (s *Session) Do(ctx context.Context, req Request, sink func(Message) error) error {
	b, began := s.conn.b, time.Now()
	err := s.do(ctx, req, sink)
	b.noteCall(began, err)
	return err
}

func (s *Session) do(ctx context.Context, req Request, sink func(Message) error) error {
	b := s.conn.b
	if !b.breaker.allow() {
		return b.errorf(ErrOpen, false, "it failed %d times in a row", b.cfg.Breaker.Failures)
	}
	ctx, clock := newClock(ctx, b.limit(req), b.cfg.LongestCall)
	defer clock.end()

	c := &call{s: s, sink: sink, clock: clock,
		hop: hop{b: b, req: req, client: s.conn.key.era, declared: s.conn.declared}}
	id := string(req.Message.ID)
	s.mu.Lock()
	s.calls[id] = c
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		if s.calls[id] == c {
			delete(s.calls, id)
		}
		s.mu.Unlock()
	}()
	s.conn.begin(clock)
	defer s.conn.end(clock)
	if !b.starts() {
		clock.wind() // connecting is a part of the call; the start of a child has its own limit
	}

	for attempt := 0; ; attempt++ {
		l, err := s.conn.open(ctx)
		if err != nil {
			return err
		}
		if b.starts() {
			clock.wind()
		}
		c.at(l)
		err = c.run(ctx, l)
		if err == nil {
			if req.Message.Method == "resources/subscribe" {
				s.Listen()
			}
			return nil
		}
		if c.sinkErr != nil {
			c.abandon(ctx, l)
			return c.sinkErr
		}
		v := classify(err, l.era())
		s.conn.heed(v, l)
		if v.repeat && attempt == 0 && ctx.Err() == nil {
			b.log.Info("repeating a request that was refused unexecuted", zap.Error(err))
			if v.relist {
				if _, err := b.List(ctx); err != nil {
					return err
				}
			}
			continue
		}
		c.abandon(ctx, l)
		if c.cancelled.Load() {
			return b.errorf(ErrCancelled, true, "cancelled by the client")
		}
		return b.fail(ctx, err, !v.repeat)
	}
}

// at notes where the call is running.
func (c *call) at(l link) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.link, c.wire, c.id = l, l.era(), c.s.conn.mint()
}

// abandon tells the backend that nobody waits any more: where the time is up, and where a modern client closed its
// stream, which is its way to cancel. A legacy client's disconnect is no cancellation (HL-6). A modern backend sees
// the stream close.
func (c *call) abandon(ctx context.Context, l link) {
	if ctx.Err() == nil && c.sinkErr == nil || c.cancelled.Load() {
		return
	}
	timeout := errors.Is(context.Cause(ctx), ErrTimeout)
	if timeout || c.client == mcpwire.EraModern {
		c.sendCancel(context.WithoutCancel(ctx), l, "")
	}
}

// sendCancel tells a backend with sessions, or any child, that a request is no longer wanted.
func (c *call) sendCancel(ctx context.Context, l link, reason string) {
	if _, http := l.(*httpLink); http && l.era() == mcpwire.EraModern {
		return
	}
	c.b.cancel(ctx, l, c.id, reason)
}

// cancel sends notifications/cancelled for a request of ours.
func (b *Backend) cancel(ctx context.Context, l link, id mcpwire.RawID, reason string) {
	ctx, cancel := context.WithTimeout(ctx, partingTimeout)
	defer cancel()
	body := append([]byte(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":`), id...)
	if reason != "" {
		body = append(append(body, `,"reason":`...), mcpwire.Quote(reason)...)
	}
	if err := l.post(ctx, append(body, "}}"...), nil); err != nil {
		b.log.Debug("a cancellation did not reach the backend", zap.Error(err))
	}
}
