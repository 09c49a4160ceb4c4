package backend

import (
	"context"
	"net/http"
	"sync/atomic"

	"vmcp/internal/mcpwire"
)

// A link is an open way to the backend: Streamable HTTP or a child process.
type link interface {
	era() mcpwire.Era
	hello() *hello // never nil on an open link
	// exchange sends a request and hands each message that comes for it to recv, until recv says that it was the last.
	exchange(ctx context.Context, out *outgoing, recv receiver) error
	post(ctx context.Context, body []byte, header http.Header) error
	close()
}

// outgoing is a request as it goes to the backend.
type outgoing struct {
	id     mcpwire.RawID // ours
	method string
	body   []byte
	header http.Header // HTTP only

	onHeader func(http.Header) // gets the header of the HTTP response; may be nil
}

// receiver takes one message of a backend and its HTTP status; it says whether the message ends the exchange.
type receiver func(r mcpwire.Reply, status int) (done bool, err error)

// Request is one request of a client.
type Request struct {
	Message *mcpwire.Message // as parsed from the client, a KindRequest
	Name    string           // original name or URI, in place of the advertised one; used where Message.Item is set
	Header  http.Header      // further headers for the backend, an explicit choice of the caller; may be nil
	// LogLevel is what a legacy client set with logging/setLevel, stamped on requests to a modern backend.
	LogLevel string
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
}

// call is one Do in progress.
type call struct {
	s      *Session
	req    Request
	client mcpwire.Era
	sink   func(Message) error

	wire  mcpwire.Era
	id    mcpwire.RawID // ours, also as progress token
	token mcpwire.RawID // the client's progress token; nil without
	sent  bool          // something went to the sink

	sinkErr error

	link      link // where it runs; guarded by Session.mu, as are wire and id until it runs
	cancel    context.CancelFunc
	cancelled atomic.Bool // by Session.Cancel
}

// run sends the request over l and serves what comes back.
func (c *call) run(ctx context.Context, l link) error {
	conn := c.s.conn
	if !c.req.Message.Rule.In(c.wire) { // HM-4, between eras that are not bridged; others the gateway answers itself
		return c.answer(mcpwire.AppendError(nil, c.req.Message.ID, mcpwire.CodeMethodNotFound, "the server behind this gateway does not have this method", nil))
	}
	if conn.b.volunteersRoots(c.req.Message) {
		return c.answer(mcpwire.AppendError(nil, c.req.Message.ID, mcpwire.CodeInvalidParams, "params.inputResponses: this server is told of no roots", nil))
	}
	out, err := c.outgoing(ctx)
	if err != nil {
		return err
	}
	err = l.exchange(ctx, out, func(r mcpwire.Reply, status int) (bool, error) {
		return c.receive(ctx, l, r, status)
	})
	if err != nil && c.sent && isRejection(err) {
		return conn.b.errorf(ErrInvalidReply, true, "after other messages: %w", err)
	}
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
	conn := c.s.conn
	switch r.Kind {
	case mcpwire.KindResponse:
		if err := c.respond(r, status); err != nil {
			return false, err
		}
		return true, nil

	case mcpwire.KindRequest:
		if c.client == mcpwire.EraLegacy && !conn.b.cfg.Shared && c.wire == mcpwire.EraLegacy && conn.b.mayAsk(r.Method) {
			return false, c.deliver(Message{Kind: r.Kind, Method: r.Method, ID: r.ID, Raw: r.Body.Text, Status: status})
		}
		return false, conn.b.refuse(ctx, l, r)
	}

	if conn.b.noteListChange(r.Method) {
		return false, nil
	}
	raw := r.Body.Text
	switch r.Method {
	case "notifications/resources/updated": // part of no call: it goes where each delivery is judged
		return false, conn.unsolicited(ctx, l, r)
	case "notifications/progress":
		var ok bool
		if raw, ok = c.restoreToken(r); !ok {
			return false, nil
		}
	case "notifications/message":
		if c.client == mcpwire.EraModern && c.wire == mcpwire.EraLegacy && !c.wantsLog(r) {
			return false, nil
		}
	}
	return false, c.deliver(Message{Kind: r.Kind, Method: r.Method, Raw: raw, Status: status})
}

// respond checks a response and hands it on in the form of the client's era.
func (c *call) respond(r mcpwire.Reply, status int) error {
	b := c.s.conn.b
	// An error of a request that could not be read has no id; on the stream of one request it can only be that one's.
	if string(r.ID) != string(c.id) && !(r.ID == nil && r.ErrorSpan.Exists()) {
		return b.errorf(ErrInvalidReply, true, "the response has another id")
	}
	if c.cancelled.Load() { // whatever it still says
		return b.errorf(ErrCancelled, true, "answered after the cancellation")
	}
	switch code := r.ErrorCode(); {
	case code == mcpwire.CodeUnsupportedVersion:
		return errEraChanged
	case c.wire != mcpwire.EraModern:
	case code == mcpwire.CodeHeaderMismatch:
		return errStaleHeaders
	case status == http.StatusBadRequest && code <= -32000 && code >= -32019: // no modern error: BR-3
		b.facts.Store(nil)
		c.s.conn.discard(c.link)
	}
	raw, err := c.restore(r)
	if err != nil {
		return err
	}
	switch {
	case c.client == mcpwire.EraModern && r.ErrorCode() == mcpwire.CodeMissingCapability:
		status = http.StatusBadRequest // HM-3; a legacy backend says it with 200
	case c.wire != mcpwire.EraModern || status != http.StatusBadRequest && status != http.StatusNotFound:
		status = http.StatusOK
	}
	return c.deliver(Message{Kind: mcpwire.KindResponse, ID: c.req.Message.ID, Raw: raw, Status: status})
}
