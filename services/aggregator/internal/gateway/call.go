package gateway

import (
	"context"
	"net/http"
	"slices"

	"go.uber.org/zap"

	"vmcp/internal/mcpwire"
	"vmcp/services/aggregator/internal/backend"
)

// call dispatches a request to the sealed target. s is the legacy client's session, nil for a modern one.
func (x *exchange) call(s *session) {
	target := x.d.Target
	if target == nil { // authz seals a target for every message that gets here
		x.error(http.StatusServiceUnavailable, mcpwire.CodeInternal, "the gateway cannot decide: try again", nil)
		return
	}
	to := x.g.cfg.Backends[target.Backend]
	if to == nil {
		x.error(http.StatusServiceUnavailable, mcpwire.CodeInternal, "the server behind this name is not configured: try again", nil)
		return
	}
	if x.msg.Era == mcpwire.EraModern && x.msg.Method == "tools/call" {
		if err := to.CompareParams(target.Name, x.msg.Arguments, x.r.Header); err != nil {
			x.error(http.StatusBadRequest, mcpwire.CodeHeaderMismatch, err.Error(), nil)
			return
		}
	}
	req := backend.Request{Message: x.msg, Name: target.Name, Header: x.passHeaders()}

	ctx := x.r.Context() // of a modern request: closing it is the cancel (HM-8)
	var b *backend.Session
	if s == nil {
		b = to.Session(backend.SessionOptions{Era: mcpwire.EraModern, Key: x.d.Principal})
		defer b.Close()
	} else {
		ctx = context.WithoutCancel(ctx) // a legacy client's disconnect is no cancel (HL-6)
		var fresh bool
		if b, fresh = s.backend(target.Backend); b == nil {
			x.error(http.StatusNotFound, mcpwire.CodeInvalidRequest, "no such session: initialize again", nil)
			return
		}
		if req.LogLevel = s.levelSet(); req.LogLevel != "" && fresh {
			b.Do(ctx, backend.Request{Message: setLevelTo(req.LogLevel)}, func(backend.Message) error { return nil }) // best effort
		}
	}

	out := reply{x: x, s: s, b: b}
	err := b.Do(ctx, req, out.send)
	out.finish(err)
}

// passHeaders are the client's headers that the configuration passes on to backends (passthroughHeaders).
func (x *exchange) passHeaders() http.Header {
	var h http.Header
	for _, name := range x.g.cfg.Aggregator.PassHeaders {
		if v := x.r.Header.Values(name); len(v) > 0 {
			if h == nil {
				h = http.Header{}
			}
			h[http.CanonicalHeaderKey(name)] = slices.Clone(v)
		}
	}
	return h
}

// reply carries a backend's messages to the client: a lone response as JSON, anything more as an event stream (HT-4).
type reply struct {
	x    *exchange
	s    *session
	b    *backend.Session
	sse  *eventWriter
	done bool
	lost bool // the legacy client is gone; the call goes on
}

// send is the sink of backend.Session.Do.
func (r *reply) send(m backend.Message) error {
	raw := m.Raw
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
	if r.lost {
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
	if r.done || err == nil {
		return
	}
	x := r.x
	x.g.cfg.Log.Warn("call failed", zap.String("request", x.d.RequestId), zap.String("backend", x.d.Target.Backend),
		zap.String("method", x.msg.Method), zap.String("name", x.d.Target.Name), zap.Error(err))
	text := backend.ClientText(err)
	if r.sse != nil {
		r.sse.write(mcpwire.AppendError(nil, x.msg.ID, mcpwire.CodeInternal, text, nil))
		return
	}
	x.error(http.StatusOK, mcpwire.CodeInternal, text, nil)
}
