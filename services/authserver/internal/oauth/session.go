package oauth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"maps"
	"strings"
	"time"

	"github.com/ory/fosite"

	"vmcp/internal/entra"
	"vmcp/internal/token"
	"vmcp/services/authserver/internal/signing"
	"vmcp/services/authserver/internal/store"
)

// familyLife is how long a sign-in can be refreshed, whatever the lifetimes of its tokens.
const familyLife = 30 * 24 * time.Hour

// session is fosite's view of a family, and the person it belongs to.
type session struct {
	family  store.Family
	grant   *store.Grant // set before an access token is made
	expires map[fosite.TokenType]time.Time
}

func (s *session) SetExpiresAt(t fosite.TokenType, at time.Time) {
	if s.expires == nil {
		s.expires = map[fosite.TokenType]time.Time{}
	}
	if end := s.family.Expires; !end.IsZero() && end.Before(at) {
		at = end
	}
	s.expires[t] = at
}

func (s *session) GetExpiresAt(t fosite.TokenType) time.Time { return s.expires[t] }
func (s *session) GetUsername() string                       { return "" }
func (s *session) GetSubject() string                        { return s.family.Sub }

// Clone is called for every refresh; the copy shares nothing that changes.
func (s *session) Clone() fosite.Session {
	c := *s
	c.expires = maps.Clone(s.expires)
	return &c
}

// accessTokens is fosite's strategy that mints our JWTs.
type accessTokens struct {
	issuer, audience string
	keys             *signing.Keys
}

// GenerateAccessToken mints a token (RFC 9068). iat is now, also after a refresh; groups are as just read.
func (s *accessTokens) GenerateAccessToken(_ context.Context, r fosite.Requester) (text, signature string, err error) {
	se, ok := r.GetSession().(*session)
	if !ok || se.grant == nil {
		return "", "", errors.New("no person in the session")
	}
	jti := random(16)
	payload, err := token.Issued{
		Issuer: s.issuer, Audience: s.audience, Subject: se.family.Sub, ClientID: r.GetClient().GetID(),
		Scope: strings.Join(r.GetGrantedScopes(), " "), Groups: se.grant.Roles, TSID: se.family.TSID, JTI: jti,
		TID: se.grant.TID, OID: se.grant.OID, Name: se.grant.Name, Email: se.grant.Email,
		AuthTime: se.family.AuthTime, IssuedAt: time.Now(), Expiry: se.GetExpiresAt(fosite.AccessToken),
	}.Payload()
	if err != nil {
		return "", "", err
	}
	text, err = s.keys.Sign(payload)
	return text, jti, err
}

// AccessTokenSignature and ValidateAccessToken are never asked: nobody introspects here.
func (s *accessTokens) AccessTokenSignature(context.Context, string) string { return "" }

func (s *accessTokens) ValidateAccessToken(context.Context, fosite.Requester, string) error {
	return fosite.ErrRequestUnauthorized
}

// subject is who a person is in our tokens: stable, opaque, and the same for every client.
// It is made of what Entra never changes about a person, so it needs no table.
func subject(provider string, p entra.Person) string {
	sum := sha256.Sum256([]byte(provider + "\x00" + p.TID + "\x00" + p.OID))
	return base64.RawURLEncoding.EncodeToString(sum[:])[:22]
}

// random is a text of n random bytes.
func random(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(b)
}
