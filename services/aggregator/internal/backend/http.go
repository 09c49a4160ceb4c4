package backend

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"vmcp/internal/mcpwire"
	"vmcp/internal/mtls"
)

const (
	maxResumes   = 5           // in a row, without an event in between
	resumeDelay  = time.Second // where the server names none
	longestRetry = 30 * time.Second
	drainTimeout = 100 * time.Millisecond
)

// newTransport makes the connections of one backend: HTTP/1.1, kept alive, no redirects (a RoundTripper follows none),
// no compression (results pass byte for byte).
func newTransport(cfg Config) (http.Header, *http.Transport) {
	header := make(http.Header)
	for name, value := range cfg.Headers {
		header.Set(name, string(value))
	}
	header.Set("User-Agent", "vmcp")
	t := &http.Transport{
		Proxy:               http.ProxyFromEnvironment, // never for loopback
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout: 10 * time.Second,
		MaxIdleConnsPerHost: 1024,
		IdleConnTimeout:     90 * time.Second,
		DisableCompression:  true,
		Protocols:           new(http.Protocols),
	}
	t.Protocols.SetHTTP1(true)
	if len(cfg.CABundle) > 0 {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(cfg.CABundle)
		t.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	if cfg.Bridge {
		t.Proxy = nil
		t.DialTLSContext = func(ctx context.Context, _, address string) (net.Conn, error) {
			return cfg.Identity.DialTLS(ctx, address, mtls.RoleBridge(cfg.Name))
		}
	}
	return header, t
}

// httpLink is the Streamable HTTP way to a backend. In the legacy era it is one session, in the modern it has no state.
type httpLink struct {
	b       *Backend
	url     *url.URL
	wire    mcpwire.Era
	version string // MCP-Protocol-Version of each request
	session string // Mcp-Session-Id, empty without
	child   string // of a bridge, in the modern era: whom its requests are for, see cmd/bridge

	introduction *hello
}

func (l *httpLink) era() mcpwire.Era { return l.wire }
func (l *httpLink) hello() *hello    { return l.introduction }

// request builds an HTTP request by hand: it is the hot path.
func (l *httpLink) request(ctx context.Context, method string, body []byte, extra http.Header) *http.Request {
	h := make(http.Header, len(l.b.header)+len(extra)+8)
	maps.Copy(h, extra)
	maps.Copy(h, l.b.header)
	if l.version != "" { // not on initialize
		h["Mcp-Protocol-Version"] = []string{l.version}
	}
	if l.session != "" {
		h["Mcp-Session-Id"] = []string{l.session}
	} else if l.child != "" {
		h["Vmcp-Child"] = []string{l.child}
	}
	to := l.url
	if moved := l.b.moved.Load(); moved != nil {
		to = moved
	}
	r := &http.Request{Method: method, URL: to, Host: to.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: h}
	if method == http.MethodPost {
		h["Content-Type"] = contentJSON
		h["Accept"] = acceptBoth
		r.ContentLength = int64(len(body))
		r.Body = io.NopCloser(bytes.NewReader(body))
		// The transport repeats a request by this only if it wrote nothing of it to a connection gone stale.
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	}
	return r.WithContext(ctx)
}

var (
	contentJSON  = []string{"application/json"}
	acceptBoth   = []string{"application/json, text/event-stream"}
	acceptStream = []string{"text/event-stream"}
)

// exchange posts a request and hands each message that comes for it to recv, the response last.
func (l *httpLink) exchange(ctx context.Context, out *outgoing, recv receiver) error {
	resp, err := l.send(ctx, http.MethodPost, out.body, out.header)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out.onHeader != nil {
		out.onHeader(resp.Header)
	}

	kind := kindOf(resp)
	switch {
	case resp.StatusCode == http.StatusNotFound && l.session != "":
		return errSessionGone
	case resp.StatusCode >= 300 && !(resp.StatusCode >= 400 && kind == isJSON), refusesUs(resp.StatusCode):
		return l.statusError(resp)
	case kind == isJSON:
		return l.receiveJSON(resp, recv)
	case kind == isEvents && resp.StatusCode == http.StatusOK:
		if err := l.receiveEvents(ctx, resp.Body, recv); err != nil {
			return err
		}
		drain(resp.Body)
		return nil
	}
	return l.b.errorf(ErrInvalidReply, true, "a request was answered with status %d and content type %q", resp.StatusCode, contentType(resp))
}

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

func (l *httpLink) receiveJSON(resp *http.Response, recv receiver) error {
	buf := buffers.Get().(*bytes.Buffer)
	defer func() {
		if buf.Cap() <= 1<<20 {
			buf.Reset()
			buffers.Put(buf)
		}
	}()
	mine := room{of: &l.b.budget}
	defer mine.end()
	if resp.ContentLength > 0 && resp.ContentLength <= maxMessage {
		if err := mine.grow(int(resp.ContentLength)); err != nil {
			return l.b.errorf(ErrInvalidReply, true, "%w", err)
		}
		buf.Grow(int(resp.ContentLength) + bytes.MinRead)
	}
	n, err := buf.ReadFrom(io.LimitReader(&counted{r: resp.Body, room: &mine}, maxMessage+1))
	if errors.Is(err, errTooMuch) {
		return l.b.errorf(ErrInvalidReply, true, "%w", err)
	}
	if err != nil {
		return err
	}
	if n > maxMessage {
		return l.b.errorf(ErrInvalidReply, true, "%w", errTooLong)
	}
	for _, part := range split(buf.Bytes()) {
		reply, err := parse(part)
		if resp.StatusCode >= 400 && (err != nil || !reply.ErrorSpan.Exists()) { // a proxy's page, not a JSON-RPC error
			return l.statusError(resp)
		}
		if err != nil {
			return l.b.errorf(ErrInvalidReply, true, "reading the answer: %w", err)
		}
		if done, err := recv(reply, resp.StatusCode); done || err != nil {
			return err
		}
	}
	return l.b.errorf(ErrInvalidReply, true, "the answer has no response")
}

// receiveEvents reads a stream until the response, resuming it where the server closes it before (HL-8).
func (l *httpLink) receiveEvents(ctx context.Context, body io.Reader, recv receiver) error {
	mine := room{of: &l.b.budget}
	defer mine.end()
	stream, resumes := newEvents(body, &mine), 0
	for {
		data, err := stream.next()
		if err == nil {
			resumes = 0
			for _, part := range split(data) {
				reply, err := parse(part)
				if err != nil && isNoise(part) {
					continue
				}
				if err != nil {
					return l.b.errorf(ErrInvalidReply, true, "reading an event: %w", err)
				}
				if done, err := recv(reply, http.StatusOK); done || err != nil {
					return err
				}
			}
			continue
		}
		if errors.Is(err, errTooLong) || errors.Is(err, errTooMuch) {
			return l.b.errorf(ErrInvalidReply, true, "%w", err)
		}
		if ctx.Err() != nil {
			return err
		}
		if stream.id == "" || l.wire != mcpwire.EraLegacy || resumes == maxResumes {
			if err == io.EOF {
				return l.b.errorf(ErrInvalidReply, true, "the stream ended before the response")
			}
			return err
		}
		resumes++
		next, err := l.resume(ctx, stream.id, stream.retry)
		if err != nil {
			return err
		}
		defer next.Close()
		id, retry := stream.id, stream.retry
		stream = newEvents(next, &mine)
		stream.id, stream.retry = id, retry
	}
}

// resume opens a stream again after the event with this id.
func (l *httpLink) resume(ctx context.Context, id string, retry time.Duration) (io.ReadCloser, error) {
	if retry == 0 {
		retry = resumeDelay
	}
	wait := time.NewTimer(min(retry, longestRetry))
	defer wait.Stop()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-wait.C:
	}
	return l.open(ctx, id)
}

// open opens a GET stream: the standalone one, or with an event id the one that the event was on.
func (l *httpLink) open(ctx context.Context, lastEventID string) (io.ReadCloser, error) {
	extra := http.Header{"Accept": acceptStream}
	if lastEventID != "" {
		extra["Last-Event-Id"] = []string{lastEventID}
	}
	resp, err := l.send(ctx, http.MethodGet, nil, extra)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK || !strings.EqualFold(contentType(resp), "text/event-stream") {
		defer resp.Body.Close()
		return nil, l.statusError(resp)
	}
	return resp.Body, nil
}

// drain reads the end of a stream whose last message is behind us: only a body read to its end leaves a connection
// that can be used again. A server that does not end it soon loses the connection.
func drain(body io.ReadCloser) {
	timer := time.AfterFunc(drainTimeout, func() { body.Close() })
	defer timer.Stop()
	io.CopyN(io.Discard, body, 64<<10)
}

// post sends a message that has no answer: a notification or a response (HT-3).
func (l *httpLink) post(ctx context.Context, body []byte, header http.Header) error {
	resp, err := l.send(ctx, http.MethodPost, body, header)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotFound && l.session != "":
		return errSessionGone
	case resp.StatusCode >= 300:
		return l.statusError(resp)
	}
	drain(resp.Body) // some servers open a stream all the same
	return nil
}

// close ends the session at the backend, which may not know such a thing (405).
func (l *httpLink) close() {
	if l.session == "" && l.child == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), partingTimeout)
	defer cancel()
	resp, err := l.send(ctx, http.MethodDelete, nil, nil)
	if err == nil {
		io.CopyN(io.Discard, resp.Body, 4<<10)
		resp.Body.Close()
	}
}
