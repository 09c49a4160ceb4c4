package oauth

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ory/fosite"

	"vmcp/internal/entra"
	"vmcp/services/authserver/internal/store"
)

// authorization is a request that was found good.
type authorization struct {
	params   url.Values
	client   *store.Client
	redirect string
	to       redirectURI // redirect, cut
	state    string      // empty: none
	scopes   []string
	prompt   string
	consent  []byte // digest of what the consent page shows
	fosite   fosite.AuthorizeRequester
}

// S256 challenges are 43 characters (RFC 7636 section 4.2).
var challengeForm = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)

var errTooMany = &Error{Code: codeUnavailable, Text: "Too many sign-ins from here. Wait a minute, then try again.",
	Status: http.StatusTooManyRequests, RetryAfter: time.Minute}

// authorize is the authorization endpoint (RFC 6749 section 3.1).
func (s *Server) authorize(w http.ResponseWriter, r *http.Request) error {
	if !s.starting.allow(clientIP(r)) {
		return errTooMany
	}
	params, err := readQuery(r)
	if err != nil {
		return &Error{Code: codeInvalidRequest, Text: "The application sent a malformed sign-in request. Start again from the application; if it stays, tell its developers.", cause: err}
	}
	a, err := s.readAuthorization(r, params)
	if err != nil {
		return &stopped{a: a, err: err, tell: true}
	}
	browser, cookie, err := s.meet(w, r)
	if err != nil {
		return &stopped{a: a, err: internalError("finding the browser", err)}
	}
	agreed := false
	if browser != nil {
		if agreed, err = s.cfg.Store.Consented(r.Context(), browser.ID, a.client.ID, a.consent); err != nil {
			return &stopped{a: a, err: internalError("finding the consent", err)}
		}
	}
	// A program on the person's machine may be another one today (docs/decisions/0009-who-is-redirected.md).
	if agreed && !a.to.native() && !slices.Contains(strings.Fields(a.prompt), "consent") {
		return s.toUpstream(w, r, a, browser, false)
	}
	s.consentPage(w, r, a, s.sealRequest(params.Encode(), cookie))
	return nil
}

func readQuery(r *http.Request) (url.Values, error) {
	if len(r.URL.RawQuery) > maxQuery {
		return nil, errors.New("the query is too long")
	}
	return parseParams(r.URL.RawQuery)
}

// readAuthorization checks a request in full. With an authorization beside the error, client and redirect URI are good
// and the client may be told; without, only the person (RFC 6749 section 4.1.2.1).
func (s *Server) readAuthorization(r *http.Request, params url.Values) (*authorization, error) {
	ctx := r.Context()
	c, err := s.cfg.Store.Client(ctx, params.Get("client_id"), time.Now())
	if errors.Is(err, store.ErrNotFound) {
		return nil, &Error{Code: codeInvalidClient, Status: http.StatusBadRequest,
			Text: "This application is not registered here, or has not been used for long. Remove the server in the application and add it again, so that it registers anew."}
	} else if err != nil {
		return nil, internalError("finding the client", err)
	}
	a := &authorization{params: params, client: c, redirect: params.Get("redirect_uri"), state: params.Get("state"), prompt: params.Get("prompt")}
	var ok bool
	if a.to, ok = matchRedirect(a.redirect, c.RedirectURIs, c.AuthMethod == authNone); !ok {
		return nil, &Error{Code: codeInvalidRequest, Status: http.StatusBadRequest,
			Text: "The application asked to be answered at an address that it has not registered. Nothing was sent there. Start again from the application; if it stays, tell its developers."}
	}
	recordOf(r).client = c.ID
	switch {
	case params.Has("request"):
		return a, fail(codeRequestObject, "request objects are not supported")
	case params.Has("request_uri"):
		return a, fail(codeRequestURI, "request_uri is not supported")
	case params.Get("response_type") != "code":
		return a, fail(codeUnsupportedType, texts[codeUnsupportedType])
	case params.Has("response_mode") && params.Get("response_mode") != "query":
		return a, fail(codeInvalidRequest, "want response_mode query")
	case !params.Has("code_challenge"):
		return a, fail(codeInvalidRequest, "PKCE is required: send code_challenge and code_challenge_method=S256")
	case params.Get("code_challenge_method") != "S256":
		return a, fail(codeInvalidRequest, "want code_challenge_method S256")
	case !challengeForm.MatchString(params.Get("code_challenge")):
		return a, fail(codeInvalidRequest, "code_challenge is not one of S256")
	case slices.Contains(strings.Fields(a.prompt), "none"):
		return a, fail(codeLoginRequired, "sign-in needs a person: leave out prompt=none")
	}
	if err := s.checkResource(params["resource"]); err != nil {
		return a, err
	}
	form := only(params, "client_id", "redirect_uri", "response_type", "scope", "state", "code_challenge", "code_challenge_method")
	if !form.Has("state") {
		form.Set("state", "none") // fosite demands one; the answer will have none
	}
	if !form.Has("scope") {
		form.Set("scope", strings.Join(s.cfg.Endpoint.Scopes, " "))
	}
	a.fosite, err = s.provider.NewAuthorizeRequest(context.WithValue(ctx, redirectKey{}, a.redirect), &http.Request{Method: "GET", Form: form})
	if err != nil {
		return a, asError(err)
	}
	a.scopes = a.fosite.GetRequestedScopes()
	a.consent = consentDigest(a)
	return a, nil
}

// consentDigest covers what the page shows, and all that the client is registered with.
func consentDigest(a *authorization) []byte {
	h := sha256.New()
	to := a.to
	if to.loopback() {
		to.port = "" // programs on this machine use another one each time
	}
	scopes := slices.Sorted(slices.Values(a.scopes))
	for _, part := range [][]string{{a.client.ID, a.client.Name, to.String()}, a.client.RedirectURIs, scopes} {
		for _, s := range part {
			h.Write([]byte(s))
			h.Write([]byte{0})
		}
		h.Write([]byte{1})
	}
	return h.Sum(nil)
}

// resume reads the request of a sign-in that is under way: the client may be gone since. approved says that the person has
// agreed to it in this sign-in.
func (s *Server) resume(r *http.Request, request string, approved bool) (*authorization, error) {
	params, err := url.ParseQuery(request)
	if err != nil {
		return nil, internalError("reading the sign-in", err)
	}
	a, err := s.readAuthorization(r, params)
	if err != nil {
		return nil, &stopped{a: a, err: err, tell: true, approved: approved}
	}
	return a, nil
}

// known says whether the browser may be sent to the client unasked. Anybody can register one, and an address of ours that
// leads to theirs is what phishing wants (RFC 9700 section 4.11.2, T03).
func (s *Server) known(r *http.Request, a *authorization) (bool, error) {
	if a.to.native() { // no site: docs/decisions/0009-who-is-redirected.md
		return true, nil
	}
	b, _, err := s.browser(r)
	if b == nil || err != nil {
		return false, err
	}
	return s.cfg.Store.Agreed(r.Context(), b.ID, a.client.ID, a.to.String())
}

func redirect(w http.ResponseWriter, to string) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Location", to)
	w.WriteHeader(http.StatusSeeOther)
}

// toUpstream sends the browser to Entra with a state that only this browser can bring back. approved says that the
// person agreed just now.
func (s *Server) toUpstream(w http.ResponseWriter, r *http.Request, a *authorization, b *store.Browser, approved bool) error {
	state, key := random(32), s.cfg.Secrets.Newest()
	nonce, verifier, err := s.upstreamSecrets(key.ID, state)
	if err == nil {
		err = s.cfg.Store.AddPending(r.Context(), state, &store.Pending{
			Browser: b.ID, Request: a.params.Encode(), Approved: approved, KeyID: key.ID, Expires: time.Now().Add(pendingTime),
		}, maxPending)
	}
	if err != nil {
		return &stopped{a: a, err: internalError("keeping the sign-in", err)}
	}
	var opts entra.AuthorizeOptions
	for _, p := range strings.Fields(a.prompt) {
		if p == "login" || p == "select_account" {
			opts.Prompt = p
		}
	}
	if hint := a.params.Get("login_hint"); len(hint) <= 256 {
		opts.LoginHint = hint
	}
	sum := sha256.Sum256([]byte(verifier))
	redirect(w, s.cfg.Upstream.AuthorizeURL(state, nonce, base64url(sum[:]), opts))
	return nil
}
