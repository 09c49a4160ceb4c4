package extauthz

import (
	"vmcp/internal/mcpwire"
)

// answer is what authz says itself, instead of passing the request on. Everything in it is constant or the client's own;
// the reason is for the audit record and the access log.
type answer struct {
	kind    answerKind
	status  int // HTTP
	reason  string
	code    int    // JSON-RPC; 0: no JSON-RPC body
	text    string // JSON-RPC message
	body    []byte // instead of a JSON-RPC body
	headers []header
	private error
}

type answerKind uint8

const (
	refusal answerKind = iota
	service            // what was asked for is had from authz, and nothing was decided: metadata, a preflight
)

func refuseRequest(status, code int, reason, text string) *answer {
	return &answer{status: status, code: code, reason: reason, text: text}
}

var (
	notFound      = refuseRequest(404, mcpwire.CodeInvalidRequest, "no_such_path", "not found")
	foreignHost   = refuseRequest(403, mcpwire.CodeInvalidRequest, "foreign_host", "this Host is not served here")
	foreignOrigin = refuseRequest(403, mcpwire.CodeInvalidRequest, "foreign_origin", "requests from this Origin are not allowed")
	noRole        = refuseRequest(403, mcpwire.CodeInvalidRequest, "no_role", "your account has no role that this gateway knows: ask for one to be assigned to you")
	notReady      = refuseRequest(503, mcpwire.CodeInternal, "not_ready", "the gateway is starting: try again")
	noDecision    = refuseRequest(503, mcpwire.CodeInternal, "no_decision", "the gateway cannot decide: try again")
	startingUp    = refuseRequest(503, mcpwire.CodeInternal, "starting", "the server behind this name is starting: try again")
	notAvailable  = refuseRequest(503, mcpwire.CodeInternal, "unavailable", "the server behind this name is not available")
)

// forbiddenFamily refuses what a policy forbids of a family, as the transport has it for each kind of message: a request
// gets a response; a stream or an end that is not to be had is 405, which clients take calmly; what cannot be accepted
// is 400 (HT-3).
func forbiddenFamily(m *mcpwire.Message) *answer {
	d := refuseRequest(200, mcpwire.CodeInvalidRequest, "forbidden", "not permitted")
	switch m.Kind {
	case mcpwire.KindStream, mcpwire.KindEnd:
		d.status, d.headers = 405, []header{{"allow", "POST"}}
	case mcpwire.KindNotification, mcpwire.KindResponse:
		d.status = 400
	}
	return d
}

func unknownMethod(m *mcpwire.Message) *answer {
	status := 200
	if m.Era == mcpwire.EraModern { // HM-4
		status = 404
	}
	return refuseRequest(status, mcpwire.CodeMethodNotFound, "unknown_method", "method not found")
}

// unknownItem is the one answer for what does not exist and what is not permitted.
func unknownItem(m *mcpwire.Message, reason string) *answer {
	return refuseRequest(200, mcpwire.CodeInvalidParams, reason, mcpwire.UnknownItem(m.Item, m.Name))
}
