package extauthz

import (
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/structpb"

	"vmcp/internal/decision"
	"vmcp/internal/mcpwire"
	"vmcp/services/authz/internal/audit"
)

// response renders the outcome for Envoy.
func (o *outcome) response(r *request, rec *audit.Record) *authv3.CheckResponse {
	resp := &authv3.CheckResponse{DynamicMetadata: logged(rec)}
	if o.answer == nil && o.seal != "" {
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
	d := o.answer
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
