package extauthz

import (
	"errors"
	"strings"

	"vmcp/internal/decision"
	"vmcp/internal/mcpwire"
	"vmcp/internal/token"
	"vmcp/services/authz/internal/revocation"
)

// Caller is a verified caller. One per token, kept by the verifier's cache.
type Caller struct {
	Claims    token.Claims
	Principal string // decision.Principal
}

// NewCaller is the build function for token.Verifier.
func NewCaller(c token.Claims) (*Caller, error) {
	return &Caller{Claims: c, Principal: decision.Principal(c.Issuer, c.Subject, c.ClientID)}, nil
}

// authenticate finds who asks, from the one Authorization header.
func (s *Server) authenticate(r *request) (*Caller, *answer) {
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

// unauthorized is the 401 with its challenge (RFC 6750, RFC 9728; AU-4).
func (s *Server) unauthorized(code, reason string, private error) *answer {
	challenge := s.challenge
	if code != "" {
		challenge += `, error="` + code + `", error_description="the access token is not valid here: sign in again"`
	}
	d := refuseRequest(401, mcpwire.CodeInvalidRequest, reason, "sign in: an access token for this gateway is needed")
	d.headers, d.private = []header{{"www-authenticate", challenge}}, private
	return d
}
