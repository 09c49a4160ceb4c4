package gateway

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"vmcp/internal/mcptest"
)

// TestCallAlive: a call in which nothing moves shows life, if the client takes streams, and only until it is over.
func TestCallAlive(t *testing.T) {
	for _, tt := range []struct {
		name, accept string
		over         bool
		want         string
	}{
		{"a stream", "application/json, text/event-stream", false, ": keep-alive\n\n"},
		{"JSON alone", "application/json", false, ""},
		{"over", "application/json, text/event-stream", true, ""},
	} {
		rec := httptest.NewRecorder()
		x := exchange{g: &Gateway{cfg: Config{Log: zap.NewNop()}}, w: rec, r: httptest.NewRequest("POST", "/mcp", nil)}
		x.r.Header.Set("Accept", tt.accept)
		r := newReply(&x, nil, nil)
		if tt.over {
			r.finish(nil)
		}
		r.alive()
		if got := rec.Body.String(); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
		r.finish(nil)
	}
}

// TestCallGoesOn: after a sign of life the answer comes on the same stream.
func TestCallGoesOn(t *testing.T) {
	setFor(t, &keepAlive, 5*time.Millisecond)
	h := mcptest.NewHTTP(t, mcptest.Options{})
	w := newWorld(t, map[string]*mcptest.HTTP{"a": h})
	call := modern("1", "tools/call", toolCall("a_wait"))
	call.header.Set("Accept", "application/json, text/event-stream")
	s := w.stream(t, call)
	for range 3 {
		if got := s.next(t); got != ":" {
			t.Fatalf("got %s, want a comment", got)
		}
	}
	h.Release()
	for {
		switch got := s.next(t); {
		case got == ":":
			continue
		case !strings.Contains(got, `"id":1,"result"`):
			t.Errorf("the answer: %s", got)
		}
		break
	}
}

// TestUnread: a client that does not read what it is sent is given up.
func TestUnread(t *testing.T) {
	setFor(t, &pieceTime, 50*time.Millisecond)
	failed := make(chan error, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		failed <- send(w, make([]byte, 64<<20))
	}))
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if err := <-failed; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
