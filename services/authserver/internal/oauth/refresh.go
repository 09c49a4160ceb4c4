package oauth

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/ory/fosite"
	"go.uber.org/zap"

	"vmcp/internal/entra"
	"vmcp/internal/secret"
	"vmcp/services/authserver/internal/store"
)

const (
	// grace is how long a replaced refresh token still gets the answer that its first use got. Clients start several
	// processes that refresh at once, and answers get lost.
	grace = 10 * time.Second
	// refreshLimit bounds the work behind one refresh; Envoy waits 30 s.
	refreshLimit = 25 * time.Second
)

// refresh is RFC 6749 section 6, with rotation and reuse detection (OAuth 2.1 section 4.3.1). Nothing is replaced before
// Entra has said what the person's roles are now.
func (s *Server) refresh(r *http.Request, form url.Values) (*tokenResponse, error) {
	c, err := s.authenticate(r, form)
	if err != nil {
		return nil, err
	}
	if err := s.checkResource(form["resource"]); err != nil {
		return nil, err
	}
	text := form.Get("refresh_token")
	if s.provider.tokens.Enigma.Validate(r.Context(), text) != nil { // not one of ours: nothing to look up
		return nil, fail(codeInvalidGrant, texts[codeInvalidGrant])
	}
	type result struct {
		out *tokenResponse
		sub string
	}
	// What came twice is done once. A caller who leaves does not undo it for the others.
	key := c.ID + "\x00" + text + "\x00" + form.Get("scope")
	v, err, _ := s.refreshing.Do(key, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), refreshLimit)
		defer cancel()
		req := tokenRequest(r, form)
		out, sub, err := s.refreshOnce(ctx, c, req, text, form.Get("scope"))
		if errors.Is(err, store.ErrTaken) { // another replica was faster: now its answer is there
			out, sub, err = s.refreshOnce(ctx, c, req, text, form.Get("scope"))
		}
		return result{out, sub}, err
	})
	res := v.(result)
	recordOf(r).caller = res.sub
	return res.out, err
}

func (s *Server) refreshOnce(ctx context.Context, c *store.Client, req *http.Request, text, scope string) (out *tokenResponse, sub string, err error) {
	signature := s.provider.tokens.RefreshTokenSignature(ctx, text)
	bad := fail(codeInvalidGrant, texts[codeInvalidGrant])
	t, err := s.cfg.Store.RefreshToken(ctx, signature)
	if errors.Is(err, store.ErrNotFound) {
		return nil, "", bad
	} else if err != nil {
		return nil, "", internalError("finding the refresh token", err)
	}
	sub = t.Family.Sub
	now := time.Now()
	switch {
	case t.Family.ClientID != c.ID:
		return nil, sub, bad.because(errors.New("the token is another client's"))
	case !t.Family.Ended.IsZero() || !now.Before(t.Expires):
		return nil, sub, bad.because(errors.New("the sign-in has ended or expired"))
	case !t.Rotated.IsZero() && now.Sub(t.Rotated) < grace && t.Successor != nil:
		if out, err := openSuccessor(text, t.Successor); err == nil {
			return out, sub, nil
		}
	}
	ar, err := s.provider.NewAccessRequest(ctx, req, &session{}) // of a replaced token it ends the family
	if err != nil {
		return nil, sub, err
	}
	se := ar.GetSession().(*session)
	if err := narrow(ar, scope); err != nil {
		return nil, sub, err
	}
	if se.grant, err = s.currentRoles(ctx, &se.family); err != nil {
		return nil, sub, err
	}
	err = s.cfg.Store.Tx(ctx, func(ctx context.Context) error {
		if err := s.useClient(ctx, ar); err != nil {
			return err
		}
		if out, err = s.respond(ctx, ar); err != nil {
			return err
		}
		sealed, err := sealSuccessor(text, out)
		if err != nil {
			return err
		}
		return s.cfg.Store.SetSuccessor(ctx, signature, sealed)
	})
	return out, sub, err
}

// narrow lets a refresh ask for less, for this access token only (RFC 6749 section 6). fosite ignores scope.
func narrow(ar fosite.AccessRequester, scope string) error {
	wanted := strings.Fields(scope)
	if len(wanted) == 0 {
		return nil
	}
	for _, w := range wanted {
		if !ar.GetGrantedScopes().Has(w) {
			return fail(codeInvalidScope, "a refresh cannot ask for more than was granted")
		}
	}
	slices.Sort(wanted)
	ar.(*fosite.AccessRequest).GrantedScope = slices.Compact(wanted)
	return nil
}

// currentRoles asks Entra for a person's roles, by the family's own grant: what Entra says of one sign-in is not healed
// by another (T33). Two refreshes of one family at a time share the answer: Entra stops clients that repeat themselves
// (AADSTS50196).
func (s *Server) currentRoles(ctx context.Context, f *store.Family) (*store.Grant, error) {
	v, err, _ := s.roles.Do(f.TSID, func() (any, error) { return s.askRoles(ctx, f.TSID) })
	if err == nil {
		return v.(*store.Grant), nil
	}
	e := upstreamError(err)
	switch {
	case e == nil:
		return nil, internalError("asking for the person's roles", err)
	case e.Code == codeUnavailable:
		return nil, e
	}
	s.cfg.Log.Warn("the identity provider ends a sign-in", zap.String("caller", f.Sub), zap.String("tsid", f.TSID), zap.Error(err))
	reason := "the identity provider refuses: " + kindOf(err)
	if err := s.end(ctx, f.TSID, reason); err != nil {
		return nil, internalError("ending the sign-in", err)
	}
	return nil, fail(codeInvalidGrant, "the sign-in is over: sign in again").because(err)
}

func kindOf(err error) string {
	var e *entra.Error
	if errors.As(err, &e) {
		return e.Kind.String()
	}
	return "unknown"
}

func (s *Server) askRoles(ctx context.Context, tsid string) (*store.Grant, error) {
	g, err := s.cfg.Store.Grant(ctx, tsid)
	if errors.Is(err, store.ErrNotFound) { // of a version that kept one a person
		return nil, &entra.Error{Kind: entra.Revoked, Hint: "nothing to ask Entra with is kept for this sign-in"}
	} else if err != nil {
		return nil, err
	}
	if g.RefreshToken == "" {
		return nil, &entra.Error{Kind: entra.Revoked, Hint: "Entra gave no refresh token: is offline_access among the scopes?"}
	}
	who, err := s.cfg.Upstream.Refresh(ctx, secret.Value(g.RefreshToken), entra.Person{TID: g.TID, OID: g.OID})
	if err != nil {
		return nil, err
	}
	next := grantOf(tsid, who, time.Now())
	if next.RefreshToken == "" {
		next.RefreshToken = g.RefreshToken
	}
	// At once and by itself: what comes after may fail, and the new upstream token must not be lost with it.
	return next, s.cfg.Store.SetGrant(ctx, next)
}

// The answer to a rotation is kept so that only who has the replaced token can read it.

func successorAEAD(token string) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, []byte(token), nil, "vmcp refresh token successor", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func sealSuccessor(token string, out *tokenResponse) ([]byte, error) {
	aead, err := successorAEAD(token)
	if err != nil {
		return nil, err
	}
	plain, err := json.Marshal(out)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, aead.NonceSize())
	rand.Read(nonce) // never fails (crypto/rand)
	return aead.Seal(nonce, nonce, plain, nil), nil
}

func openSuccessor(token string, sealed []byte) (*tokenResponse, error) {
	aead, err := successorAEAD(token)
	if err != nil || len(sealed) < aead.NonceSize() {
		return nil, errors.New("not a kept answer")
	}
	plain, err := aead.Open(nil, sealed[:aead.NonceSize()], sealed[aead.NonceSize():], nil)
	if err != nil {
		return nil, err
	}
	out := &tokenResponse{}
	return out, json.Unmarshal(plain, out)
}
