package oauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/ory/fosite"

	"vmcp/internal/entra"
	"vmcp/services/authserver/internal/store"
)

// OAuth error codes: RFC 6749 sections 4.1.2.1 and 5.2, RFC 8707, RFC 7591, RFC 7009, OpenID Connect.
const (
	codeInvalidRequest     = "invalid_request"
	codeInvalidClient      = "invalid_client"
	codeInvalidGrant       = "invalid_grant"
	codeInvalidScope       = "invalid_scope"
	codeInvalidTarget      = "invalid_target"
	codeUnauthorizedClient = "unauthorized_client"
	codeUnsupportedGrant   = "unsupported_grant_type"
	codeUnsupportedType    = "unsupported_response_type"
	codeAccessDenied       = "access_denied"
	codeServerError        = "server_error"
	codeUnavailable        = "temporarily_unavailable"
	codeLoginRequired      = "login_required"
	codeRequestObject      = "request_not_supported"
	codeRequestURI         = "request_uri_not_supported"
	codeInvalidRedirect    = "invalid_redirect_uri"
	codeInvalidMetadata    = "invalid_client_metadata"
)

// Error is what a client may see of something that went wrong: an OAuth code and a constant text. The cause is for the
// log.
type Error struct {
	Code       string
	Text       string
	Status     int           // HTTP, of JSON answers and pages; 0: by the code
	RetryAfter time.Duration // zero: none
	cause      error
}

func (e *Error) Error() string {
	if e.cause != nil {
		return e.Code + ": " + e.Text + ": " + e.cause.Error()
	}
	return e.Code + ": " + e.Text
}

func (e *Error) Unwrap() error { return e.cause }

func fail(code, text string) *Error { return &Error{Code: code, Text: text} }

// because adds the private cause.
func (e *Error) because(cause error) *Error {
	c := *e
	c.cause = cause
	return &c
}

func internalError(doing string, cause error) *Error {
	return (&Error{Code: codeServerError, Text: "the sign-in service has a problem of its own: try again"}).because(fmt.Errorf("%s: %w", doing, cause))
}

func (e *Error) status() int {
	switch {
	case e.Status != 0:
		return e.Status
	case e.Code == codeInvalidClient:
		return http.StatusUnauthorized
	case e.Code == codeServerError:
		return http.StatusInternalServerError
	case e.Code == codeUnavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusBadRequest
}

// stopped is an error of a sign-in that the person can go on from.
type stopped struct {
	a        *authorization // whose client and redirect URI are good; nil: neither is known to be
	err      error
	tell     bool            // the client is to hear of it, where the browser may be sent there
	approved bool            // the person has agreed to the client in this sign-in
	who      *entra.Identity // who signed in and has no role; nil: that is not the trouble
}

func (s *stopped) Error() string { return s.err.Error() }
func (s *stopped) Unwrap() error { return s.err }

// showError answers a person. Where it should, the client hears of it instead.
func (s *Server) showError(w http.ResponseWriter, r *http.Request, err error) {
	e, st := asError(err), &stopped{}
	errors.As(err, &st)
	known := false
	if st.a != nil && st.tell && e.Code != codeServerError {
		if known, err = s.known(r, st.a); err != nil {
			st, e = &stopped{}, internalError("finding the consent", err)
		}
	}
	noteError(r, e)
	switch {
	case st.who != nil:
		s.noRolePage(w, r, st.a, st.who)
	case st.a == nil || !st.tell || e.Code == codeServerError:
		s.errorPage(w, r, e, st.a)
	case st.approved || known:
		redirect(w, s.errorRedirect(st.a, e))
	default:
		s.refusalPage(w, r, e, st.a)
	}
}

// texts are our words for fosite's errors. Its own name what the client sent.
var texts = map[string]string{
	codeInvalidRequest:     "the request is malformed or lacks a parameter",
	codeInvalidClient:      "the client is not known here, or did not prove who it is: register again",
	codeInvalidGrant:       "the code or refresh token is not valid, was used, or belongs to another client: sign in again",
	codeInvalidScope:       "a scope that this client may not ask for",
	codeUnauthorizedClient: "this client may not use this grant",
	codeUnsupportedGrant:   "want grant_type authorization_code or refresh_token",
	codeUnsupportedType:    "want response_type code",
	codeAccessDenied:       "denied",
}

// asError makes every error one that can be shown.
func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	var f *fosite.RFC6749Error
	if !errors.As(err, &f) {
		return internalError("unexpected", err)
	}
	switch {
	case errors.Is(err, store.ErrTaken): // lost a race for a code or token
		return fail(codeInvalidGrant, texts[codeInvalidGrant]).because(store.ErrTaken)
	case texts[f.ErrorField] != "":
		return fail(f.ErrorField, texts[f.ErrorField]).because(fmt.Errorf("%s %s", f.HintField, f.DebugField))
	}
	return internalError(f.ErrorField, fmt.Errorf("%s %s", f.HintField, f.DebugField))
}

// writeError answers a program (RFC 6749 section 5.2).
func writeError(w http.ResponseWriter, r *http.Request, err error) {
	e := asError(err)
	noteError(r, e)
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(e.RetryAfter.Round(time.Second)/time.Second)))
	}
	if e.Code == codeInvalidClient && r.Header.Get("Authorization") != "" {
		w.Header().Set("WWW-Authenticate", `Basic realm="vmcp"`)
	}
	writeJSON(w, e.status(), map[string]string{"error": e.Code, "error_description": e.Text})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store") // RFC 6749 section 5.1
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) // the client is gone where it fails
}

// errorRedirect is where the client hears of e (RFC 6749 section 4.1.2.1, RFC 9207).
func (s *Server) errorRedirect(a *authorization, e *Error) string {
	params := url.Values{"error": {e.Code}, "error_description": {e.Text}, "iss": {s.cfg.Issuer}}
	return s.answer(a, params)
}

// answer adds the client's state.
func (s *Server) answer(a *authorization, params url.Values) string {
	if a.state != "" {
		params.Set("state", a.state)
	}
	return withParams(a.redirect, params)
}

// upstreamError says what an error of the identity provider means for the client. nil: it is none of its errors.
func upstreamError(err error) *Error {
	var e *entra.Error
	if !errors.As(err, &e) {
		return nil
	}
	out := &Error{Code: e.Answer(), Text: e.UserText(), Status: http.StatusForbidden, cause: err}
	switch out.Code {
	case codeUnavailable:
		out.Status, out.RetryAfter = http.StatusServiceUnavailable, max(e.RetryAfter, 5*time.Second)
	case codeServerError:
		out.Status = http.StatusBadGateway
	}
	return out
}
