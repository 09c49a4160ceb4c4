package extauthz

import (
	"strings"

	"vmcp/internal/mcpwire"
)

// denial is an answer that authz gives itself. Everything in it is constant or the client's own; the reason is for the
// audit record and the access log.
type denial struct {
	status  int // HTTP
	reason  string
	code    int    // JSON-RPC; 0: no JSON-RPC body
	text    string // JSON-RPC message
	body    []byte // instead of a JSON-RPC body
	headers []header
	private error
}

func refuseRequest(status, code int, reason, text string) *denial {
	return &denial{status: status, code: code, reason: reason, text: text}
}

var (
	notFound      = refuseRequest(404, mcpwire.CodeInvalidRequest, "no_such_path", "not found")
	foreignHost   = refuseRequest(403, mcpwire.CodeInvalidRequest, "foreign_host", "this Host is not served here")
	foreignOrigin = refuseRequest(403, mcpwire.CodeInvalidRequest, "foreign_origin", "requests from this Origin are not allowed")
	noRole        = refuseRequest(403, mcpwire.CodeInvalidRequest, "no_role", "your account has no role that this gateway knows: ask for one to be assigned to you")
	notReady      = refuseRequest(503, mcpwire.CodeInternal, "not_ready", "the gateway is starting: try again")
	noDecision    = refuseRequest(503, mcpwire.CodeInternal, "no_decision", "the gateway cannot decide: try again")
	startingUp    = refuseRequest(503, mcpwire.CodeInternal, "starting", "the server behind this name is starting: try again")
)

// preflight answers a browser that asks before it sends (Fetch, CORS-preflight). Of the headers that it names it may send
// ours; Mcp-Param-* differ by tool.
func preflight(r *request) *denial {
	allowed := "authorization, content-type, accept, mcp-protocol-version, mcp-session-id, mcp-method, mcp-name, last-event-id"
	for _, line := range r.header("Access-Control-Request-Headers") {
		for name := range strings.SplitSeq(line, ",") {
			name = strings.ToLower(strings.TrimSpace(name))
			if strings.HasPrefix(name, "mcp-param-") && len(allowed) < 4<<10 {
				allowed += ", " + name
			}
		}
	}
	return &denial{status: 204, reason: "preflight", headers: []header{
		{"access-control-allow-methods", "GET, POST, DELETE, OPTIONS"},
		{"access-control-allow-headers", allowed},
		{"access-control-max-age", "7200"},
	}}
}

// document answers a GET of a metadata document. It is public; HEAD and others are refused.
func document(r *request, doc []byte) *denial {
	if r.method != "GET" {
		d := refuseRequest(405, mcpwire.CodeInvalidRequest, "method_not_allowed", "use GET")
		d.headers = []header{{"allow", "GET"}}
		return d
	}
	return &denial{status: 200, reason: "metadata", body: doc, headers: []header{{"cache-control", "public, max-age=300"}}}
}

// forbiddenFamily refuses what a policy forbids of a family, as the transport has it for each kind of message: a request
// gets a response; a stream or an end that is not to be had is 405, which clients take calmly; what cannot be accepted
// is 400 (HT-3).
func forbiddenFamily(m *mcpwire.Message) *denial {
	d := refuseRequest(200, mcpwire.CodeInvalidRequest, "forbidden", "not permitted")
	switch m.Kind {
	case mcpwire.KindStream, mcpwire.KindEnd:
		d.status, d.headers = 405, []header{{"allow", "POST"}}
	case mcpwire.KindNotification, mcpwire.KindResponse:
		d.status = 400
	}
	return d
}

func unknownMethod(m *mcpwire.Message) *denial {
	status := 200
	if m.Era == mcpwire.EraModern { // HM-4
		status = 404
	}
	return refuseRequest(status, mcpwire.CodeMethodNotFound, "unknown_method", "method not found")
}

// unknownItem is the one answer for what does not exist and what is not permitted.
func unknownItem(m *mcpwire.Message, reason string) *denial {
	return refuseRequest(200, mcpwire.CodeInvalidParams, reason, mcpwire.UnknownItem(m.Item, m.Name))
}

// unauthorized is the 401 with its challenge (RFC 6750, RFC 9728; AU-4).
func (s *Server) unauthorized(code, reason string, private error) *denial {
	challenge := s.challenge
	if code != "" {
		challenge += `, error="` + code + `", error_description="the access token is not valid here: sign in again"`
	}
	d := refuseRequest(401, mcpwire.CodeInvalidRequest, reason, "sign in: an access token for this gateway is needed")
	d.headers, d.private = []header{{"www-authenticate", challenge}}, private
	return d
}
