package oauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ory/fosite"

	"vmcp/services/authserver/internal/store"
)

// How a client proves who it is (RFC 7591 section 2).
const (
	authNone  = "none"
	authBasic = "client_secret_basic"
	authPost  = "client_secret_post"
)

// clientTime is how long a client that was used is kept.
const clientTime = 90 * 24 * time.Hour

// tokenResponse is RFC 6749 section 5.1.
type tokenResponse struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int64  `json:"expires_in"`
	RefreshToken string `json:"refresh_token,omitempty"`
	Scope        string `json:"scope"`
}

// token is the token endpoint (RFC 6749 section 3.2).
func (s *Server) token(w http.ResponseWriter, r *http.Request) error {
	form, err := readForm(w, r)
	if err != nil {
		return fail(codeInvalidRequest, texts[codeInvalidRequest]).because(err)
	}
	var out *tokenResponse
	switch form.Get("grant_type") {
	case "authorization_code":
		out, err = s.redeemCode(r, form)
	case "refresh_token":
		out, err = s.refresh(r, form)
	case "":
		err = fail(codeInvalidRequest, "grant_type is missing")
	default:
		err = fail(codeUnsupportedGrant, texts[codeUnsupportedGrant])
	}
	if err != nil {
		return err
	}
	recordOf(r).outcome = form.Get("grant_type")
	w.Header().Set("Pragma", "no-cache")
	writeJSON(w, http.StatusOK, out)
	return nil
}

// tokenRequest is the request that fosite sees: known parameters, and the client's credentials.
func tokenRequest(r *http.Request, form url.Values) *http.Request {
	form = only(form, "grant_type", "code", "redirect_uri", "code_verifier", "refresh_token", "client_id", "client_secret")
	header := http.Header{}
	if values := r.Header.Values("Authorization"); len(values) > 0 {
		header["Authorization"] = values[:1]
	}
	return &http.Request{Method: "POST", Header: header, Form: form, PostForm: form}
}

// authenticate finds the client that asks.
func (s *Server) authenticate(r *http.Request, form url.Values) (*store.Client, error) {
	switch {
	case form.Has("client_assertion"), form.Has("client_assertion_type"):
		return nil, fail(codeInvalidClient, "client assertions are not supported")
	case len(r.Header.Values("Authorization")) > 1, form.Has("client_secret") && r.Header.Get("Authorization") != "": // RFC 6749 section 2.3
		return nil, fail(codeInvalidRequest, "the client proves who it is in more than one way")
	}
	if id, _, ok := r.BasicAuth(); ok && form.Has("client_id") {
		if id, err := url.QueryUnescape(id); err != nil || id != form.Get("client_id") {
			return nil, fail(codeInvalidRequest, "client_id differs from the Authorization header")
		}
	}
	c, err := s.provider.AuthenticateClient(r.Context(), tokenRequest(r, form), form)
	if err != nil {
		return nil, asError(err)
	}
	recordOf(r).client = c.GetID()
	method := authNone
	if r.Header.Get("Authorization") != "" {
		method = authBasic
	} else if form.Has("client_secret") {
		method = authPost
	}
	if registered := c.(*client).AuthMethod; method != registered { // the way it registered and no other
		return nil, fail(codeInvalidClient, texts[codeInvalidClient]).because(fmt.Errorf("%s, registered for %s", method, registered))
	}
	return c.(*client).Client, nil
}

// redeemCode is RFC 6749 section 4.1.3.
func (s *Server) redeemCode(r *http.Request, form url.Values) (*tokenResponse, error) {
	ctx := context.WithValue(r.Context(), startedKey{}, time.Now())
	if _, err := s.authenticate(r, form); err != nil {
		return nil, err
	}
	if err := s.checkResource(form["resource"]); err != nil { // before the code is spent
		return nil, err
	}
	if s.provider.tokens.Enigma.Validate(ctx, form.Get("code")) != nil { // not one of ours: nothing to look up
		return nil, fail(codeInvalidGrant, texts[codeInvalidGrant])
	}
	ar, err := s.provider.NewAccessRequest(ctx, tokenRequest(r, form), &session{})
	if err != nil {
		return nil, err
	}
	se := ar.GetSession().(*session)
	recordOf(r).caller = se.family.Sub
	if se.grant, err = s.cfg.Store.Grant(ctx, se.family.TSID); errors.Is(err, store.ErrNotFound) {
		return nil, fail(codeInvalidGrant, texts[codeInvalidGrant]).because(errors.New("the sign-in has ended"))
	} else if err != nil {
		return nil, internalError("finding the person", err)
	}
	var out *tokenResponse
	err = s.cfg.Store.Tx(ctx, func(ctx context.Context) error {
		if err := s.useClient(ctx, ar); err != nil {
			return err
		}
		out, err = s.respond(ctx, ar)
		return err
	})
	return out, err
}

func (s *Server) useClient(ctx context.Context, ar fosite.AccessRequester) error {
	now := time.Now()
	return s.cfg.Store.UseClient(ctx, ar.GetClient().GetID(), now, now.Add(clientTime))
}

// respond mints the tokens of a request that fosite accepted.
func (s *Server) respond(ctx context.Context, ar fosite.AccessRequester) (*tokenResponse, error) {
	resp, err := s.provider.NewAccessResponse(ctx, ar)
	if err != nil {
		return nil, err
	}
	refresh, _ := resp.GetExtra("refresh_token").(string)
	expires := time.Until(ar.GetSession().GetExpiresAt(fosite.AccessToken)).Round(time.Second)
	return &tokenResponse{resp.GetAccessToken(), "Bearer", int64(expires / time.Second), refresh, strings.Join(ar.GetGrantedScopes(), " ")}, nil
}
