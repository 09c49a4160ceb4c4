// Package extauthz answers Envoy's question about each request: allowed, with a sealed decision, or denied, with an
// answer that an MCP client understands. It owns the order of the checks and everything a client is told; what the
// message says is mcpwire's, who the caller is token's, what the policies say engine's and policy's.
package extauthz

import (
	"context"
	"errors"
	"mime"
	"net/http"
	"strings"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"go.uber.org/zap"

	"vmcp/internal/decision"
	"vmcp/internal/gatewayconfig"
	"vmcp/internal/keyring"
	"vmcp/internal/mcpwire"
	"vmcp/internal/policy"
	"vmcp/internal/token"
	"vmcp/services/authz/internal/audit"
	"vmcp/services/authz/internal/engine"
	"vmcp/services/authz/internal/revocation"
)

// Config is what a Server is made of.
type Config struct {
	VirtualServer string
	Endpoint      gatewayconfig.Endpoint
	Issuer        string // the authorization server that the metadata document names; empty for anonymous
	// Loopback: the client listener is on a loopback address with this port, so loopback hosts and origins are ours.
	// Zero: it is not.
	Loopback int

	Engine   *engine.Engine
	Keys     *keyring.Ring
	Verifier *token.Verifier[*Caller] // nil: anonymous
	Revoked  *revocation.List         // nil: the issuer tells us of no revocations
	Audit    *audit.Log
	Log      *zap.Logger
}

// Server implements envoy.service.auth.v3.Authorization.
type Server struct {
	authv3.UnimplementedAuthorizationServer
	cfg       Config
	hosts     hosts
	documents map[string][]byte // metadata documents by path
	challenge string            // WWW-Authenticate without an error
	anonymous *Caller
}

// New makes a server.
func New(cfg Config) *Server {
	s := &Server{cfg: cfg, hosts: newHosts(cfg), anonymous: &Caller{
		Claims: token.Claims{Subject: "anonymous"}, Principal: decision.Anonymous}}
	s.documents, s.challenge = metadata(cfg.Endpoint, cfg.Issuer)
	return s
}

// Ready says why no request can be decided now; nil when it can.
func (s *Server) Ready() error {
	if s.cfg.Engine.Snapshot() == nil {
		return errors.New("no policies or no catalog yet")
	}
	if s.cfg.Revoked != nil {
		if err := s.cfg.Revoked.Ready(); err != nil {
			return err
		}
	}
	if s.cfg.Verifier != nil {
		return s.cfg.Verifier.Ready()
	}
	return nil
}

// Check decides about one request. It always answers: an error would be Envoy's to interpret.
func (s *Server) Check(_ context.Context, req *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	r := readRequest(req)
	out := s.decideSafely(&r)
	rec := out.record(&r)
	if err := s.cfg.Audit.Write(rec); err != nil && out.answer == nil {
		out.answer, out.private = noDecision, err // what is not recorded does not happen
		rec = out.record(&r)
	}
	return out.response(&r, &rec), nil
}

// decideSafely turns a panic over one request into a denial of that request: gRPC recovers nothing, and one hostile
// message must not end authz for everybody.
func (s *Server) decideSafely(r *request) (out outcome) {
	defer func() {
		if p := recover(); p != nil {
			s.cfg.Log.Error("panic while deciding", zap.String("request", r.id), zap.Any("panic", p), zap.Stack("stack"))
			out = outcome{answer: noDecision}
		}
	}()
	return s.decide(r)
}

// decide runs the checks in their order. The first that fails answers.
func (s *Server) decide(r *request) outcome {
	if d := s.hosts.check(r); d != nil {
		return outcome{answer: d}
	}
	if r.method == "OPTIONS" && r.origin != "" {
		return outcome{answer: preflight(r)}
	}
	if doc, ok := s.documents[r.path]; ok {
		return outcome{answer: document(r, doc)}
	}
	if r.path != s.cfg.Endpoint.Path {
		return outcome{answer: notFound}
	}
	if enc := r.header("Content-Encoding"); len(enc) > 0 && !(len(enc) == 1 && strings.EqualFold(enc[0], "identity")) {
		return outcome{answer: refuseRequest(415, mcpwire.CodeInvalidRequest, "encoded_body",
			"Content-Encoding is not supported: send the body as it is")}
	}
	if r.method == "POST" && !isJSON(r.header("Content-Type")) {
		return outcome{answer: refuseRequest(415, mcpwire.CodeInvalidRequest, "content_type", "Content-Type must be application/json")}
	}

	caller, d := s.authenticate(r)
	if d != nil {
		return outcome{answer: d}
	}
	out := outcome{caller: caller}

	msg, perr := mcpwire.Parse(mcpwire.Request{Method: r.method, Header: r.header, Body: r.body})
	out.message = &msg
	if perr != nil {
		out.answer = refuseRequest(perr.Status, perr.Code, "malformed", perr.Text)
		if perr.Status == http.StatusMethodNotAllowed {
			out.answer.headers = []header{{"allow", "GET, POST, DELETE"}} // RFC 9110 section 15.5.6
		}
		return out
	}

	snap := s.cfg.Engine.Snapshot()
	if snap == nil {
		out.answer = notReady
		return out
	}
	p, err := snap.Caller(caller.Claims.Payload)
	if err != nil {
		out.answer, out.private = noDecision, err
		return out
	}
	out.snap, out.prepared = snap, p
	if !p.MayBePermitted() {
		out.answer = noRole
		return out
	}
	s.judge(r, &out)
	if out.answer == nil {
		s.seal(r, &out)
	}
	return out
}

// isJSON: no Content-Type, or one, JSON in UTF-8. Under another, somebody behind could read the bytes differently, and a
// browser would send it to any site without asking first (Fetch, CORS-safelisted request headers).
func isJSON(values []string) bool {
	if len(values) == 0 || len(values) == 1 && values[0] == "application/json" {
		return true
	}
	if len(values) > 1 {
		return false
	}
	mediaType, params, err := mime.ParseMediaType(values[0])
	charset, given := params["charset"]
	return err == nil && mediaType == "application/json" && (!given || strings.EqualFold(charset, "utf-8"))
}

// judge is the decision table (docs/architecture.md#what-is-decided).
func (s *Server) judge(r *request, out *outcome) {
	msg, snap := out.message, out.snap
	ctx := engine.Context(r.clientIP, msg.Era)
	switch {
	case msg.VersionUnsupported: // the aggregator answers -32022
		out.decided(policy.Decision{Allow: true, Reason: "unsupported_version"})
		return
	case msg.Rule == nil:
		out.answer = unknownMethod(msg)
		return
	}
	item := msg.Item != mcpwire.ItemNone
	if !item || msg.Rule.Action != mcpwire.ItemAction(msg.Item) {
		d := snap.Policies.Family(out.prepared.Caller, policy.Action(msg.Rule.Action), ctx)
		if !d.Allow {
			out.refused(d, forbiddenFamily(msg))
			return
		}
		if !item {
			out.decided(d)
			return
		}
	}

	entry, absence := snap.Resolve(msg.Item, msg.Name)
	switch {
	case absence == engine.Starting:
		out.answer = startingUp
		return
	case absence == engine.Failed:
		out.answer = notAvailable
		return
	case entry == nil:
		out.answer = unknownItem(msg, "unknown_item")
		return
	}
	out.target, out.definition = entry.Target, entry.Definition
	d := snap.Policies.Decide(out.prepared.Caller, entry.Prepared, msg.Arguments, ctx)
	if !d.Allow {
		out.refused(d, unknownItem(msg, d.Reason))
		return
	}
	// Only now: the answer tells what the item declares.
	if out.answer = misspeltArgument(msg, entry); out.answer == nil {
		out.decided(d)
	}
}

// misspeltArgument refuses an argument that a backend with case-insensitive decoding would read as a declared one
// (HV-14).
func misspeltArgument(msg *mcpwire.Message, entry *engine.Entry) *answer {
	for _, name := range msg.ArgumentNames {
		if entry.Declared[name] == name {
			continue // in this very spelling; there may be others
		}
		if known, ok := entry.Declared[mcpwire.Fold(name)]; ok {
			return refuseRequest(400, mcpwire.CodeInvalidRequest, "malformed",
				"an argument differs from a declared one only in case: did you mean "+known+"?")
		}
	}
	return nil
}

// now is a variable for tests.
var now = time.Now
