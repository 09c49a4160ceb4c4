package backend

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"vmcp/internal/mcpwire"
	"vmcp/internal/stdio"
)

// childFacts are what the starts of a server's children have shown.
type childFacts struct {
	era  atomic.Uint32 // mcpwire.Era of those for modern clients; 0: not known
	took atomic.Int64  // time.Duration that the last start took, to its introduction; 0: not known
}

// startChild runs the server for c and introduces us.
func (b *Backend) startChild(ctx context.Context, c *conn) (link, error) {
	var in *place
	if c != b.lister {
		var err error
		if in, err = b.reserve(ctx, c); err != nil {
			return nil, err
		}
	}
	asks := c.key.era == mcpwire.EraModern && b.child.era.Load() != uint32(mcpwire.EraLegacy)
	l, ended, err := b.meetChild(ctx, c, asks, true)
	if ended && ctx.Err() == nil { // maybe of the question, or while it waited
		l, _, err = b.meetChild(ctx, c, false, false)
	}
	if err != nil {
		if in != nil {
			b.places.free(in)
		}
		return nil, err
	}
	if asks && (l.era() == mcpwire.EraModern || b.child.took.Load() > 0) {
		b.child.era.Store(uint32(l.era()))
	}
	l.place = in
	b.keepSpare()
	return l, nil
}

// meetChild takes a child that knows nothing of a client yet and introduces us: with initialize, or where that is refused
// with server/discover; with asks the other way round. ended: it failed since the child ended, and another may not.
func (b *Backend) meetChild(ctx context.Context, c *conn, asks, spare bool) (l *pipeLink, ended bool, err error) {
	began := time.Now()
	process := (*stdio.Process)(nil)
	if spare {
		process = b.takeSpare()
	}
	warm := process != nil
	if !warm {
		if process, err = b.run(); err != nil {
			return nil, false, err
		}
	}
	l = newPipeLink(b, c, process, "the server exited")
	if !asks || !l.discoverFirst(ctx) {
		err = l.introduce(ctx)
	}
	if err != nil {
		ended = l.exited() && (asks || warm)
		l.close()
		if last := process.Said(); last != "" && ctx.Err() != nil { // what it is waiting for, maybe
			err = fmt.Errorf("%w; it last wrote: %s", context.Cause(ctx), last)
		}
		return nil, ended, err
	}
	if !warm {
		b.child.took.Store(int64(max(time.Since(began), 1))) // the first may have downloaded the server
	}
	return l, false, nil
}

// longestStart is what of a slow start a probe waits for.
const longestStart = 20 * time.Second

// discoverFirst says whether the child speaks to modern clients. One that speaks to both can ask such clients something
// only where nobody has sent initialize (BR-6); one that knows no such method, or never answers, is told initialize next.
func (l *pipeLink) discoverFirst(ctx context.Context) bool {
	if l.b.child.era.Load() == 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, min(l.b.cfg.Timeout/2, longestProbe)+min(2*time.Duration(l.b.child.took.Load()), longestStart), ErrTimeout)
		defer cancel()
	}
	l.wire.Store(uint32(mcpwire.EraModern))
	f, err := l.b.discover(ctx, l, l.conn.mint())
	if err == nil && f.modern {
		l.introduction = f.hello
		return true
	}
	l.wire.Store(uint32(mcpwire.EraLegacy))
	return false
}

func (l *pipeLink) introduce(ctx context.Context) error {
	_, h, err := l.b.initialize(ctx, l, l.conn, nil)
	if err == nil {
		l.introduction = h
		return l.post(ctx, initialized, nil)
	}
	var rpc *rpcError
	if !errors.As(err, &rpc) {
		return err
	}
	l.wire.Store(uint32(mcpwire.EraModern))
	f, probe := l.b.discover(ctx, l, l.conn.mint())
	if probe != nil || !f.modern {
		return err // what initialize said is the better reason
	}
	l.introduction = f.hello
	return nil
}

// spare is a child that was started ahead of the next session, where starts take long. Guarded by Backend.mu.
type spare struct {
	process *stdio.Process // nil: there is none
	since   time.Time      // of the process, or of its start, in progress; zero: neither
}

// worthSpare is how long a start has to take for a child to wait for the next session.
const worthSpare = time.Second

// takeSpare returns the spare child, nil if there is none that lives.
func (b *Backend) takeSpare() *stdio.Process {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.spare.process
	if p == nil {
		return nil
	}
	b.spare = spare{}
	select {
	case <-p.Done():
		return nil
	default:
		return p
	}
}

func (b *Backend) run() (*stdio.Process, error) {
	env := map[string]string{}
	for name, value := range b.cfg.Env {
		env[name] = string(value)
	}
	return stdio.Start(stdio.Config{
		Command: append(slices.Clone(b.cfg.Command), b.cfg.Args...),
		Env:     env,
		Hide:    b.cfg.Hide,
		Log:     b.log,
	})
}

// keepSpare starts the child of the next session, where that is worth it. One that does not last is started again only
// when a session has started without it.
func (b *Backend) keepSpare() {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-b.retired:
		return
	default:
	}
	if b.cfg.Shared || time.Duration(b.child.took.Load()) < worthSpare || !b.spare.since.IsZero() || b.conns == nil {
		return
	}
	b.spare.since = time.Now()
	b.running.Go(func() {
		p, err := b.run()
		b.mu.Lock()
		defer b.mu.Unlock()
		switch {
		case err != nil: // the next session tells why
			if b.spare.process == nil {
				b.spare = spare{}
			}
		case b.spare.process == nil && !b.spare.since.IsZero():
			b.spare.process = p
		default: // it came to nothing meanwhile
			b.running.Go(p.Stop)
		}
	})
}

// endSpare stops the spare child, if there is one. Callers hold mu.
func (b *Backend) endSpare() {
	p := b.spare.process
	b.spare = spare{}
	if p != nil {
		b.running.Go(p.Stop)
	}
}
