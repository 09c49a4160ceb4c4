package extauthz

import (
	"strings"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
)

// request is the part of a CheckRequest that is decided on.
type request struct {
	id       string // x-request-id, set by Envoy
	method   string
	path     string // without query; policy never depends on the query
	host     string
	origin   string
	clientIP string
	body     []byte
	headers  []header
}

type header struct{ name, value string }

func readRequest(req *authv3.CheckRequest) request {
	a := req.GetAttributes()
	h := a.GetRequest().GetHttp()
	path, _, _ := strings.Cut(h.GetPath(), "?")
	r := request{
		id:       h.GetId(),
		method:   h.GetMethod(),
		path:     path,
		host:     h.GetHost(),
		clientIP: a.GetSource().GetAddress().GetSocketAddress().GetAddress(),
		body:     h.GetRawBody(),
	}
	// encode_raw_headers: every header line by itself, names in lower case. Duplicates stay visible.
	raw := h.GetHeaderMap().GetHeaders()
	r.headers = make([]header, 0, len(raw))
	for _, kv := range raw {
		value := string(kv.GetRawValue())
		if value == "" {
			value = kv.GetValue()
		}
		switch kv.GetKey() {
		case "x-request-id":
			r.id = value
		case "x-vmcp-client-address": // Envoy's, which knows what proxies in front may be believed
			r.clientIP = value
		case "origin":
			r.origin = value
		}
		r.headers = append(r.headers, header{kv.GetKey(), value})
	}
	return r
}

// header returns all values of a header; name in canonical or lower case.
func (r *request) header(name string) []string {
	var values []string
	for i := range r.headers {
		if strings.EqualFold(r.headers[i].name, name) {
			values = append(values, r.headers[i].value)
		}
	}
	return values
}

// sessionID is the one Mcp-Session-Id; false where there is more than one.
func (r *request) sessionID() (string, bool) {
	switch v := r.header("Mcp-Session-Id"); len(v) {
	case 0:
		return "", true
	case 1:
		return v[0], true
	default:
		return "", false
	}
}
