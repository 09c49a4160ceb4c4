package gateway

import (
	"bytes"
	"context"
	"net/http"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"vmcp/internal/decision"
	"vmcp/internal/mcpwire"
	gatewayv1 "vmcp/proto/gateway/v1"
	"vmcp/services/aggregator/internal/catalog"
)

// keepAlive is the pause between signs of life on a stream, and between looks at whether the caller may go on.
// Envoy's stream_idle_timeout is longer.
var keepAlive = 15 * time.Second

// maxStreams are the open streams of one principal, GET and listen together (SU-7).
const maxStreams = 200

// eventWriter writes server-sent events.
type eventWriter struct{ w http.ResponseWriter }

// events begins an event stream (HT-8).
func (x *exchange) events() *eventWriter {
	h := x.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Accel-Buffering", "no")
	x.w.WriteHeader(http.StatusOK)
	return &eventWriter{x.w}
}

// write sends one message. Line breaks inside JSON are white space; each line is a data field of its own.
func (e *eventWriter) write(msg []byte) error {
	b := make([]byte, 0, len(msg)+32)
	b = append(b, "event: message\n"...)
	for line := range bytes.Lines(bytes.ReplaceAll(msg, []byte("\r"), []byte(" "))) {
		b = append(b, "data: "...)
		b = append(b, bytes.TrimSuffix(line, []byte("\n"))...)
		b = append(b, '\n')
	}
	return send(e.w, append(b, '\n'))
}

func (e *eventWriter) comment() error { return send(e.w, []byte(": keep-alive\n\n")) }

// announced are the kinds whose changed lists clients are told of. Templates are resources to them.
var announced = []mcpwire.ItemKind{mcpwire.ItemTool, mcpwire.ItemPrompt, mcpwire.ItemResource}

// follower is what a GET stream and a listen have in common: it tells of changed lists, shows life, and ends when the
// caller may not go on.
type follower struct {
	x        *exchange
	out      *eventWriter
	want     []mcpwire.ItemKind // whose changes are told
	note     func(method string) []byte
	*letters // further messages; may be nil
	gone     <-chan struct{}
}

// run follows until the client goes, the token expires or is refused, or the gateway stops. It reports whether the
// client is still there to be told of the end.
func (f *follower) run() bool {
	x := f.x
	var expired <-chan time.Time
	if x.d.ExpiresAt != 0 {
		t := time.NewTimer(time.Until(time.Unix(x.d.ExpiresAt, 0)))
		defer t.Stop()
		expired = t.C
	}
	tick := time.NewTicker(keepAlive)
	defer tick.Stop()
	known, changed := x.g.cfg.Inventory.Next()
	revision := x.d.PolicyRevision
	var box <-chan []byte
	if f.letters != nil {
		box = f.box
	}
	for {
		var err error
		select {
		case <-x.r.Context().Done():
			return false
		case <-expired:
			return true
		case <-x.g.stopping:
			return true
		case <-f.gone:
			return true
		case msg := <-box:
			f.taken(msg)
			kind, name := subject(msg)
			allowed, ok := f.deliverable(kind, name)
			if !ok {
				return true
			}
			if allowed {
				err = f.out.write(msg)
			}
		case <-changed:
			var now *catalog.Catalog
			now, changed = x.g.cfg.Inventory.Next()
			if _, ok := f.permitted(); !ok {
				return true
			}
			for _, k := range f.want {
				if err == nil && catalog.Differ(known, now, k) {
					err = f.out.write(f.note(k.ListChanged()))
				}
			}
			known = now
		case <-tick.C:
			fresh, ok := f.permitted()
			if !ok {
				return true
			}
			// Other policies are other lists, whatever the catalog; the roles are the token's, and do not change.
			if fresh != revision && fresh != "" {
				for _, k := range f.want {
					if err == nil {
						err = f.out.write(f.note(k.ListChanged()))
					}
				}
				revision = fresh
			}
			if err == nil {
				err = f.out.comment()
			}
		}
		if err != nil {
			return false
		}
	}
}

// permitted asks authz whether the caller's token still stands; the answer also tells by which policies. An authz that
// is away says nothing: the stream stays, and its token ends it.
func (f *follower) permitted() (revision string, ok bool) {
	resp, err := f.ask(mcpwire.ItemNone, "")
	switch status.Code(err) {
	case codes.OK:
		return resp.PolicyRevision, true
	case codes.Unauthenticated, codes.PermissionDenied:
		return "", false
	}
	return "", true
}

// deliverable asks authz whether a message may reach the caller: one about an item only if the caller may use that. What
// authz does not answer for is not delivered. ok is false where the stream must end.
func (f *follower) deliverable(kind mcpwire.ItemKind, name string) (allowed, ok bool) {
	resp, err := f.ask(kind, name)
	switch status.Code(err) {
	case codes.OK:
		return kind == mcpwire.ItemNone || len(resp.Indexes) == 1, true
	case codes.Unauthenticated, codes.PermissionDenied:
		return false, false
	}
	return false, true
}

// ask asks about an item, or about the token alone where there is none.
func (f *follower) ask(kind mcpwire.ItemKind, name string) (*gatewayv1.PermittedResponse, error) {
	ctx, cancel := context.WithTimeout(f.x.r.Context(), decisionTime)
	defer cancel()
	if kind == mcpwire.ItemNone {
		return f.x.g.cfg.Permissions.Permitted(ctx, &gatewayv1.PermittedRequest{Seal: f.x.seal, Kind: gatewayv1.ItemKind_ITEM_KIND_TOKEN})
	}
	return f.x.permitted(ctx, f.x.g.cfg.Inventory.Catalog(), kind, name)
}

// subject is the item that a backend's message is about, if any.
func subject(msg []byte) (mcpwire.ItemKind, string) {
	m, err := mcpwire.ParseReply(msg)
	if err == nil && m.Method == "notifications/resources/updated" {
		if params, ok := m.Params(); ok {
			uri, _ := params.String("uri")
			return mcpwire.ItemResource, uri
		}
	}
	return mcpwire.ItemNone, ""
}

// mayFollow counts the streams of a caller, each of which costs memory and questions to authz. False: answered already.
func (x *exchange) mayFollow() (leave func(), ok bool) {
	g, who := x.g, x.d.Principal
	if who == decision.Anonymous { // Envoy's bounds are all that is left
		return func() {}, true
	}
	g.following.Lock()
	defer g.following.Unlock()
	if g.streams[who] >= maxStreams {
		x.error(http.StatusTooManyRequests, mcpwire.CodeInternal, "too many streams are open: close others first", nil)
		return nil, false
	}
	g.streams[who]++
	return func() {
		g.following.Lock()
		defer g.following.Unlock()
		if g.streams[who]--; g.streams[who] == 0 {
			delete(g.streams, who)
		}
	}, true
}

// stream is a legacy client's GET. Of two streams of one session the newer one gets the messages.
func (x *exchange) stream(s *session) {
	done, ok := x.mayFollow()
	if !ok {
		return
	}
	defer done()
	o, ok := s.follow()
	if !ok {
		x.error(http.StatusNotFound, mcpwire.CodeInvalidRequest, "no such session: initialize again", nil)
		return
	}
	defer s.leave(o)
	f := follower{x: x, out: x.events(), letters: o.letters, gone: o.gone,
		want: announced,
		note: func(method string) []byte {
			return []byte(`{"jsonrpc":"2.0","method":"` + method + `"}`)
		}}
	if f.out.comment() == nil { // the client sees at once that the stream is open
		f.run()
	}
}
