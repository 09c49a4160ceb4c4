package backend

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"go.uber.org/zap"

	"vmcp/internal/mcpwire"
)

// Listen opens the backend's standalone stream, now or when the session opens, and keeps it open: its messages go to
// OnMessage. A child and a modern backend have no such stream.
func (s *Session) Listen() {
	c := s.conn
	c.mu.Lock()
	c.wants.stream = true
	l := c.up.link
	c.mu.Unlock()
	if l != nil {
		c.startListening(l)
	}
}

// startListening reads what the backend tells of outside of calls, as far as that is wanted: the standalone stream of a
// legacy backend over HTTP, or of a modern one the subscriptions, anew where others are wanted now. A legacy child tells
// of everything on its one stream.
func (c *conn) startListening(l link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.up.link != l {
		return
	}
	if l.era() == mcpwire.EraModern {
		c.subscribe(l)
		return
	}
	h, ok := l.(*httpLink)
	if !ok || !c.wants.stream || c.up.unlist != nil {
		return
	}
	ctx, cancel := context.WithCancel(c.b.ctx)
	c.up.unlist = cancel
	c.b.running.Go(func() { c.listen(ctx, h) })
}

// again is how long to wait before a stream is opened once more, after so many times in a row that it brought nothing
// and ended soon; false: there is no such stream.
func again(retry time.Duration, fruitless int) (time.Duration, bool) {
	return min(retry<<fruitless, 5*time.Minute), fruitless < 12
}

// lives is for how long a stream has to stay open to be one that is worth opening again soon.
const lives = 10 * time.Second

// listen reads the standalone stream and opens it again when it ends, until the backend says or shows that it has none.
// One that says that it does not know the session, after the stream was open, gets a new one if resources are watched.
func (c *conn) listen(ctx context.Context, l *httpLink) {
	id, retry, was := "", resumeDelay, false
	for fruitless := 0; ; fruitless++ {
		began := time.Now()
		body, err := l.open(ctx, id)
		switch {
		case ctx.Err() != nil:
			if err == nil {
				body.Close()
			}
			return
		case isGone(err, was):
			c.drop(l, whyLost)
			return
		case hasNone(err):
			c.b.log.Debug("the backend has no standalone stream", zap.Error(err))
			return
		}
		if err == nil {
			was = true
			mine := room{of: &c.b.budget}
			stream := newEvents(body, &mine)
			stream.id = id
			for c.heard(ctx, l, stream) {
				fruitless = 0
			}
			body.Close()
			mine.end()
			id = stream.id
			if stream.retry > 0 {
				retry = max(resumeDelay, min(stream.retry, longestRetry))
			}
			if time.Since(began) > lives {
				fruitless = 0
			}
		}
		if !c.pause(ctx, retry, fruitless, err) {
			return
		}
	}
}

// heard takes the next message of the standalone stream. False: the stream has ended.
func (c *conn) heard(ctx context.Context, l *httpLink, stream *events) bool {
	data, err := stream.next()
	if err != nil {
		return false
	}
	for _, part := range split(data) {
		r, err := parse(part)
		switch {
		case err != nil && isNoise(part):
			continue
		case err != nil:
			c.b.warn("the backend sent an invalid message on its standalone stream", err)
			continue
		}
		c.unsolicited(l, r, func(r mcpwire.Reply) {
			if err := c.b.refuse(ctx, l, r); err != nil {
				c.b.log.Debug("answering a request of the backend", zap.Error(err))
			}
		})
	}
	return true
}

// pause waits before a stream is opened again. False: it is not.
func (c *conn) pause(ctx context.Context, retry time.Duration, fruitless int, err error) bool {
	pause, more := again(retry, fruitless)
	if !more {
		c.b.log.Info("the backend's stream of notices brings nothing; it is not opened any more", zap.Error(err))
		return false
	}
	wait := time.NewTimer(pause)
	defer wait.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-wait.C:
		return true
	}
}

// hasNone says of a refused stream that asking again is of no use; other refusals pass.
func hasNone(err error) bool {
	var status *statusError
	if !errors.As(err, &status) {
		return false
	}
	switch status.status {
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusTooEarly, http.StatusTooManyRequests,
		http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
		return false
	}
	return status.status < 500 || status.status == http.StatusNotImplemented
}

// isGone says that the stream is refused because of the session: where it was open before, this is no other's fault.
func isGone(err error, was bool) bool {
	var status *statusError
	return was && errors.As(err, &status) && (status.status == http.StatusNotFound || status.status == http.StatusBadRequest)
}

// subscribe keeps one subscriptions/listen open for all that is wanted of a modern backend now, in place of the one for
// what was wanted before, which ends when the new one stands. Callers hold mu.
func (c *conn) subscribe(l link) {
	var fields []mcpwire.Field
	for _, kind := range c.wants.lists {
		fields = append(fields, mcpwire.Field{Name: kind.Capability() + "ListChanged", Value: []byte("true")})
	}
	if uris := c.wants.uris(); len(uris) > 0 {
		list := []byte{'['}
		for i, uri := range uris {
			if i > 0 {
				list = append(list, ',')
			}
			list = append(list, mcpwire.Quote(uri)...)
		}
		fields = append(fields, mcpwire.Field{Name: "resourceSubscriptions", Value: append(list, ']')})
	}
	filter := object(fields)
	before := c.up.unlist
	if bytes.Equal(filter, c.up.filter) || before == nil && len(fields) == 0 {
		return
	}
	c.up.filter, c.up.unlist = filter, nil
	if len(fields) == 0 {
		before()
		return
	}
	ctx, cancel := context.WithCancel(c.b.ctx)
	c.up.unlist = cancel
	if before == nil {
		before = func() {}
	}
	c.b.running.Go(func() {
		defer before()
		c.follow(ctx, l, object([]mcpwire.Field{{Name: "notifications", Value: filter}}), before)
	})
}

// follow holds one subscription open, until ctx ends or the backend shows that it has no such thing. stands is called
// when it is acknowledged.
func (c *conn) follow(ctx context.Context, l link, params []byte, stands func()) {
	for fruitless := 0; ; fruitless++ {
		began := time.Now()
		id := c.mint()
		out := c.b.own(l, id, "subscriptions/listen", params)
		out.listens = true
		err := l.exchange(ctx, out, func(r mcpwire.Reply, status int) (bool, error) {
			switch {
			case r.Kind == mcpwire.KindResponse && r.ErrorSpan.Exists():
				return true, &rpcError{code: r.ErrorCode(), status: status, noID: r.ID == nil}
			case r.Kind == mcpwire.KindResponse:
				return true, nil
			case r.Method == "notifications/subscriptions/acknowledged":
				stands()
			default:
				fruitless = 0
				c.unsolicited(l, r, func(mcpwire.Reply) {})
			}
			return false, nil
		})
		var rpc *rpcError
		switch {
		case ctx.Err() != nil:
			if _, child := l.(*pipeLink); child { // HTTP shows it by the end of the connection
				c.b.cancel(context.WithoutCancel(ctx), l, id, "")
			}
			return
		case hasNone(err), errors.As(err, &rpc) && rpc.status < 500:
			c.b.log.Debug("the backend has no subscriptions", zap.Error(err))
			return
		}
		if time.Since(began) > lives {
			fruitless = 0
		}
		if err == nil {
			err = io.EOF
		}
		if s, ok := l.(*pipeLink); ok && s.exited() || !c.pause(ctx, resumeDelay, fruitless, err) {
			return
		}
	}
}
