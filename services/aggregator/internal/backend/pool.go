package backend

import (
	"time"

	"vmcp/internal/mcpwire"
)

// A conn is dropped while mu is held when it leaves conns: closeAll waits for what drop starts, and knows of no others.

// release gives back one Session's hold.
func (c *conn) release() {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	c.mu.Lock()
	c.idle = time.Now()
	c.mu.Unlock()
	if c.refs--; c.refs > 0 || c.key.era == mcpwire.EraModern || c.b.cfg.Shared {
		return
	}
	if c.b.conns[c.key] == c {
		delete(c.b.conns, c.key)
	}
	c.drop(nil, whyEnded)
}

// reap closes sessions that nobody holds and children that nobody calls, idle for idleTimeout at the time now.
func (b *Backend) reap(now time.Time) {
	b.mu.Lock()
	if !b.spare.since.IsZero() && now.Sub(b.spare.since) >= idleTimeout {
		b.endSpare()
	}
	for key, c := range b.conns {
		c.mu.Lock()
		idle := len(c.clocks) == 0 && len(c.wants.watched) == 0 && now.Sub(c.idle) >= idleTimeout
		c.mu.Unlock()
		switch {
		case idle && c.refs == 0:
			delete(b.conns, key)
			c.drop(nil, whyEnded)
		case idle && b.starts():
			c.drop(nil, whyIdle)
		}
	}
	b.mu.Unlock()
	b.lister.mu.Lock()
	idle := len(b.lister.clocks) == 0 && now.Sub(b.lister.idle) >= idleTimeout
	b.lister.mu.Unlock()
	if idle {
		b.lister.drop(nil, whyIdle)
	}
}

// connKey names a session with the backend. Clients of different eras never share one.
type connKey struct {
	era mcpwire.Era
	key string
}

// SessionOptions say for whom a session is.
type SessionOptions struct {
	Era          mcpwire.Era // of the client; a backend that speaks both is spoken to in this one (BR-6)
	Key          string      // legacy: the client session; modern: the principal
	Principal    string      // legacy: of the client session
	Version      string      // legacy: the version negotiated with the client
	ClientInfo   []byte      // legacy: the client's clientInfo for initialize, JSON; nil: ours
	Capabilities []byte      // legacy: the client's capabilities, JSON; nil: {}
	// OnMessage gets what the backend sends outside of any call, as the backend wrote it; valid until it returns, and
	// it must not block. Nil: requests are refused, notifications dropped.
	OnMessage func(msg mcpwire.Reply, from Origin)
	// OnUpdated gets the notifications about resources that this Session watches, likewise.
	OnUpdated func(msg mcpwire.Reply)
}

// Session returns the session for opts, opened at its first Do. Sessions of one era and key share what is open at the
// backend; with the annotation vmcp/sessions: shared, all of an era do.
func (b *Backend) Session(opts SessionOptions) *Session {
	key, updated := connKey{opts.Era, opts.Key}, opts.OnUpdated
	if b.cfg.Shared {
		key.key = ""
	}
	if b.cfg.Shared || opts.Era == mcpwire.EraModern {
		// What several clients share can ask none of them (AG-26).
		opts.Capabilities, opts.ClientInfo, opts.OnMessage = nil, nil, nil
	}
	if opts.Era == mcpwire.EraModern {
		opts.Principal = opts.Key
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.conns[key]
	if c == nil {
		c = newConn(b, key, opts)
		// Many servers ask on the standalone stream, and a call waits for the answer: without the stream, for ever.
		c.wants.stream = opts.OnMessage != nil && b.canBeAsked(opts.Capabilities)
		if b.conns == nil {
			c.closed = true
		} else {
			b.conns[key] = c
		}
	}
	c.refs++
	return &Session{conn: c, onUpdated: updated, calls: make(map[string]*call)}
}

// inBackground runs f in the time of Run, or not at all.
func (b *Backend) inBackground(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.conns != nil {
		b.running.Go(f)
	}
}

// closeAll ends everything and waits for it.
func (b *Backend) closeAll() {
	b.mu.Lock()
	b.endSpare()
	conns := b.conns
	b.conns = nil
	b.mu.Unlock()
	b.stop()
	for _, c := range conns {
		c.drop(nil, whyEnded)
	}
	b.lister.drop(nil, whyEnded)
	b.running.Wait()
	if b.transport != nil {
		b.transport.CloseIdleConnections()
	}
}
