package oauth

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"vmcp/internal/token"
	"vmcp/services/authserver/internal/store"
)

// revoke is RFC 7009: a refresh token ends the whole sign-in, an access token ends itself.
func (s *Server) revoke(w http.ResponseWriter, r *http.Request) error {
	form, err := readForm(w, r)
	if err != nil {
		return fail(codeInvalidRequest, texts[codeInvalidRequest]).because(err)
	}
	c, err := s.authenticate(r, form)
	if err != nil {
		return err
	}
	text := form.Get("token")
	if text == "" {
		return fail(codeInvalidRequest, "token is missing")
	}
	// token_type_hint says nothing that the token does not.
	if s.provider.tokens.Enigma.Validate(r.Context(), text) == nil {
		err = s.revokeRefresh(r, c, text)
	} else if payload, bad := s.cfg.Keys.Open(text); bad == nil {
		err = s.revokeAccess(r, c, payload)
	} // else not one of ours, which is as good as revoked (section 2.2)
	if err != nil {
		return err
	}
	recordOf(r).outcome = "revoked"
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	return nil
}

var errOthersToken = fail(codeUnauthorizedClient, "the token was issued to another client")

func (s *Server) revokeRefresh(r *http.Request, c *store.Client, text string) error {
	t, err := s.cfg.Store.RefreshToken(r.Context(), s.provider.tokens.RefreshTokenSignature(r.Context(), text))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		return internalError("finding the refresh token", err)
	case t.Family.ClientID != c.ID:
		return errOthersToken
	}
	recordOf(r).caller = t.Family.Sub
	if err := s.end(r.Context(), t.Family.TSID, "the client revoked it"); err != nil {
		return internalError("ending the sign-in", err)
	}
	return nil
}

func (s *Server) revokeAccess(r *http.Request, c *store.Client, payload []byte) error {
	var claims struct {
		ClientID string `json:"client_id"`
		Sub      string `json:"sub"`
		JTI      string `json:"jti"`
		Exp      int64  `json:"exp"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil || claims.JTI == "" {
		return nil
	}
	if claims.ClientID != c.ID {
		return errOthersToken
	}
	recordOf(r).caller = claims.Sub
	now, forget := time.Now(), time.Unix(claims.Exp, 0).Add(token.Margin)
	if now.After(forget) {
		return nil
	}
	if err := s.cfg.Store.Revoke(r.Context(), store.Revocation{Kind: store.RevokedToken, Value: claims.JTI, Revoked: now, Forget: forget}); err != nil {
		return internalError("revoking the token", err)
	}
	return nil
}
