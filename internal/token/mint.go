package token

import (
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
)

// Issued is what our own authorization server says in an access token (RFC 9068). It stands here so that who mints and
// who verifies read the same names.
type Issued struct {
	Issuer   string
	Audience string
	Subject  string // opaque and stable for a person, the same for every client
	ClientID string
	Scope    string   // separated by blanks
	Groups   []string // the person's app roles; always a list, may be empty
	TSID     string   // the sign-in that this token comes from
	JTI      string
	TID, OID string // the person at the identity provider, for the audit trail
	Name     string // empty: not said
	Email    string // empty: not said
	AuthTime time.Time
	IssuedAt time.Time
	Expiry   time.Time
}

// issued is the form on the wire.
type issued struct {
	Iss      string   `json:"iss"`
	Aud      []string `json:"aud"`
	Sub      string   `json:"sub"`
	ClientID string   `json:"client_id"`
	Exp      int64    `json:"exp"`
	Iat      int64    `json:"iat"`
	JTI      string   `json:"jti"`
	Scope    string   `json:"scope"`
	Groups   []string `json:"groups"`
	TSID     string   `json:"tsid"`
	TID      string   `json:"tid,omitzero"`
	OID      string   `json:"oid,omitzero"`
	Name     string   `json:"name,omitzero"`
	Email    string   `json:"email,omitzero"`
	AuthTime int64    `json:"auth_time"`
	Ver      string   `json:"ver"` // of this set of claims
}

// ErrTooLarge says that the claims do not fit: Verify would refuse the token.
var ErrTooLarge = errors.New("the claims are too large for a token")

// Payload encodes the claims for signing. The header must say typ at+jwt.
func (i Issued) Payload() ([]byte, error) {
	groups := i.Groups
	if groups == nil {
		groups = []string{}
	}
	b, err := json.Marshal(issued{i.Issuer, []string{i.Audience}, i.Subject, i.ClientID, i.Expiry.Unix(), i.IssuedAt.Unix(), i.JTI,
		i.Scope, groups, i.TSID, i.TID, i.OID, i.Name, i.Email, i.AuthTime.Unix(), "1"})
	if err != nil {
		return nil, fmt.Errorf("encoding the claims: %w", err)
	}
	if len(b) > maxPayload {
		return nil, fmt.Errorf("%w: %d bytes, at most %d; %d roles", ErrTooLarge, len(b), maxPayload, len(groups))
	}
	return b, nil
}
