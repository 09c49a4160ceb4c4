// Package gateway is the MCP endpoint that clients see, in both protocol eras. It owns the way of a request through the
// aggregator: unseal, parse, compare, then answer from the catalog or dispatch to the sealed target; and with it client
// sessions, streams and filtered lists.
//
// It never resolves the name of a call: authz did, and the seal says where the call goes. How to speak to a backend is
// the backend package's.
package gateway

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"vmcp/internal/decision"
	"vmcp/internal/keyring"
	"vmcp/internal/mcpwire"
	gatewayv1 "vmcp/proto/gateway/v1"
	"vmcp/services/aggregator/internal/fleet"
	"vmcp/services/aggregator/internal/inventory"
)

// MaxBody is the largest request body, the limit of deploy/envoy/envoy.yaml.
const MaxBody = 4 << 20

// Config is what a Gateway is made of.
type Config struct {
	VirtualServer string
	Fleet         Fleet
	SealKeys      *keyring.Ring // authz's seal
	SessionKeys   *keyring.Ring // our own session ids and cursors
	Permissions   gatewayv1.PermissionsClient
	Inventory     *inventory.Inventory
	Log           *zap.Logger
}

// Fleet says which backends there are: a fleet.Fleet.
type Fleet interface {
	State() *fleet.State
	Next() (*fleet.State, <-chan struct{})
}

// Gateway is the endpoint. Safe for concurrent use.
type Gateway struct {
	cfg      Config
	sessions *sessions
	lists    *lists
	stopping chan struct{} // closed by Stop: streams end
	stopped  atomic.Bool

	following sync.Mutex
	streams   map[string]int // open ones, by principal
}

// New makes a gateway.
func New(cfg Config) *Gateway {
	g := &Gateway{cfg: cfg, stopping: make(chan struct{}), streams: map[string]int{}}
	g.sessions = newSessions(cfg.SessionKeys, cfg.Fleet)
	g.lists = newLists(cfg.Permissions)
	return g
}

// Stop ends open streams, so that the HTTP server can shut down.
func (g *Gateway) Stop() {
	if !g.stopped.Swap(true) {
		close(g.stopping)
	}
}

// exchange is one verified request.
type exchange struct {
	g            *Gateway
	w            http.ResponseWriter
	r            *http.Request
	seal         string // as received, the proof in Permitted
	d            *gatewayv1.Decision
	msg          *mcpwire.Message
	*fleet.State // in force when the request was verified
}

// ServeHTTP serves one request that Envoy let through.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := exchange{g: g, w: w, r: r}
	if !x.verify() {
		return
	}
	x.State = g.cfg.Fleet.State()
	if x.msg.Era == mcpwire.EraModern {
		x.modern()
	} else {
		x.legacy()
	}
}

// verify unseals the decision, parses the same bytes as authz did, and compares. False: answered already.
func (x *exchange) verify() bool {
	seals := x.r.Header[decision.Header]
	if len(seals) != 1 {
		x.refuse(http.StatusForbidden, "no seal", nil)
		return false
	}
	x.seal = seals[0]
	d, err := decision.Open(x.g.cfg.SealKeys, x.seal)
	if err != nil {
		x.refuse(http.StatusForbidden, "bad seal", err)
		return false
	}
	body, err := readBody(x.r)
	if err != nil {
		x.refuse(http.StatusBadRequest, "body", err)
		return false
	}
	msg, perr := mcpwire.Parse(mcpwire.Request{Method: x.r.Method, Header: x.r.Header.Values, Body: body})
	if perr != nil { // authz refuses what does not parse: this is not what it saw
		x.refuse(http.StatusForbidden, "does not parse", perr)
		return false
	}
	x.d, x.msg = d, &msg
	err = decision.Verify(d, decision.Received{
		VirtualServer: x.g.cfg.VirtualServer,
		HTTPMethod:    x.r.Method,
		SessionID:     x.r.Header.Get("Mcp-Session-Id"),
		Message:       &msg,
		Now:           time.Now(),
	})
	switch {
	case errors.Is(err, decision.ErrStale):
		x.refuse(http.StatusServiceUnavailable, "stale", err)
		return false
	case err != nil:
		x.refuse(http.StatusForbidden, "mismatch", err)
		return false
	}
	return true
}

// refuse answers a request that did not come the one way: constant outside, the reason in the log.
func (x *exchange) refuse(status int, reason string, err error) {
	x.g.cfg.Log.Warn("request refused", zap.String("reason", reason), zap.Error(err), zap.String("remote", x.r.RemoteAddr))
	text := "not allowed"
	if status == http.StatusServiceUnavailable {
		text = "try again"
	}
	x.writeJSON(status, mcpwire.AppendError(nil, nil, mcpwire.CodeInternal, text, nil))
}

// readBody reads the whole body in one allocation where its length is known.
func readBody(r *http.Request) ([]byte, error) {
	if r.ContentLength == 0 {
		return nil, nil
	}
	if r.ContentLength > MaxBody {
		return nil, errors.New("body over the limit")
	}
	if r.ContentLength > 0 {
		b := make([]byte, r.ContentLength)
		_, err := io.ReadFull(r.Body, b)
		return b, err
	}
	b, err := io.ReadAll(io.LimitReader(r.Body, MaxBody+1))
	if err == nil && len(b) > MaxBody {
		err = errors.New("body over the limit")
	}
	return b, err
}

// modern serves a 2026-07-28 request, which stands alone.
func (x *exchange) modern() {
	m := x.msg
	switch {
	case m.Kind == mcpwire.KindStream, m.Kind == mcpwire.KindEnd:
		x.w.Header().Set("Allow", "POST")
		x.w.WriteHeader(http.StatusMethodNotAllowed)
	case m.Kind == mcpwire.KindNotification: // HM-13: the core has none over HTTP
		x.w.WriteHeader(http.StatusAccepted)
	case m.VersionUnsupported:
		x.unsupportedVersion()
	case m.Rule == nil:
		x.error(http.StatusNotFound, mcpwire.CodeMethodNotFound, "method not found", nil)
	case m.Method == "server/discover":
		x.result(x.discover())
	case m.Method == "subscriptions/listen":
		x.listen()
	case m.Rule.List != mcpwire.ItemNone:
		x.list(m.Rule.List)
	default:
		x.call(nil)
	}
}

// legacy serves a request of 2025-06-18 or 2025-11-25, which belongs to a session.
func (x *exchange) legacy() {
	m := x.msg
	if m.Method == "initialize" && m.Kind == mcpwire.KindRequest {
		x.initialize()
		return
	}
	s, ok := x.session()
	if !ok {
		return
	}
	defer s.release()
	switch {
	case m.Kind == mcpwire.KindStream:
		x.stream(s)
	case m.Kind == mcpwire.KindEnd:
		x.g.sessions.end(s)
		x.w.WriteHeader(http.StatusNoContent)
	case m.Kind == mcpwire.KindNotification:
		s.notified(x.r.Context(), m)
		x.w.WriteHeader(http.StatusAccepted)
	case m.Kind == mcpwire.KindResponse:
		s.responded(x.r.Context(), m, x.g.cfg.Log)
		x.w.WriteHeader(http.StatusAccepted)
	case m.Rule == nil:
		x.error(http.StatusOK, mcpwire.CodeMethodNotFound, "method not found", nil)
	case m.Method == "ping":
		x.result([]byte("{}"))
	case m.Method == "logging/setLevel":
		x.setLevel(s)
	case m.Rule.List != mcpwire.ItemNone:
		x.list(m.Rule.List)
	default:
		x.call(s)
	}
}

// session finds the session that the request names (HL-2, HL-3, HL-9). False: answered already.
func (x *exchange) session() (*session, bool) {
	id := x.d.SessionId
	if id == "" {
		x.error(http.StatusBadRequest, mcpwire.CodeInvalidRequest, "Mcp-Session-Id is missing: initialize first", nil)
		return nil, false
	}
	s := x.g.sessions.find(id, x.d.Principal)
	if s == nil {
		x.error(http.StatusNotFound, mcpwire.CodeInvalidRequest, "no such session: initialize again", nil)
		return nil, false
	}
	if v := x.msg.Version; v != "" && v != s.version {
		s.release()
		x.error(http.StatusBadRequest, mcpwire.CodeInvalidRequest, "MCP-Protocol-Version is not the session's", nil)
		return nil, false
	}
	return s, true
}
