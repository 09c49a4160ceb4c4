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
	"sync/atomic"
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

// Caller is a verified caller with what was computed for it. One per token, kept by the verifier's cache.
type Caller struct {
	Claims    token.Claims
	Principal string // decision.Principal
	prepared  atomic.Pointer[prepared]
}

// prepared is the caller under one policy set and catalog.
type prepared struct {
	set    *policy.Set
	digest string
	caller *policy.Caller
	view   string // empty: depends on more than the caller
}

// NewCaller is the build function for token.Verifier.
func NewCaller(c token.Claims) (*Caller, error) {
	return &Caller{Claims: c, Principal: decision.Principal(c.Issuer, c.Subject, c.ClientID)}, nil
}

// New makes a server.
func New(cfg Config) *Server {
	s := &Server{cfg: cfg, hosts: newHosts(cfg), anonymous: &Caller{
		Claims: token.Claims{Subject: "anonymous"}, Principal: decision.Principal("", "anonymous", "")}}
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
	if err := s.cfg.Audit.Write(rec); err != nil && out.denial == nil {
		out.denial, out.private = noDecision, err // what is not recorded does not happen
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
			out = outcome{denial: noDecision}
		}
	}()
	return s.decide(r)
}

// decide runs the checks in their order. The first that fails answers.
func (s *Server) decide(r *request) outcome {
	if d := s.hosts.check(r); d != nil {
		return outcome{denial: d}
	}
	if r.method == "OPTIONS" && r.origin != "" {
		return outcome{denial: preflight(r)}
	}
	if doc, ok := s.documents[r.path]; ok {
		return outcome{denial: document(r, doc)}
	}
	if r.path != s.cfg.Endpoint.Path {
		return outcome{denial: notFound}
	}
	if enc := r.header("Content-Encoding"); len(enc) > 0 && !(len(enc) == 1 && strings.EqualFold(enc[0], "identity")) {
		return outcome{denial: refuseRequest(415, mcpwire.CodeInvalidRequest, "encoded_body",
			"Content-Encoding is not supported: send the body as it is")}
	}
	if r.method == "POST" && !isJSON(r.header("Content-Type")) {
		return outcome{denial: refuseRequest(415, mcpwire.CodeInvalidRequest, "content_type", "Content-Type must be application/json")}
	}

	caller, d := s.authenticate(r)
	if d != nil {
		return outcome{denial: d}
	}
	out := outcome{caller: caller}

	msg, perr := mcpwire.Parse(mcpwire.Request{Method: r.method, Header: r.header, Body: r.body})
	out.message = &msg
	if perr != nil {
		out.denial = refuseRequest(perr.Status, perr.Code, "malformed", perr.Text)
		if perr.Status == http.StatusMethodNotAllowed {
			out.denial.headers = []header{{"allow", "GET, POST, DELETE"}} // RFC 9110 section 15.5.6
		}
		return out
	}

	snap := s.cfg.Engine.Snapshot()
	if snap == nil {
		out.denial = notReady
		return out
	}
	p, err := caller.under(snap)
	if err != nil {
		out.denial, out.private = noDecision, err
		return out
	}
	out.snap, out.prepared = snap, p
	if !p.caller.MayBePermitted() {
		out.denial = noRole
		return out
	}
	s.judge(r, &out)
	if out.denial == nil {
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
		out.denial = unknownMethod(msg)
		return
	}
	item := msg.Item != mcpwire.ItemNone
	if !item || msg.Rule.Action != mcpwire.ItemAction(msg.Item) {
		d := snap.Policies.Family(out.prepared.caller, policy.Action(msg.Rule.Action), ctx)
		if !d.Allow {
			out.refused(d, forbiddenFamily(msg))
			return
		}
		if !item {
			out.decided(d)
			return
		}
	}

	entry, starting := snap.Resolve(msg.Item, msg.Name)
	switch {
	case starting:
		out.denial = startingUp
		return
	case entry == nil:
		out.denial = unknownItem(msg, "unknown_item")
		return
	}
	out.target = entry.Target
	d := snap.Policies.Decide(out.prepared.caller, entry.Prepared, msg.Arguments, ctx)
	if !d.Allow {
		out.refused(d, unknownItem(msg, d.Reason))
		return
	}
	// Only now: the answer tells what the item declares.
	if out.denial = misspeltArgument(msg, entry); out.denial == nil {
		out.decided(d)
	}
}

// misspeltArgument refuses an argument that a backend with case-insensitive decoding would read as a declared one
// (HV-14).
func misspeltArgument(msg *mcpwire.Message, entry *engine.Entry) *denial {
	for _, name := range msg.ArgumentNames {
		if _, declared := entry.Prepared.Item.Args[name]; declared {
			continue // in this very spelling; there may be others
		}
		if known, ok := entry.Declared[mcpwire.Fold(name)]; ok {
			return refuseRequest(400, mcpwire.CodeInvalidRequest, "malformed",
				"an argument differs from a declared one only in case: did you mean "+known+"?")
		}
	}
	return nil
}

// authenticate finds who asks, from the one Authorization header.
func (s *Server) authenticate(r *request) (*Caller, *denial) {
	values := r.header("Authorization")
	// Envoy joins two Authorization lines by a comma, which no Bearer token holds.
	if len(values) > 1 || len(values) == 1 && strings.Contains(values[0], ",") {
		return nil, refuseRequest(400, mcpwire.CodeInvalidRequest, "malformed", "more than one Authorization header")
	}
	if s.cfg.Verifier == nil {
		return s.anonymous, nil
	}
	if len(values) == 0 {
		return nil, s.unauthorized("", "no_token", nil)
	}
	scheme, raw, ok := strings.Cut(values[0], " ")
	raw = strings.TrimLeft(raw, " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") || raw == "" {
		return nil, s.unauthorized("", "no_token", nil)
	}
	caller, err := s.cfg.Verifier.Verify(raw)
	switch {
	case errors.Is(err, token.ErrNotReady):
		return nil, notReady
	case err != nil:
		return nil, s.unauthorized("invalid_token", "bad_token", err)
	case s.cfg.Revoked == nil:
		return caller, nil
	}
	if s.cfg.Revoked.Ready() != nil {
		return nil, notReady
	}
	if c := caller.Claims; s.cfg.Revoked.Revoked(revocation.Token{TSID: c.TSID, JTI: c.JTI, Subject: c.Subject, ClientID: c.ClientID, IssuedAt: c.IssuedAt}) {
		return nil, s.unauthorized("invalid_token", "revoked", errors.New("the token was revoked"))
	}
	return caller, nil
}

// under gives the caller's entities for the snapshot, made once and kept.
func (c *Caller) under(snap *engine.Snapshot) (*prepared, error) {
	if p := c.prepared.Load(); p != nil && p.set == snap.Policies && p.digest == snap.Digest {
		return p, nil
	}
	p := &prepared{set: snap.Policies, digest: snap.Digest}
	var err error
	if p.caller, err = snap.Caller(c.Claims.Payload); err != nil {
		return nil, err
	}
	if reads := snap.Policies.Reads(); !reads.ClientIP && !reads.Era {
		p.view = snap.View(p.caller, policy.Context{})
	}
	c.prepared.Store(p)
	return p, nil
}

// now is a variable for tests.
var now = time.Now
