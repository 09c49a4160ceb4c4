package gateway

import (
	"net/http"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"vmcp/internal/mcpwire"
	"vmcp/services/aggregator/internal/backend"
)

// reply carries a backend's messages to the client: a lone response as JSON, anything more as an event stream (HT-4).
type reply struct {
	x *exchange
	s *session
	b *backend.Session

	mu    sync.Mutex  // quiet's function writes too
	quiet *time.Timer // since something was sent
	sse   *eventWriter
	done  bool // the response was sent, or nothing more may be
	lost  bool // the client is gone; a legacy one's call goes on
}

func newReply(x *exchange, s *session, b *backend.Session) *reply {
	r := &reply{x: x, s: s, b: b}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.quiet = time.AfterFunc(keepAlive, r.alive)
	return r
}

// alive shows a client, and whoever is between, that the call goes on (HT-8). That begins the event stream: from now on
// an error has no HTTP status of its own.
func (r *reply) alive() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done || r.lost {
		return
	}
	if r.sse == nil {
		if !strings.Contains(strings.Join(r.x.r.Header["Accept"], ","), "text/event-stream") {
			return
		}
		r.sse = r.x.events()
	}
	if r.sse.comment() != nil {
		r.lost = true
		return
	}
	r.quiet.Reset(keepAlive)
}

// send is the sink of backend.Session.Do.
func (r *reply) send(m backend.Message) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.quiet.Reset(keepAlive)
	raw := m.Raw
	if m.Method == "notifications/cancelled" {
		if r.s == nil { // who was asked nothing
			return nil
		}
		parsed, err := mcpwire.ParseReply(raw)
		if err != nil {
			return err
		}
		if raw = r.s.withdraw(r.b, parsed); raw == nil {
			return nil
		}
	}
	if m.Kind == mcpwire.KindRequest {
		if r.s == nil {
			return nil // Do answers these itself for modern clients
		}
		if r.lost || r.x.r.Context().Err() != nil { // nobody is there to answer
			r.s.decline(r.b, m.From, m.ID)
			return nil
		}
		parsed, err := mcpwire.ParseReply(raw)
		if err != nil {
			return err
		}
		id := r.s.ask(r.b, m.From, m.ID)
		raw = mcpwire.Splice(raw, mcpwire.Edit{Start: parsed.IDSpan.Start, End: parsed.IDSpan.End, With: id})
	}
	if m.Kind == mcpwire.KindResponse && r.sse == nil {
		r.done = true
		status := http.StatusOK
		if m.Status != 0 && r.x.msg.Era == mcpwire.EraModern {
			status = m.Status
		}
		r.x.writeJSON(status, raw)
		return nil
	}
	if r.sse == nil {
		r.sse = r.x.events()
	}
	r.done = r.done || m.Kind == mcpwire.KindResponse
	if r.lost && r.s != nil {
		return nil
	}
	if err := r.sse.write(raw); err != nil {
		if r.s == nil {
			return err
		}
		r.lost = true
	}
	return nil
}

// finish answers a call that got no response.
func (r *reply) finish(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.quiet.Stop()
	answered := r.done
	r.done = true // the writer is nobody's any more
	if answered || err == nil {
		return
	}
	x := r.x
	x.g.cfg.Log.Warn("call failed", zap.String("request", x.d.RequestId), zap.String("backend", x.d.Target.Backend),
		zap.String("method", x.msg.Method), zap.String("name", x.d.Target.Name), zap.Error(err))
	text := backend.ClientText(err)
	if r.lost {
		return
	}
	if r.sse != nil {
		r.sse.write(mcpwire.AppendError(nil, x.msg.ID, mcpwire.CodeInternal, text, nil))
		return
	}
	x.error(http.StatusOK, mcpwire.CodeInternal, text, nil)
}
