package backend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"

	"vmcp/internal/mcpwire"
)

// pipe carries the messages of one session both ways: a child's stdin and stdout, or the HTTP+SSE transport of 2024-11-05.
type pipe interface {
	Read() ([]byte, error) // the next message, valid until the next Read
	Write(ctx context.Context, msg []byte) error
	Stop()      // ends it; Read fails then
	Err() error // why it ended
}

// ssePipe is the transport of 2024-11-05: all messages of the server come on one event stream, whose first event says
// where ours are posted.
type ssePipe struct {
	link   *httpLink // for requests
	to     *url.URL
	events *events
	room   room
	body   io.Closer
	cancel context.CancelFunc

	mu  sync.Mutex
	err error
}

// connectSSE opens the event stream and introduces us.
func (b *Backend) connectSSE(ctx context.Context, c *conn, u *url.URL) (link, error) {
	p, err := b.openSSE(ctx, u)
	if err != nil {
		return nil, err
	}
	l := newPipeLink(b, c, p, "its event stream ended")
	if err := l.introduce(ctx); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// openSSE opens the event stream, which lasts until Stop, and reads where to post; ctx is for that much.
func (b *Backend) openSSE(ctx context.Context, u *url.URL) (*ssePipe, error) {
	lasting, cancel := context.WithCancel(b.ctx)
	stop := context.AfterFunc(ctx, cancel)
	defer stop()
	p := &ssePipe{link: &httpLink{b: b, url: u, wire: mcpwire.EraLegacy}, cancel: cancel}
	resp, err := p.link.send(lasting, http.MethodGet, nil, http.Header{"Accept": acceptStream})
	if err != nil {
		cancel()
		return nil, err
	}
	p.body = resp.Body
	fail := func(err error) (*ssePipe, error) {
		p.Stop()
		p.room.end()
		return nil, err
	}
	if resp.StatusCode != http.StatusOK || kindOf(resp) != isEvents {
		err := p.link.statusError(resp)
		if s := resp.StatusCode; s == http.StatusNotFound || s == http.StatusMethodNotAllowed || s == http.StatusBadRequest || s == http.StatusNotAcceptable {
			err = fmt.Errorf("%w (is its URL right? A server of Streamable HTTP answers so too)", err)
		}
		return fail(err)
	}
	p.room.of = &b.budget
	p.events = newEvents(resp.Body, &p.room)
	first, err := p.events.next()
	if err != nil {
		return fail(b.errorf(ErrInvalidReply, false, "the event stream ended before it said where to post: %w", err))
	}
	p.to, err = u.Parse(string(first))
	if err != nil || p.to.Scheme != u.Scheme || p.to.Host != u.Host || p.to.User != nil {
		return fail(b.errorf(ErrInvalidReply, false, "the event stream does not begin with a place of the same server to post to"))
	}
	return p, nil
}

// Read returns the data of the next event.
func (p *ssePipe) Read() ([]byte, error) {
	data, err := p.events.next()
	if err != nil {
		p.room.end()
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.err == nil {
			p.err = err
		}
	}
	return data, err
}

// Write posts a message; what answers it comes on the stream.
func (p *ssePipe) Write(ctx context.Context, msg []byte) error {
	r := p.link.request(ctx, http.MethodPost, msg, nil)
	r.URL, r.Host = p.to, p.to.Host
	resp, err := p.link.b.transport.RoundTrip(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		return p.link.statusError(resp)
	}
	drain(resp.Body)
	return nil
}

func (p *ssePipe) Stop() {
	p.cancel()
	p.body.Close()
}

func (p *ssePipe) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		return errors.New("closed")
	}
	return p.err
}
