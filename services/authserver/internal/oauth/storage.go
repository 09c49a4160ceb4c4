package oauth

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/ory/fosite"

	"vmcp/services/authserver/internal/store"
)

// storage is what fosite keeps, on top of store. fosite calls a token's second half its signature and looks it up by
// that; a request's id is our tsid. Every answer is a fresh copy: fosite changes what it gets.
type storage struct {
	store    *store.DB
	audience string
	end      func(ctx context.Context, tsid, reason string) error // ends a family
}

// redirectKey is the context key of the redirect URI that authorize has compared.
type redirectKey struct{}

// startedKey is the context key of the time when a token request came in.
type startedKey struct{}

func (s *storage) BeginTX(ctx context.Context) (context.Context, error) {
	return s.store.Begin(ctx)
}
func (s *storage) Commit(ctx context.Context) error   { return s.store.Commit(ctx) }
func (s *storage) Rollback(ctx context.Context) error { return s.store.Rollback(ctx) }

// GetClient finds a client.
func (s *storage) GetClient(ctx context.Context, id string) (fosite.Client, error) {
	c, err := s.store.Client(ctx, id, time.Now())
	if errors.Is(err, store.ErrNotFound) {
		return nil, fosite.ErrNotFound
	} else if err != nil {
		return nil, err
	}
	return s.client(ctx, c), nil
}

func (s *storage) client(ctx context.Context, c *store.Client) *client {
	out := &client{Client: c, redirects: c.RedirectURIs, audience: s.audience}
	if redirect, ok := ctx.Value(redirectKey{}).(string); ok {
		out.redirects = []string{redirect}
	}
	return out
}

// Client assertions are refused before fosite sees them.

func (s *storage) ClientAssertionJWTValid(context.Context, string) error { return errNoAssertions }
func (s *storage) SetClientAssertionJWT(context.Context, string, time.Time) error {
	return errNoAssertions
}

var errNoAssertions = errors.New("client assertions are not supported")

// request rebuilds fosite's view of a family.
func (s *storage) request(ctx context.Context, f store.Family, form url.Values) (*fosite.Request, error) {
	c, err := s.GetClient(ctx, f.ClientID)
	if err != nil {
		return nil, err
	}
	return &fosite.Request{
		ID: f.TSID, RequestedAt: f.AuthTime, Client: c, Form: form, Session: &session{family: f},
		RequestedScope: f.Scopes, GrantedScope: f.Scopes,
		RequestedAudience: fosite.Arguments{f.Audience}, GrantedAudience: fosite.Arguments{f.Audience},
	}, nil
}

// CreateAuthorizeCodeSession starts the family.
func (s *storage) CreateAuthorizeCodeSession(ctx context.Context, signature string, r fosite.Requester) error {
	f := r.GetSession().(*session).family
	f.ClientID, f.Scopes, f.Audience = r.GetClient().GetID(), r.GetGrantedScopes(), strings.Join(r.GetGrantedAudience(), " ")
	f.RedirectURI = r.GetRequestForm().Get("redirect_uri")
	return s.store.AddCode(ctx, signature, r.GetSession().GetExpiresAt(fosite.AuthorizeCode), &f)
}

// GetAuthorizeCodeSession finds a code. One that was used is an error by which fosite ends the family, unless the use
// came after this request: then two of one client ran into each other, and one of them has what it wanted.
func (s *storage) GetAuthorizeCodeSession(ctx context.Context, signature string, _ fosite.Session) (fosite.Requester, error) {
	c, err := s.store.Code(ctx, signature, time.Now())
	if errors.Is(err, store.ErrNotFound) {
		return nil, fosite.ErrNotFound
	} else if err != nil {
		return nil, err
	}
	r, err := s.request(ctx, c.Family, url.Values{"redirect_uri": {c.Family.RedirectURI}})
	if err != nil {
		return nil, err
	}
	r.Session.SetExpiresAt(fosite.AuthorizeCode, c.Expires)
	switch {
	case c.Used.IsZero():
		return r, nil
	case raced(ctx, c.Used):
		return nil, fosite.ErrNotFound
	}
	return r, fosite.ErrInvalidatedAuthorizeCode
}

// raced: used after the request at hand had come in.
func raced(ctx context.Context, used time.Time) bool {
	started, ok := ctx.Value(startedKey{}).(time.Time)
	return ok && used.After(started)
}

// InvalidateAuthorizeCodeSession lets one through.
func (s *storage) InvalidateAuthorizeCodeSession(ctx context.Context, signature string) error {
	return s.store.UseCode(ctx, signature, time.Now())
}

// CreatePKCERequestSession keeps the challenge with the code.
func (s *storage) CreatePKCERequestSession(ctx context.Context, signature string, r fosite.Requester) error {
	return s.store.SetChallenge(ctx, signature, r.GetRequestForm().Get("code_challenge"))
}

// GetPKCERequestSession takes the challenge, so a wrong verifier is the last.
func (s *storage) GetPKCERequestSession(ctx context.Context, signature string, _ fosite.Session) (fosite.Requester, error) {
	challenge, err := s.store.TakeChallenge(ctx, signature, time.Now())
	if errors.Is(err, store.ErrNotFound) {
		return nil, fosite.ErrNotFound
	} else if err != nil {
		return nil, err
	}
	r := fosite.NewRequest()
	r.Form = url.Values{"code_challenge": {challenge}, "code_challenge_method": {"S256"}}
	return r, nil
}

// DeletePKCERequestSession: Get took it.
func (s *storage) DeletePKCERequestSession(context.Context, string) error { return nil }

// CreateRefreshTokenSession adds the family's newest token.
func (s *storage) CreateRefreshTokenSession(ctx context.Context, signature, _ string, r fosite.Requester) error {
	return s.store.AddRefreshToken(ctx, signature, r.GetID(), r.GetSession().GetExpiresAt(fosite.RefreshToken))
}

// GetRefreshTokenSession finds a token. One that was replaced is an error by which fosite ends the family.
func (s *storage) GetRefreshTokenSession(ctx context.Context, signature string, _ fosite.Session) (fosite.Requester, error) {
	t, err := s.store.RefreshToken(ctx, signature)
	if errors.Is(err, store.ErrNotFound) || err == nil && !t.Family.Ended.IsZero() {
		return nil, fosite.ErrNotFound
	} else if err != nil {
		return nil, err
	}
	if !t.Rotated.IsZero() && time.Since(t.Rotated) < grace && t.Successor != nil {
		// Replaced since refreshOnce looked, by another replica: its answer is for this request, too.
		return nil, store.ErrTaken
	}
	r, err := s.request(ctx, t.Family, url.Values{})
	if err != nil {
		return nil, err
	}
	r.Session.SetExpiresAt(fosite.RefreshToken, t.Expires)
	if !t.Rotated.IsZero() {
		return r, fosite.ErrInactiveToken
	}
	return r, nil
}

// RotateRefreshToken lets one through.
func (s *storage) RotateRefreshToken(ctx context.Context, _, signature string) error {
	return s.store.RotateRefreshToken(ctx, signature, time.Now())
}

// DeleteRefreshTokenSession keeps the tombstone: the next use of it is to be noticed, too.
func (s *storage) DeleteRefreshTokenSession(context.Context, string) error { return nil }

// RevokeRefreshToken ends a family: somebody used a code or a refresh token again.
func (s *storage) RevokeRefreshToken(ctx context.Context, tsid string) error {
	return s.end(ctx, tsid, "a code or refresh token was used again")
}

// RevokeAccessToken is the same: a family ends as a whole.
func (s *storage) RevokeAccessToken(ctx context.Context, tsid string) error {
	return s.RevokeRefreshToken(ctx, tsid)
}

// Access tokens are JWTs and not kept.

func (s *storage) CreateAccessTokenSession(context.Context, string, fosite.Requester) error {
	return nil
}
func (s *storage) DeleteAccessTokenSession(context.Context, string) error { return nil }
func (s *storage) GetAccessTokenSession(context.Context, string, fosite.Session) (fosite.Requester, error) {
	return nil, fosite.ErrNotFound
}
