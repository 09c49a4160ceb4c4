package daemon

import (
	"context"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// A parting is how a server leaves its clients: for a moment it goes on to answer and says with each answer that the
// connection ends (RFC 9112 §9.6). Who closes idle connections at once cuts requests that are on their way, and such a
// request must not be sent again.
type parting struct {
	begun atomic.Bool
	open  atomic.Int64 // connections
}

// partingShare is how much of -stop-time the moment takes: 0.5 s of the 10 s on a laptop, 3 s of the minute in a pod.
const partingShare = 20

func newParting(s *http.Server) *parting {
	p := &parting{}
	next := s.Handler
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.begun.Load() && r.ProtoMajor == 1 { // HTTP/2 has GOAWAY, which Shutdown sends
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
	state := s.ConnState
	s.ConnState = func(c net.Conn, now http.ConnState) {
		switch now {
		case http.StateNew:
			p.open.Add(1)
		case http.StateClosed, http.StateHijacked:
			p.open.Add(-1)
		}
		if state != nil {
			state(c, now)
		}
	}
	return p
}

// part waits until no connection is left, or the moment is over.
func (p *parting) part(ctx context.Context) {
	p.begun.Store(true)
	over := time.After(stopTime / partingShare)
	for tick := time.NewTicker(10 * time.Millisecond); p.open.Load() > 0; {
		select {
		case <-tick.C:
		case <-over:
			return
		case <-ctx.Done():
			return
		}
	}
}
