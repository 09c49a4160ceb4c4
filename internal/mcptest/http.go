package mcptest

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"vmcp/internal/freeport"
)

// Options are what a test chooses about an HTTP server. The zero value is a dual-era probe server with one echo tool.
type Options struct {
	Era    Era
	Tools  int                                  // number of echo tools of the probe server; 0 means 1
	JSON   bool                                 // answer with application/json instead of an event stream
	Server func(versions []string) *mcp.Server  // nil: Probe
	Wrap   func(next http.Handler) http.Handler // around the MCP handler, inside recording and faults
}

// Fault is how a server misbehaves. The zero value behaves.
type Fault struct {
	Method string        // JSON-RPC method it applies to; empty: every request
	Status int           // answer with this status and a plain body instead of serving
	Delay  time.Duration // wait before serving
	Hang   bool          // never answer, until the client goes away or the server closes
	Reset  bool          // serve, and then reset the connection instead of answering
}

// Request is one HTTP request that a server received.
type Request struct {
	HTTP   string // HTTP method
	Method string // JSON-RPC method; empty for GET, DELETE and posted responses
	Name   string // params.name or params.uri
	Header http.Header
	Body   []byte
	Conn   string // the client's address: equal for requests on one connection
}

// HTTP is a real server on 127.0.0.1 that records and misbehaves.
type HTTP struct {
	URL string

	server   *httptest.Server
	handler  http.Handler
	done     chan struct{} // closed by Close: ends hanging requests
	released chan struct{}
	once     sync.Once
	release  sync.Once

	mu       sync.Mutex
	fault    Fault
	requests []Request
	push     map[string]chan string // by session, see Push
}

// NewHTTP starts a server that stops with the test.
func NewHTTP(tb testing.TB, opts Options) *HTTP {
	tb.Helper()
	address, err := freeport.Address() // which nobody takes while it is closed, see Restart
	if err != nil {
		tb.Fatal(err)
	}
	return serve(tb, opts, address)
}

// Restart starts another server at the address of this one, which must be closed; it knows none of its sessions.
func (h *HTTP) Restart(tb testing.TB, opts Options) *HTTP {
	tb.Helper()
	return serve(tb, opts, h.server.Listener.Addr().String())
}

func serve(tb testing.TB, opts Options, address string) *HTTP {
	tb.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		tb.Fatal(err)
	}
	h := &HTTP{done: make(chan struct{}), released: make(chan struct{})}
	newServer := opts.Server
	if newServer == nil {
		newServer = func(versions []string) *mcp.Server { return Probe(max(1, opts.Tools), versions, h.released) }
	}
	h.handler = Handler(opts.Era, opts.JSON, newServer)
	if opts.Wrap != nil {
		h.handler = opts.Wrap(h.handler)
	}
	h.server = &httptest.Server{Listener: listener, Config: &http.Server{Handler: h}}
	h.server.Start()
	h.URL = h.server.URL + "/mcp"
	tb.Cleanup(h.Close)
	return h
}

// Close stops the server: from now on connections are refused.
func (h *HTTP) Close() {
	h.once.Do(func() { close(h.done) })
	h.Release()
	h.server.CloseClientConnections()
	h.server.Close()
}

// Release lets all present and later calls of the tool wait return.
func (h *HTTP) Release() { h.release.Do(func() { close(h.released) }) }

// SetFault changes how the server behaves from the next request on.
func (h *HTTP) SetFault(f Fault) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fault = f
}

// Requests are those received so far, in order of arrival.
func (h *HTTP) Requests() []Request {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.requests)
}

// Reset forgets the requests received so far.
func (h *HTTP) Reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.requests = nil
}

// Count is the number of requests received with this JSON-RPC method and, unless empty, this name or URI.
func (h *HTTP) Count(method, name string) int {
	n := 0
	for _, r := range h.Requests() {
		if r.Method == method && (name == "" || r.Name == name) {
			n++
		}
	}
	return n
}

// Saw says whether a call of this tool reached the server.
func (h *HTTP) Saw(tool string) bool { return h.Count("tools/call", tool) > 0 }

func (h *HTTP) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client went away
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	req := Request{HTTP: r.Method, Header: r.Header.Clone(), Body: body, Conn: r.RemoteAddr}
	var envelope struct {
		Method string `json:"method"`
		Params struct {
			Name string `json:"name"`
			URI  string `json:"uri"`
		} `json:"params"`
	}
	if json.Unmarshal(body, &envelope) == nil {
		req.Method, req.Name = envelope.Method, envelope.Params.Name+envelope.Params.URI
	}
	h.mu.Lock()
	h.requests = append(h.requests, req)
	fault := h.fault
	h.mu.Unlock()

	if fault.Method != "" && fault.Method != req.Method {
		fault = Fault{}
	}
	if fault.Delay > 0 {
		select {
		case <-time.After(fault.Delay):
		case <-r.Context().Done():
		case <-h.done:
		}
	}
	switch {
	case fault.Hang:
		select {
		case <-r.Context().Done():
		case <-h.done:
		}
	case fault.Status != 0:
		http.Error(w, "fault", fault.Status)
	case fault.Reset:
		h.handler.ServeHTTP(httptest.NewRecorder(), r)
		resetConn(w)
	default:
		h.handler.ServeHTTP(w, r)
	}
}

// resetConn ends the connection with a RST: the client cannot take it for an answer.
func resetConn(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err) // HTTP/1.1 only
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	conn.Close()
}

// SSEServer is a probe server over HTTP+SSE, the transport of 2024-11-05.
type SSEServer struct {
	URL    string
	server *httptest.Server
}

// NewSSE starts one that stops with the test.
func NewSSE(tb testing.TB) *SSEServer {
	tb.Helper()
	s := &SSEServer{server: httptest.NewServer(mcp.NewSSEHandler(func(*http.Request) *mcp.Server { return Probe(1, nil, nil) }, nil))}
	s.URL = s.server.URL + "/sse"
	tb.Cleanup(func() {
		s.Break()
		s.server.Close()
	})
	return s
}

// Break ends all connections; later ones are served.
func (s *SSEServer) Break() { s.server.CloseClientConnections() }
