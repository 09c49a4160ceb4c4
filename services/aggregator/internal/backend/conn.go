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

	mu     sync.Mutex
	up     opened
	closed bool
	start  *startup            // of a child, in progress
	clocks map[*clock]struct{} // of the calls in progress
	idle   time.Time           // since when there are none
	wants  wants

	revived int // times in a row that a link with watched resources was opened again
}

// opened is a link and what ends with it. The zero value: there is none.
type opened struct {
	link   link
	since  time.Time
	unlist context.CancelFunc // ends the reading of what it tells of outside of calls; nil where nobody reads it
	filter []byte             // of a modern backend: what it was asked to tell of, as JSON
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
	return &conn{b: b, key: key, opts: opts, declared: b.offered(opts.Capabilities), opening: make(chan struct{}, 1),
		clocks: map[*clock]struct{}{}, idle: time.Now()}
}

// mint makes a JSON-RPC id, unique in this session (AG-24).
func (c *conn) mint() mcpwire.RawID { return strconv.AppendInt(nil, c.ids.Add(1), 10) }

// begin and end bracket a call.
func (c *conn) begin(of *clock) {
	c.mu.Lock()
	c.clocks[of] = struct{}{}
	c.mu.Unlock()
}

func (c *conn) end(of *clock) {
	c.mu.Lock()
	delete(c.clocks, of)
	c.idle = time.Now()
	c.mu.Unlock()
}

// ask stops the clocks of all calls until answered: any of them may wait for this question.
func (c *conn) ask(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for clock := range c.clocks {
		clock.ask(id)
	}
}

func (c *conn) answered(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for clock := range c.clocks {
		clock.answered(id)
	}
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
	if c.b.starts() {
		return c.await(ctx)
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
	c.retell(ctx, l)
	c.mu.Lock()
	err = c.take(l)
	c.mu.Unlock()
	if err != nil {
		l.close()
		return nil, err
	}
	c.startListening(l)
	return l, nil
}

// take makes l the link, unless the session was closed meanwhile. Callers hold mu.
func (c *conn) take(l link) error {
	if c.closed {
		return c.b.errorf(ErrUnavailable, false, "%w", errClosed)
	}
	c.up = opened{link: l, since: time.Now()}
	return nil
}

func (c *conn) live() (link, error) {
	c.mu.Lock()
	l, closed := c.up.link, c.closed
	c.mu.Unlock()
	if closed {
		return nil, c.b.errorf(ErrUnavailable, false, "%w", errClosed)
	}
	if s, ok := l.(*pipeLink); ok && s.exited() {
		c.drop(l, whyLost)
		return nil, nil
	}
	return l, nil
}

// drop gives up the link, if it is still l or l is nil, and with it what ends with it. False: there is none, or it stays.
func (c *conn) drop(l link, why reason) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = c.closed || why == whyEnded
	if c.closed && c.start != nil {
		c.start.cancel()
	}
	up := c.up
	if up.link == nil || l != nil && up.link != l || why == whyIdle && len(c.clocks) > 0 {
		return false
	}
	c.up = opened{}
	if up.unlist != nil {
		up.unlist()
	}
	child, ok := up.link.(*pipeLink)
	if ok {
		child.leave()
	}
	if ok || why != whyLost { // a lost HTTP session is not there to be ended
		c.b.running.Go(up.link.close)
	}
	if why != whyEnded && len(c.wants.watched) > 0 {
		c.revive(up)
	}
	return true
}

// revive opens a link again without waiting for a call, since somebody waits for changes; ever more seldom where it does
// not last. Callers hold mu.
func (c *conn) revive(lost opened) {
	const lasting = time.Minute
	if c.revived++; time.Since(lost.since) > lasting {
		c.revived = 1
	}
	pause, more := again(resumeDelay, c.revived-1)
	if !more {
		c.b.log.Info("a session in which resources are watched does not last; it waits for the next call")
		return
	}
	c.b.running.Go(func() {
		for {
			select {
			case <-c.b.ctx.Done():
				return
			case <-time.After(pause):
			}
			ctx, cancel := context.WithTimeoutCause(c.b.ctx, c.b.cfg.Timeout, ErrTimeout)
			_, err := c.open(ctx)
			cancel()
			if err == nil || errors.Is(err, errClosed) || !c.watches() {
				return
			}
			c.mu.Lock()
			c.revived++
			pause, more = again(resumeDelay, c.revived-1)
			c.mu.Unlock()
			if !more {
				return
			}
		}
	})
}

// refuse answers a request of the backend that no client can be asked: ping with a result, everything else -32601.
func (b *Backend) refuse(ctx context.Context, l link, r mcpwire.Reply) error {
	if l.era() == mcpwire.EraModern { // HM-7: no such thing; nobody would take the answer
		return nil
	}
	answer := mcpwire.AppendResult(nil, r.ID, []byte("{}"))
	if r.Method != "ping" {
		text := "not available through this gateway"
		if b.mayAsk(r.Method) { // whoever calls could be asked in another way, or not at all
			text = "the client of this call cannot be asked while it runs: that needs a client of 2025-11-25 that declares it, in a session of its own"
		}
		answer = mcpwire.AppendError(nil, r.ID, mcpwire.CodeMethodNotFound, text, nil)
	}
	return l.post(ctx, answer, nil)
}

// unsolicited handles what the backend sends outside of any call. refuse answers a request that no client is asked.
func (c *conn) unsolicited(l link, r mcpwire.Reply, refuse func(mcpwire.Reply)) {
	switch {
	case r.Kind == mcpwire.KindResponse, r.Method == "notifications/progress": // of a call that has ended
	case r.Kind == mcpwire.KindNotification && c.noteListChange(r.Method):
	case r.Kind == mcpwire.KindRequest && (c.opts.OnMessage == nil || !c.b.mayAsk(r.Method)):
		refuse(r)
	case r.Method == "notifications/resources/updated":
		c.updated(l, r)
	case c.opts.OnMessage != nil:
		switch {
		case r.Kind == mcpwire.KindRequest:
			c.ask(string(r.ID))
			if named, err := mcpwire.ParseReply(c.b.named(r)); err == nil {
				r = named
			}
		case r.Method == "notifications/cancelled": // of a question of its own
			params, _ := r.Params()
			c.answered(string(params.Raw("requestId")))
		}
		c.opts.OnMessage(r, Origin{link: l})
	}
}

// noteListChange is that of the Backend; a child that serves everybody is the one to ask for its lists then.
func (c *conn) noteListChange(method string) bool {
	if c != c.b.lister && c.b.cfg.Shared && c.b.starts() && mcpwire.IsListChanged(method) {
		c.b.teller.Store(c)
	}
	return c.b.noteListChange(method)
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
