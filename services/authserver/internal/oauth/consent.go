package oauth

import "net/http"

// consent takes the answer to the consent page. We are one application at Entra for many clients, so Entra's own consent
// says nothing about a client: without this page whoever registers one could ride on it.
func (s *Server) consent(w http.ResponseWriter, r *http.Request) error {
	again := &Error{Code: codeInvalidRequest, Text: "This page is out of date. Go back to the application and start again."}
	if !s.sameOrigin(r) {
		return &Error{Code: codeInvalidRequest, Status: http.StatusForbidden,
			Text: "This form was sent from another site, and nothing was done. Go back to the application and start again."}
	}
	form, err := readForm(w, r)
	if err != nil {
		return again.because(err)
	}
	browser, cookie, err := s.browser(r)
	if err != nil {
		return internalError("finding the browser", err)
	}
	request, ok, late := s.openRequest(form.Get("transaction"), cookie)
	switch {
	case cookie == "":
		return &Error{Code: codeInvalidRequest, Status: http.StatusForbidden,
			Text: "Your browser did not send our cookie. Allow cookies for this site, go back to the application and start again."}
	case !ok:
		return &Error{Code: codeInvalidRequest, Status: http.StatusForbidden, Text: again.Text}
	case late:
		return again
	}
	a, err := s.resume(r, request, false)
	if err != nil {
		return err
	}
	if form.Get("decision") != "approve" {
		return &stopped{a: a, err: &Error{Code: codeAccessDenied, Text: "the person declined", Status: http.StatusForbidden}, tell: true}
	}
	if !s.starting.allow(clientIP(r)) { // from here on something is kept
		return errTooMany
	}
	if browser, err = s.admit(r.Context(), w, browser); err != nil {
		return &stopped{a: a, err: internalError("renewing the cookie", err)}
	}
	return s.toUpstream(w, r, a, browser, true)
}

// sameOrigin refuses what browsers say comes from elsewhere. Programs that are no browser say nothing.
func (s *Server) sameOrigin(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" {
		return false
	}
	origin := r.Header.Get("Origin")
	return origin == "" || origin == s.cfg.Issuer || origin == s.cfg.AuthorizeOrigin
}
