package gateway

import (
	"context"
	"net/http"
	"slices"

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
	to := x.Backends[target.Backend]
	if to == nil {
		x.notConfigured()
		return
	}
	if x.msg.Era == mcpwire.EraModern && x.msg.Method == "tools/call" {
		if err := to.CompareParams(target.Name, x.msg.Arguments, x.r.Header); err != nil {
			x.error(http.StatusBadRequest, mcpwire.CodeHeaderMismatch, err.Error(), nil)
			return
		}
	}
	req := backend.Request{Message: x.msg, Name: target.Name, Header: x.passHeaders(), State: stateSeal{x}, Again: x.mayAgain}

	ctx := x.r.Context() // of a modern request: closing it is the cancel (HM-8)
	var b *backend.Session
	if s == nil {
		b = to.Session(backend.SessionOptions{Era: mcpwire.EraModern, Key: x.d.Principal})
		defer b.Close()
	} else {
		ctx = context.WithoutCancel(ctx) // a legacy client's disconnect is no cancel (HL-6)
		var ended bool
		b, ended = s.backend(target.Backend)
		switch {
		case ended:
			x.error(http.StatusNotFound, mcpwire.CodeInvalidRequest, "no such session: initialize again", nil)
			return
		case b == nil: // it was taken out in this moment
			x.notConfigured()
			return
		}
		req.LogLevel = s.levelSet()
	}

	out := newReply(x, s, b)
	err := b.Do(ctx, req, out.send)
	out.finish(err)
}

func (x *exchange) notConfigured() {
	x.error(http.StatusServiceUnavailable, mcpwire.CodeInternal, "the server behind this name is not configured: try again", nil)
}

// passHeaders are the client's headers that the configuration passes on to backends (passthroughHeaders).
func (x *exchange) passHeaders() http.Header {
	var h http.Header
	for _, name := range x.Aggregator.PassHeaders {
		if v := x.r.Header.Values(name); len(v) > 0 {
			if h == nil {
				h = http.Header{}
			}
			h[http.CanonicalHeaderKey(name)] = slices.Clone(v)
		}
	}
	return h
}
