package backend

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"vmcp/internal/mcpwire"
)

// conn is a session with the backend as several Sessions may share it. It opens its link when one is needed and again
// when that one is lost.
type conn struct {
	b    *Backend
	key  connKey
	opts SessionOptions
	// declared are the capabilities of a legacy client as a modern backend is told of them.
	declared []byte

	ids     atomic.Int64
	opening chan struct{} // a lock that a context can give up waiting for

	refs int // Sessions; guarded by Backend.mu

	mu      sync.Mutex
	up      opened
	closed  bool
	busy    int       // calls in progress
	idle    time.Time // since when there are none
	listens bool      // the standalone stream is wanted
}

// opened is a link and what ends with it. The zero value: there is none.
type opened struct {
	link   link
	unlist context.CancelFunc // ends the reading of its standalone stream; nil where nobody reads it
}

// reason says why a link is dropped.
type reason uint8

const (
	whyLost  reason = iota // the backend does not know it any more, or it is of no use
	whyIdle                // nobody calls; while somebody does, it stays
	whyEnded               // the session is given up: no other is opened in its place
)

var errClosed = errors.New("the session is closed")

func newConn(b *Backend, key connKey, opts SessionOptions) *conn {
	return &conn{b: b, key: key, opts: opts, declared: withoutInput(opts.Capabilities), opening: make(chan struct{}, 1), idle: time.Now()}
}

// mint makes a JSON-RPC id, unique in this session (AG-24).
func (c *conn) mint() mcpwire.RawID { return strconv.AppendInt(nil, c.ids.Add(1), 10) }

// begin and end bracket a call, for the idle time.
func (c *conn) begin() {
	c.mu.Lock()
	c.busy++
	c.mu.Unlock()
}

func (c *conn) end() {
	c.mu.Lock()
	c.busy--
	c.idle = time.Now()
	c.mu.Unlock()
}

// current is the open link, nil without one.
func (c *conn) current() link {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.up.link
}

// open returns the link, opened by the first caller that needs it.
func (c *conn) open(ctx context.Context) (link, error) {
	if l, err := c.live(); l != nil || err != nil {
		return l, err
	}
	select {
	case c.opening <- struct{}{}:
		defer func() { <-c.opening }()
	case <-ctx.Done():
		return nil, c.b.fail(ctx, ctx.Err(), false)
	}
	if l, err := c.live(); l != nil || err != nil {
		return l, err
	}
	l, err := c.b.connect(ctx, c)
	if err != nil {
		return nil, c.b.fail(ctx, err, false)
	}
	c.mu.Lock()
	closed, listens := c.closed, c.listens
	if !closed {
		c.up = opened{link: l}
	}
	c.mu.Unlock()
	if closed {
		l.close()
		return nil, c.b.errorf(ErrUnavailable, false, "%w", errClosed)
	}
	if listens {
		c.startListening(l)
	}
	return l, nil
}

func (c *conn) live() (link, error) {
	c.mu.Lock()
	l, closed := c.up.link, c.closed
	c.mu.Unlock()
	if closed {
		return nil, c.b.errorf(ErrUnavailable, false, "%w", errClosed)
	}
	if s, ok := l.(*stdioLink); ok && s.exited() {
		c.drop(l, whyLost)
		return nil, nil
	}
	return l, nil
}

// drop gives up the link, if it is still l or l is nil, and with it what ends with it.
func (c *conn) drop(l link, why reason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = c.closed || why == whyEnded
	up := c.up
	if up.link == nil || l != nil && up.link != l || why == whyIdle && c.busy > 0 {
		return
	}
	c.up = opened{}
	if up.unlist != nil {
		up.unlist()
	}
	if _, child := up.link.(*stdioLink); child || why != whyLost { // a lost HTTP session is not there to be ended
		c.b.running.Go(up.link.close)
	}
}

// refuse answers a request of the backend that no client can be asked: ping with a result, everything else -32601.
func (b *Backend) refuse(ctx context.Context, l link, r mcpwire.Reply) error {
	if l.era() == mcpwire.EraModern { // HM-7: no such thing; nobody would take the answer
		return nil
	}
	answer := mcpwire.AppendResult(nil, r.ID, []byte("{}"))
	if r.Method != "ping" {
		answer = mcpwire.AppendError(nil, r.ID, mcpwire.CodeMethodNotFound, "not available through this gateway", nil)
	}
	return l.post(ctx, answer, nil)
}

// unsolicited handles what the backend sends outside of any call. refuse answers a request that no client is asked.
func (c *conn) unsolicited(r mcpwire.Reply, refuse func(mcpwire.Reply)) {
	switch {
	case r.Kind == mcpwire.KindResponse, r.Method == "notifications/progress": // of a call that has ended
	case r.Kind == mcpwire.KindNotification && c.b.noteListChange(r.Method):
	case r.Kind == mcpwire.KindRequest && (c.opts.OnMessage == nil || !c.b.mayAsk(r.Method)):
		refuse(r)
	case c.opts.OnMessage != nil:
		c.opts.OnMessage(r)
	}
}

// noteListChange reports a list_changed notification. Those are not passed on: the gateway tells its clients about its
// own lists (AG-22).
func (b *Backend) noteListChange(method string) bool {
	if !mcpwire.IsListChanged(method) {
		return false
	}
	select {
	case b.changed <- struct{}{}:
	default:
	}
	return true
}
