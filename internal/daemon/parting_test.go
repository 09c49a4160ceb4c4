package daemon

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
)

// TestParting: a server that stops while people call fails none of them: each request is answered, by it or by the one
// that took its place at the same address, and none is sent twice.
func TestParting(t *testing.T) {
	defer func(d time.Duration) { stopTime = d }(stopTime)
	stopTime = 10 * time.Second
	var served atomic.Int64
	serve := func() (address string, stop func()) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() {
			h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body); served.Add(1) })
			if err := ServeHTTP(ctx, l, NewHTTPServer(h, zap.NewNop())); err != nil {
				t.Error(err)
			}
		})
		return l.Addr().String(), func() { cancel(); running.Wait() }
	}
	first, stopFirst := serve()
	second, stopSecond := serve()
	defer stopSecond()
	var to atomic.Value
	to.Store(first)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, to.Load().(string)) // as a Service leads new connections
	}}}
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	var calls atomic.Int64
	for range 8 {
		callers.Go(func() {
			for ctx.Err() == nil {
				calls.Add(1)
				// A body that cannot be sent again: nothing is retried behind our back.
				resp, err := client.Post("http://service/", "text/plain", io.MultiReader(io.LimitReader(letters{}, 100)))
				if err != nil {
					t.Errorf("a call: %v", err)
					return
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		})
	}
	for calls.Load() < 200 && !t.Failed() {
		time.Sleep(time.Millisecond)
	}
	to.Store(second)
	stopFirst()
	for n := calls.Load() + 200; calls.Load() < n && !t.Failed(); {
		time.Sleep(time.Millisecond)
	}
	cancel()
	callers.Wait()
	if calls.Load() != served.Load() && !t.Failed() {
		t.Errorf("%d calls, %d served", calls.Load(), served.Load())
	}
}

type letters struct{}

func (letters) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'a'
	}
	return len(p), nil
}
