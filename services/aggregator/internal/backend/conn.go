package backend

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"vmcp/internal/gatewayconfig"
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

	mu      sync.Mutex
	refs    int // Sessions; guarded by Backend.mu
	link    link
	closed  bool
	busy    int       // calls in progress
	idle    time.Time // since when there are none
	listens bool      // the standalone stream is wanted
	unlist  context.CancelFunc
}

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
	return c.link
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
		c.link = l
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
	defer c.mu.Unlock()
	if c.closed {
		return nil, c.b.errorf(ErrUnavailable, false, "%w", errClosed)
	}
	if s, ok := c.link.(*stdioLink); ok && s.exited() {
		c.link = nil
		c.b.running.Go(s.close)
	}
	return c.link, nil
}

// discard drops a link that the backend no longer honours.
func (c *conn) discard(l link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link != l {
		return
	}
	c.link = nil
	if c.unlist != nil {
		c.unlist()
		c.unlist = nil
	}
	if s, ok := l.(*stdioLink); ok {
		c.b.running.Go(s.close)
	}
}

// close ends the session at the backend.
func (c *conn) close() {
	c.mu.Lock()
	l := c.link
	c.link, c.closed = nil, true
	if c.unlist != nil {
		c.unlist()
		c.unlist = nil
	}
	c.mu.Unlock()
	if l != nil {
		l.close()
	}
}

// release gives back one Session's hold.
func (c *conn) release() {
	c.b.mu.Lock()
	c.refs--
	ends := c.refs == 0 && c.key.era == mcpwire.EraLegacy && !c.b.cfg.Shared
	if ends && c.b.conns[c.key] == c {
		delete(c.b.conns, c.key)
	}
	c.b.mu.Unlock()
	c.mu.Lock()
	c.idle = time.Now()
	c.mu.Unlock()
	if ends {
		c.b.running.Go(c.close)
	}
}

// reap closes sessions that nobody holds and children that nobody calls, idle for idleTimeout at the time now.
func (b *Backend) reap(now time.Time) {
	b.mu.Lock()
	var old []*conn
	for key, c := range b.conns {
		c.mu.Lock()
		idle := c.busy == 0 && now.Sub(c.idle) >= idleTimeout
		c.mu.Unlock()
		switch {
		case idle && c.refs == 0:
			delete(b.conns, key)
			old = append(old, c)
		case idle && b.cfg.Transport == gatewayconfig.TransportStdio:
			c.discardIdle()
		}
	}
	b.mu.Unlock()
	b.lister.mu.Lock()
	idle := b.lister.busy == 0 && now.Sub(b.lister.idle) >= idleTimeout
	b.lister.mu.Unlock()
	if idle {
		b.lister.discardIdle()
	}
	for _, c := range old {
		b.running.Go(c.close)
	}
}

// discardIdle closes the link but keeps the session: the next call opens it again.
func (c *conn) discardIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l := c.link; l != nil && c.busy == 0 {
		c.link = nil
		c.b.running.Go(l.close)
	}
}

// evict makes room for one more child by closing the longest idle one that no Session holds.
func (b *Backend) evict() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	var oldest *conn
	var since time.Time
	for _, c := range b.conns {
		c.mu.Lock()
		if c.refs == 0 && c.busy == 0 && c.link != nil && (oldest == nil || c.idle.Before(since)) {
			oldest, since = c, c.idle
		}
		c.mu.Unlock()
	}
	if oldest == nil {
		return false
	}
	delete(b.conns, oldest.key)
	b.running.Go(oldest.close)
	return true
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

// unsolicited handles what the backend sends outside of any call.
func (c *conn) unsolicited(ctx context.Context, l link, r mcpwire.Reply) error {
	switch {
	case r.Kind == mcpwire.KindResponse: // to a call that has ended
	case r.Kind == mcpwire.KindNotification && c.b.noteListChange(r.Method):
	case r.Kind == mcpwire.KindRequest && (c.opts.OnMessage == nil || !c.b.mayAsk(r.Method)):
		return c.b.refuse(ctx, l, r)
	case c.opts.OnMessage != nil:
		c.opts.OnMessage(r)
	}
	return nil
}

// noteListChange reports a list_changed notification. Those are not passed on: the gateway tells its clients about its
// own lists (AG-22).
func (b *Backend) noteListChange(method string) bool {
	if !mcpwire.IsListChanged(method) {
		return false
	}
	b.cfg.OnListChanged()
	return true
}
