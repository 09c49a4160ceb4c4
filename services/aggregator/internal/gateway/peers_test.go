package gateway

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"

	"vmcp/internal/await"
	"vmcp/internal/mcptest"
)

// events is an open event stream.
type events struct {
	resp   *http.Response
	lines  *bufio.Reader
	cancel context.CancelFunc
}

func (w *world) stream(t testing.TB, a ask) *events {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), await.Limit)
	t.Cleanup(cancel)
	resp, err := http.DefaultClient.Do(w.request(t, ctx, a))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		body, _ := io.ReadAll(resp.Body)
		t.Fatalf("no stream: %d %s", resp.StatusCode, body)
	}
	return &events{resp, bufio.NewReader(resp.Body), cancel}
}

// next is the data of the next event, ":" for a comment, and "end" at the end of the stream.
func (e *events) next(t testing.TB) string {
	t.Helper()
	var data []byte
	for {
		line, err := e.lines.ReadBytes('\n')
		if err == io.EOF && len(line) == 0 {
			return "end"
		}
		if err != nil {
			t.Fatalf("reading the stream: %v", err)
		}
		line = bytes.TrimSuffix(line, []byte("\n"))
		switch {
		case bytes.HasPrefix(line, []byte("data: ")):
			data = append(data, line[len("data: "):]...)
		case bytes.HasPrefix(line, []byte(":")):
			e.lines.ReadBytes('\n')
			return ":"
		case len(line) == 0 && data != nil:
			return string(data)
		}
	}
}

// message is the next event that is no comment.
func (e *events) message(t testing.TB) string {
	t.Helper()
	for {
		if m := e.next(t); m != ":" {
			return m
		}
	}
}

// watched is a backend whose requests a test can wait for.
type watched struct {
	*mcptest.HTTP
	arrived chan string // JSON-RPC method, or the HTTP method where there is none
	ended   chan ended
}

type ended struct {
	method    string
	cancelled bool // the gateway went away
}

func newWatched(t testing.TB, opts mcptest.Options) *watched {
	w := &watched{arrived: make(chan string, 1000), ended: make(chan ended, 1000)}
	opts.Wrap = func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(body))
			var m struct{ Method string }
			json.Unmarshal(body, &m)
			if m.Method == "" {
				m.Method = r.Method
			}
			w.arrived <- m.Method
			next.ServeHTTP(rw, r)
			w.ended <- ended{m.Method, r.Context().Err() != nil}
		})
	}
	w.HTTP = mcptest.NewHTTP(t, opts)
	return w
}

// wait reads from a channel until what is wanted comes.
func wait[T any](t testing.TB, c <-chan T, wanted func(T) bool) T {
	t.Helper()
	for deadline := time.After(await.Limit); ; {
		select {
		case v := <-c:
			if wanted(v) {
				return v
			}
		case <-deadline:
			t.Fatal("it did not come")
		}
	}
}
