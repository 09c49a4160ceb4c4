package oauth

import (
	"net/http"
	"net/url"
)

// consent takes the answer to the consent page. We are one application at Entra for many clients, so Entra's own consent
// says nothing about a client: without this page whoever registers one could ride on it.
func (s *Server) consent(w http.ResponseWriter, r *http.Request) {
	again := &Error{Code: codeInvalidRequest, Text: "This page is out of date. Go back to the application and start again."}
	if !s.sameOrigin(r) {
		s.errorPage(w, r, &Error{Code: codeInvalidRequest, Status: http.StatusForbidden,
			Text: "This form was sent from another site, and nothing was done. Go back to the application and start again."}, nil)
		return
	}
	form, err := readForm(w, r)
	if err != nil {
		s.errorPage(w, r, again.because(err), nil)
		return
	}
	browser, cookie, err := s.browser(r)
	if err != nil {
		s.errorPage(w, r, internalError("finding the browser", err), nil)
		return
	}
	request, ok, late := s.openRequest(form.Get("transaction"), cookie)
	switch {
	case cookie == "":
		s.errorPage(w, r, &Error{Code: codeInvalidRequest, Status: http.StatusForbidden,
			Text: "Your browser did not send our cookie. Allow cookies for this site, go back to the application and start again."}, nil)
		return
	case !ok:
		s.errorPage(w, r, &Error{Code: codeInvalidRequest, Status: http.StatusForbidden, Text: again.Text}, nil)
		return
	case late:
		s.errorPage(w, r, again, nil)
		return
	}
	params, err := url.ParseQuery(request)
	if err != nil {
		s.errorPage(w, r, internalError("reading the sign-in", err), nil)
		return
	}
	a, err := s.readAuthorization(r.Context(), params) // the client may be gone since
	if err != nil {
		s.refuse(w, r, a, asError(err), false)
		return
	}
	recordOf(r).client = a.client.ID
	if form.Get("decision") != "approve" {
		s.refuse(w, r, a, &Error{Code: codeAccessDenied, Text: "the person declined", Status: http.StatusForbidden}, false)
		return
	}
	if !s.starting.allow(clientIP(r)) { // from here on something is kept
		s.errorPage(w, r, errTooMany, nil)
		return
	}
	if browser, err = s.admit(r.Context(), w, browser); err != nil {
		s.errorPage(w, r, internalError("renewing the cookie", err), a)
		return
	}
	s.toUpstream(w, r, a, browser, true)
}

// sameOrigin refuses what browsers say comes from elsewhere. Programs that are no browser say nothing.
func (s *Server) sameOrigin(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" {
		return false
	}
	origin := r.Header.Get("Origin")
	return origin == "" || origin == s.cfg.Issuer || origin == s.cfg.AuthorizeOrigin
}
