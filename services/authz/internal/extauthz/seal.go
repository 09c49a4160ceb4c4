package extauthz

import (
	"crypto/sha256"

	"vmcp/internal/decision"
	"vmcp/internal/mcpwire"
	gatewayv1 "vmcp/proto/gateway/v1"
	"vmcp/services/authz/internal/engine"
)

// seal states the decision for the aggregator.
func (s *Server) seal(r *request, o *outcome) {
	m := o.message
	session, ok := r.sessionID()
	if !ok {
		o.answer = refuseRequest(400, mcpwire.CodeInvalidRequest, "malformed", "more than one Mcp-Session-Id header")
		return
	}
	sum := sha256.Sum256(r.body)
	d := &gatewayv1.Decision{
		IssuedAtMs:     now().UnixMilli(),
		VirtualServer:  s.cfg.VirtualServer,
		HttpMethod:     r.method,
		Era:            uint32(m.Era),
		Kind:           uint32(m.Kind),
		RpcMethod:      m.Method,
		Name:           m.Name,
		Target:         o.target,
		BodySha256:     sum[:],
		SessionId:      session,
		TokenPayload:   o.caller.Claims.Payload,
		Principal:      o.caller.Principal,
		ClientIp:       r.clientIP,
		PolicyRevision: o.snap.Policies.Revision(),
		CatalogDigest:  o.snap.Digest,
		View:           o.prepared.View(engine.Context(r.clientIP, m.Era)),
		RequestId:      r.id,
	}
	if !o.caller.Claims.Expiry.IsZero() {
		d.ExpiresAt = o.caller.Claims.Expiry.Unix()
	}
	sealed, err := decision.Seal(s.cfg.Keys, d)
	if err != nil {
		o.answer, o.private = noDecision, err
		return
	}
	if len(sealed) > decision.MaxHeader { // a method, session id or URI of many kilobytes
		o.answer = refuseRequest(400, mcpwire.CodeInvalidRequest, "malformed", "the names in this request are too long")
		return
	}
	o.seal = sealed
}
