package backend

import (
	"context"
	"slices"
	"sync"
	"time"

	"vmcp/internal/decision"
	"vmcp/internal/gatewayconfig"
)

const (
	maxChildren = 16 // per stdio backend
	// maxShare of them are for one principal, so that nobody keeps everybody else out.
	maxShare = maxChildren * 3 / 4
)

// places are those for the children of a backend, without the lister's.
type places struct {
	mu  sync.Mutex
	all []*place // at most maxChildren
}

// place is one of them, or the claim to one whose child is ending. All but ready is guarded by places.mu.
type place struct {
	who    string        // the principal; once there is a next, that one's counts
	ready  chan struct{} // closed when a child can run in it
	ending bool          // its child is told to end
	next   *place        // who gets it then
}

// take gets a free place, or one that becomes free soon: its ready says when. Nil: there is none, and taking one from an
// idle child helps only if that is of the same principal (own).
func (p *places) take(who string) (got *place, own bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	mine := 0
	for _, q := range p.all {
		if q.next != nil {
			q = q.next
		}
		if q.who == who {
			mine++
		}
	}
	own = mine >= maxShare
	got = &place{who: who, ready: make(chan struct{})}
	if !own && len(p.all) < maxChildren {
		p.all = append(p.all, got)
		close(got.ready)
		return got, own
	}
	for _, q := range p.all {
		if q.ending && q.next == nil && (!own || q.who == who) {
			q.next = got
			return got, own
		}
	}
	return nil, own
}

// end says that the child of a place was told to end.
func (p *places) end(q *place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	q.ending = true
}

// free gives a place back when its child has ended, or a claim.
func (p *places) free(q *place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, at := range p.all {
		switch {
		case at.next == q:
			at.next = nil
		case at != q:
		case q.next != nil:
			p.all[i] = q.next
			close(q.next.ready)
		default:
			p.all = slices.Delete(p.all, i, i+1)
			return
		}
	}
}

// reserve takes a place for a child of c, if need be that of one that nobody calls, and waits until that has ended.
func (b *Backend) reserve(ctx context.Context, c *conn) (*place, error) {
	for {
		got, own := b.places.take(c.principal())
		if got == nil {
			if !b.evict(c, own) {
				return nil, b.errorf(ErrFull, false, "of %d places for children, at most %d for one principal, each that could be taken is in a call; "+
					"a server that needs no session for each client can be shared: annotation vmcp/sessions: shared", maxChildren, maxShare)
			}
			continue
		}
		select {
		case <-got.ready:
			return got, nil
		case <-ctx.Done():
			b.places.free(got)
			return nil, context.Cause(ctx)
		}
	}
}

// evict ends the longest idle child of whoever has most of them, or where own is set of c's principal.
func (b *Backend) evict(c *conn, own bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	idle := map[string][]*conn{}
	since := func(c *conn) time.Time {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.idle
	}
	for _, other := range b.conns {
		who := other.principal()
		other.mu.Lock()
		if other.up.link != nil && len(other.clocks) == 0 && (!own || who == c.principal()) {
			idle[who] = append(idle[who], other)
		}
		other.mu.Unlock()
	}
	for len(idle) > 0 {
		most := ""
		for who, conns := range idle {
			if len(conns) > len(idle[most]) {
				most = who
			}
		}
		oldest := slices.MinFunc(idle[most], func(x, y *conn) int { return since(x).Compare(since(y)) })
		if oldest.drop(nil, whyIdle) {
			return true
		}
		// A call began meanwhile.
		idle[most] = slices.DeleteFunc(idle[most], func(x *conn) bool { return x == oldest })
		if len(idle[most]) == 0 {
			delete(idle, most)
		}
	}
	return false
}

// principal is who a session is for: of one that all share, nobody, and without sign-in whoever the session itself is for.
func (c *conn) principal() string {
	switch {
	case c.b.cfg.Shared:
		return ""
	case c.opts.Principal == decision.Anonymous:
		return c.key.key
	}
	return c.opts.Principal
}

// starts says whether sessions with the backend are children of this process.
func (b *Backend) starts() bool { return b.cfg.Transport == gatewayconfig.TransportStdio }
