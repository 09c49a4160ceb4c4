package extauthz

import (
	"crypto/sha256"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/structpb"

	"vmcp/internal/decision"
	"vmcp/internal/mcpwire"
	"vmcp/internal/policy"
	gatewayv1 "vmcp/proto/gateway/v1"
	"vmcp/services/authz/internal/audit"
	"vmcp/services/authz/internal/engine"
)

// outcome is what was found out about a request. The zero outcome denies: it has no seal.
type outcome struct {
	denial   *denial
	caller   *Caller
	message  *mcpwire.Message
	snap     *engine.Snapshot
	prepared *prepared
	target   *gatewayv1.Target
	policies []string
	reason   string
	private  error
	seal     string
}

func (o *outcome) decided(d policy.Decision) {
	o.policies, o.reason = d.Policies, d.Reason
}

func (o *outcome) refused(d policy.Decision, answer *denial) {
	o.policies, o.private, o.denial = d.Policies, d.Err, answer
}

// seal states the decision for the aggregator.
func (s *Server) seal(r *request, o *outcome) {
	m := o.message
	session, ok := r.sessionID()
	if !ok {
		o.denial = refuseRequest(400, mcpwire.CodeInvalidRequest, "malformed", "more than one Mcp-Session-Id header")
		return
	}
	view := o.prepared.view
	if view == "" {
		view = o.snap.View(o.prepared.caller, engine.Context(r.clientIP, m.Era))
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
		View:           view,
		RequestId:      r.id,
	}
	if !o.caller.Claims.Expiry.IsZero() {
		d.ExpiresAt = o.caller.Claims.Expiry.Unix()
	}
	sealed, err := decision.Seal(s.cfg.Keys, d)
	if err != nil {
		o.denial, o.private = noDecision, err
		return
	}
	if len(sealed) > decision.MaxHeader { // a method, session id or URI of many kilobytes
		o.denial = refuseRequest(400, mcpwire.CodeInvalidRequest, "malformed", "the names in this request are too long")
		return
	}
	o.seal = sealed
}

// response renders the outcome for Envoy.
func (o *outcome) response(r *request, rec *audit.Record) *authv3.CheckResponse {
	resp := &authv3.CheckResponse{DynamicMetadata: logged(rec)}
	if o.denial == nil && o.seal != "" {
		ok := &authv3.OkHttpResponse{
			Headers: []*corev3.HeaderValueOption{
				overwrite(strings.ToLower(decision.Header), o.seal),
				overwrite(strings.ToLower(decision.PrincipalHeader), o.caller.Principal),
			},
			HeadersToRemove: []string{"authorization"},
		}
		for _, h := range cors(r) {
			ok.ResponseHeadersToAdd = append(ok.ResponseHeadersToAdd, overwrite(h.name, h.value))
		}
		resp.Status = &rpcstatus.Status{Code: int32(codes.OK)}
		resp.HttpResponse = &authv3.CheckResponse_OkResponse{OkResponse: ok}
		return resp
	}
	d := o.denial
	if d == nil {
		d = noDecision
	}
	out := &authv3.DeniedHttpResponse{Status: &typev3.HttpStatus{Code: typev3.StatusCode(d.status)}}
	body := d.body
	if d.code != 0 {
		var id mcpwire.RawID
		if o.message != nil && o.message.Kind != mcpwire.KindResponse { // its id is of our request, not of one of the client's
			id = o.message.ID
		}
		body = mcpwire.AppendError(nil, id, d.code, d.text, nil)
	}
	if len(body) > 0 {
		out.Headers = append(out.Headers, overwrite("content-type", "application/json"))
		out.Body = string(body)
	}
	for _, h := range d.headers {
		out.Headers = append(out.Headers, overwrite(h.name, h.value))
	}
	for _, h := range cors(r) {
		out.Headers = append(out.Headers, overwrite(h.name, h.value))
	}
	resp.Status = &rpcstatus.Status{Code: int32(codes.PermissionDenied)}
	resp.HttpResponse = &authv3.CheckResponse_DeniedResponse{DeniedResponse: out}
	return resp
}

// cors are the response headers that let an allowed browser origin read the answer.
func cors(r *request) []header {
	if r.origin == "" {
		return nil
	}
	return []header{
		{"access-control-allow-origin", r.origin},
		{"access-control-expose-headers", "mcp-session-id, mcp-protocol-version, www-authenticate"},
		{"vary", "origin"},
	}
}

func overwrite(name, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: name, Value: value},
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}

// logged is for Envoy's access log, under the filter's name. Envoy knows an answer of ours by decision. Why it was
// decided so stands in the audit trail, under the same request id.
func logged(rec *audit.Record) *structpb.Struct {
	fields := map[string]*structpb.Value{
		"decision": structpb.NewStringValue(rec.Decision),
		"reason":   structpb.NewStringValue(rec.Reason),
	}
	for _, f := range [...]struct{ name, value string }{
		{"caller", rec.Caller}, {"method", rec.Method}, {"name", rec.Name}, {"backend", rec.Backend},
	} {
		if f.value != "" {
			fields[f.name] = structpb.NewStringValue(f.value)
		}
	}
	return &structpb.Struct{Fields: fields}
}

// clip bounds what a client wrote: a denied name may be as long as a body.
func clip(s string) string {
	const most = 1 << 10
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// record is the outcome for the audit trail.
func (o *outcome) record(r *request) audit.Record {
	rec := audit.Record{
		Time: now(), Request: r.id, ClientIP: r.clientIP, HTTPMethod: r.method,
		Decision: "deny", Reason: o.reason, Policies: o.policies,
	}
	if o.denial == nil && o.seal != "" {
		rec.Decision = "allow"
	} else if o.denial != nil {
		rec.Reason = o.denial.reason
		if o.denial.status < 300 && o.denial.code == 0 {
			rec.Decision = "answer" // preflight, metadata: nothing was decided
		}
		if o.denial.private != nil {
			rec.Detail = o.denial.private.Error()
		}
	}
	if o.private != nil {
		rec.Detail = o.private.Error()
	}
	if o.caller != nil {
		rec.Caller, rec.Client, rec.Token = o.caller.Claims.Subject, o.caller.Claims.ClientID, o.caller.Claims.JTI
	}
	if o.message != nil {
		rec.Era, rec.Method, rec.Name = o.message.Era.String(), clip(o.message.Method), clip(o.message.Name)
	}
	if o.target != nil {
		rec.Backend, rec.Original = o.target.Backend, o.target.Name
	}
	if o.snap != nil {
		rec.Revision, rec.Catalog = o.snap.Policies.Revision(), o.snap.Digest
	}
	return rec
}
