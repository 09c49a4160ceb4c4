package backend

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"

	"vmcp/internal/mcpwire"
	"vmcp/internal/stdio"
)

// pipeLink is a session with one stream of messages each way: a child process, or a server of HTTP+SSE. What belongs
// together is told by id and progress token.
type pipeLink struct {
	b       *Backend
	conn    *conn
	wire    atomic.Uint32 // mcpwire.Era: refuseAll reads it while introduce decides
	process pipe
	gone    string // in errors, when the stream has ended
	place   *place // nil: the lister's child needs none

	introduction *hello

	replies chan mcpwire.Reply // requests of the child that no call takes, answered apart from the reading
	reading sync.WaitGroup
	once    sync.Once

	mu       sync.Mutex
	calls    []*mailbox // in progress, in the order they began
	err      error      // the stream has ended
	notified bool       // something was written that has no answer
}

func (l *pipeLink) era() mcpwire.Era { return mcpwire.Era(l.wire.Load()) }
func (l *pipeLink) hello() *hello    { return l.introduction }

func (l *pipeLink) exited() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err != nil
}

// newPipeLink reads what comes through a pipe until that ends.
func newPipeLink(b *Backend, c *conn, through pipe, gone string) *pipeLink {
	l := &pipeLink{b: b, conn: c, process: through, gone: gone, replies: make(chan mcpwire.Reply, 64)}
	l.wire.Store(uint32(mcpwire.EraLegacy))
	l.reading.Go(l.read)
	l.reading.Go(l.refuseAll)
	return l
}

// exchange writes a request and takes from the mailbox what comes for it.
func (l *pipeLink) exchange(ctx context.Context, out *outgoing, recv receiver) error {
	box := &mailbox{id: string(out.id), listens: out.listens, wake: make(chan struct{}, 1), room: room{of: &l.b.budget}}
	switch out.method {
	case "tools/call", "prompts/get", "resources/read":
		box.asks = true
	}
	l.mu.Lock()
	if l.err != nil {
		l.mu.Unlock()
		return l.b.errorf(ErrUnavailable, false, "%w", l.err)
	}
	l.calls = append(l.calls, box)
	l.mu.Unlock()
	defer l.remove(box)
	if err := l.process.Write(ctx, out.body); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-box.wake:
		}
		messages, err := box.take()
		for _, msg := range messages {
			reply, err := mcpwire.ParseReply(msg)
			if err != nil {
				return err
			}
			if done, err := recv(reply, http.StatusOK); done || err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
	}
}

func (l *pipeLink) remove(box *mailbox) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = slices.DeleteFunc(l.calls, func(b *mailbox) bool { return b == box })
	box.close()
}

// read routes the child's messages until its stream ends, which fails all calls at once.
func (l *pipeLink) read() {
	for {
		line, err := l.process.Read()
		switch {
		case errors.Is(err, stdio.ErrLineTooLong):
			l.misread(nil, err)
			continue
		case err != nil:
			// A child's output ends when it exits; one that closes it and lives on is of no use either.
			l.process.Stop()
			l.end(l.b.errorf(ErrUnavailable, true, "%s: %w", l.gone, l.process.Err()))
			if l.conn.watches() {
				l.conn.drop(l, whyLost)
			}
			return
		}
		line = bytes.TrimSpace(bytes.TrimPrefix(line, byteOrderMark))
		for _, part := range split(line) {
			reply, err := parse(part)
			switch {
			case err == nil:
				l.route(reply)
			case isNoise(part):
				l.b.log.Debug("the server wrote a line that is no message")
			default:
				l.misread(part, err)
			}
		}
	}
}

// misread fails the call that a line nobody can read was for, as far as one can say, and no other.
func (l *pipeLink) misread(line []byte, err error) {
	err = l.b.errorf(ErrInvalidReply, true, "reading a line: %w", err)
	l.mu.Lock()
	var box *mailbox
	if o, bad := mcpwire.ParseObject(line, 0, len(line)); bad == nil {
		box = l.callOf(o.Raw("id"))
	}
	if box == nil {
		box = l.only()
	}
	l.mu.Unlock()
	if box == nil {
		l.b.warn("the server wrote a message that cannot be read", err)
		return
	}
	box.put(nil, err)
}

// end fails the calls in progress and all later ones, and stops the child.
func (l *pipeLink) end(err error) {
	l.mu.Lock()
	calls := l.calls
	l.err = err
	l.mu.Unlock()
	close(l.replies)
	for _, box := range calls {
		box.put(nil, err)
	}
	l.process.Stop()
}

// route hands one message to the call it belongs to. Responses name it by id, progress by token. Of the rest nobody
// can say: a request of the server is part of a call (AG-26), most likely of the last one begun in which servers ask, and
// what else there is of the last one begun. Without such a call it is outside of any.
func (l *pipeLink) route(r mcpwire.Reply) {
	var box *mailbox
	l.mu.Lock()
	switch {
	case r.Kind == mcpwire.KindResponse && r.ID == nil:
		// An error of a request that could not be read; or of a notification, which has no answer, and gets one from some
		// servers all the same. One of ours can be read.
		if r.ErrorSpan.Exists() && (!l.notified || r.ErrorCode() == mcpwire.CodeParse) {
			box = l.only()
		}
	case r.Kind == mcpwire.KindResponse:
		box = l.callOf(r.ID)
	case r.Method == "notifications/progress":
		params, _ := r.Params()
		box = l.callOf(params.Raw("progressToken"))
	case r.Method == "notifications/subscriptions/acknowledged":
		params, _ := r.Params()
		if at, ok := params.Find("_meta"); ok {
			meta, _ := mcpwire.ParseObject(r.Body.Text, at.Start, at.End)
			box = l.callOf(meta.Raw(mcpwire.MetaSubscriptionID))
		}
	case l.b.cfg.Shared, r.Kind == mcpwire.KindRequest && !l.b.mayAsk(r.Method), r.Method == "notifications/resources/updated", mcpwire.IsListChanged(r.Method):
	default:
		for _, b := range l.calls {
			if !b.listens && (r.Kind != mcpwire.KindRequest || b.asks) {
				box = b
			}
		}
	}
	l.mu.Unlock()
	if box != nil {
		box.put(slices.Clone(r.Body.Text), nil)
		return
	}
	l.conn.unsolicited(l, r, func(r mcpwire.Reply) {
		select {
		case l.replies <- mcpwire.Reply{Kind: r.Kind, Method: r.Method, ID: slices.Clone(r.ID)}:
		default:
			l.b.warn("the server asks faster than it reads answers", nil)
		}
	})
}

// only is the one call in progress, nil where there is none or more. Callers hold mu.
func (l *pipeLink) only() (box *mailbox) {
	for _, b := range l.calls {
		switch {
		case b.listens:
		case box != nil:
			return nil
		default:
			box = b
		}
	}
	return box
}

// callOf is the call with this id of ours, or nil. Callers hold mu.
func (l *pipeLink) callOf(id []byte) *mailbox {
	at := slices.IndexFunc(l.calls, func(b *mailbox) bool { return isID(id, b.id) })
	if at < 0 {
		return nil
	}
	return l.calls[at]
}

// refuseAll answers what no client can be asked. It is apart from read: a child that is blocked writing to us may not
// be reading either.
func (l *pipeLink) refuseAll() {
	for r := range l.replies {
		ctx, cancel := context.WithTimeout(l.b.ctx, partingTimeout)
		if err := l.b.refuse(ctx, l, r); err != nil {
			l.b.log.Debug("answering a request of the server", zap.Error(err))
		}
		cancel()
	}
}

func (l *pipeLink) post(ctx context.Context, body []byte, _ http.Header) error {
	l.mu.Lock()
	l.notified = true
	l.mu.Unlock()
	if err := l.process.Write(ctx, body); err != nil {
		return fmt.Errorf("writing to the server: %w", err)
	}
	return nil
}

// leave says that close follows: who needs the place may wait for it.
func (l *pipeLink) leave() {
	if l.place != nil {
		l.b.places.end(l.place)
	}
}

// close stops the child and waits for it.
func (l *pipeLink) close() {
	l.once.Do(func() {
		l.process.Stop()
		l.reading.Wait()
		if l.place != nil {
			l.b.places.free(l.place)
		}
	})
}
