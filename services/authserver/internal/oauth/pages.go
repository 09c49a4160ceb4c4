package oauth

import (
	"bytes"
	"embed"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"vmcp/internal/entra"
)

//go:embed pages/*.html
var pageFiles embed.FS

var pages = template.Must(template.ParseFS(pageFiles, "pages/*.html"))

// page is what every page has.
type page struct {
	Title     string
	Gateway   string
	Nonce     string // of the style
	Reference string // stands in the log
}

// action is a way on.
type action struct {
	Text string
	To   template.URL // made by us: an address of ours, or a redirect URI that was compared
	Main bool
}

// write renders a page without scripts, frames or anything from elsewhere. formAction is where a form may lead,
// redirects after it included.
func (s *Server) write(w http.ResponseWriter, r *http.Request, status int, name string, p *page, data any, formAction ...string) {
	p.Gateway, p.Nonce, p.Reference = s.cfg.Name, random(16), recordOf(r).reference
	var body bytes.Buffer
	if err := pages.ExecuteTemplate(&body, name, data); err != nil {
		s.cfg.Log.Error("rendering a page: " + err.Error())
		http.Error(w, "the sign-in service has a problem of its own", http.StatusInternalServerError)
		return
	}
	actions := "'none'"
	if len(formAction) > 0 {
		actions = strings.Join(formAction, " ")
	}
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'nonce-"+p.Nonce+"'; form-action "+actions+"; frame-ancestors 'none'; base-uri 'none'")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin") // no-referrer would make the form's Origin null
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	w.Write(body.Bytes()) // the browser is gone where it fails
}

func (s *Server) consentPage(w http.ResponseWriter, r *http.Request, a *authorization, transaction string) {
	data := struct {
		page
		Client, Host, Resource, Scopes, Action, Transaction string
		Loopback                                            bool
	}{
		page:   page{Title: "Let " + clientName(a) + " use " + s.cfg.Name + "?"},
		Client: clientName(a), Host: a.to.shown(), Resource: s.cfg.Endpoint.URL, Scopes: strings.Join(a.scopes, " "),
		Action: pathConsent, Transaction: transaction, Loopback: a.to.loopback(),
	}
	// Chrome applies form-action to the redirects after the form, too: to Entra, and with a known account on to the client.
	s.write(w, r, http.StatusOK, "consent.html", &data.page, &data, "'self'", s.cfg.UpstreamOrigin, a.to.source())
}

// clientName is checked again here: a client may have been registered before the rule was.
func clientName(a *authorization) string {
	if name := displayName(a.client.Name); name != "" {
		return name
	}
	return "an application without a name"
}

// errorPage tells a person what went wrong and what to do. With a, they can go back and the application hears of it.
func (s *Server) errorPage(w http.ResponseWriter, r *http.Request, e *Error, a *authorization) {
	data := struct {
		page
		Paragraphs []string
		Actions    []action
	}{page: page{Title: "Sign-in did not work"}, Paragraphs: []string{e.Text}}
	switch {
	case e.Code == codeServerError && upstreamError(e) == nil:
		data.Paragraphs = []string{"The sign-in service has a problem of its own. Try again in a minute; if it stays, tell the administrators of this gateway."}
	case e.Status == http.StatusNotFound:
		data.Title = "Nothing is here"
	case e.Code == codeUnavailable:
		data.Title = "Sign-in is not available at the moment"
	}
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(e.RetryAfter/time.Second)))
	}
	if a != nil {
		data.Actions = []action{
			{"Try again", template.URL(s.cfg.AuthorizeOrigin + pathAuthorize + "?" + a.params.Encode()), true},
			s.back(a, e, false),
		}
	}
	s.write(w, r, e.status(), "message.html", &data.page, &data)
}

// back is the way to the application, which hears of e. It says where it leads.
func (s *Server) back(a *authorization, e *Error, main bool) action {
	return action{"Back to " + clientName(a) + " at " + a.to.shown(), template.URL(s.errorRedirect(a, e)), main}
}

// refusalPage tells a person what the application would have heard, and leaves it to them to go there.
func (s *Server) refusalPage(w http.ResponseWriter, r *http.Request, e *Error, a *authorization) {
	data := struct {
		page
		Paragraphs []string
		Actions    []action
	}{
		page: page{Title: "This request was refused"},
		Paragraphs: []string{
			clientName(a) + " asked for something that is not possible here: " + e.Text + ".",
			"You were not sent back to it, because nobody has agreed to it in this browser. Nobody has checked the name, or the address.",
		},
		Actions: []action{s.back(a, e, false)},
	}
	if e.Code == codeAccessDenied {
		data.Title = "Nothing was connected"
		data.Paragraphs = []string{clientName(a) + " was not connected to " + s.cfg.Name + ". You may close this page."}
	}
	s.write(w, r, e.status(), "message.html", &data.page, &data)
}

// shownAs is how a person knows their account.
func shownAs(who *entra.Identity) string {
	account := who.Username
	if account == "" {
		account = who.Email
	}
	switch {
	case account == "":
		return who.Name
	case who.Name == "":
		return account
	}
	return who.Name + " (" + account + ")"
}

// noRolePage tells a person who signed in, but has no role.
func (s *Server) noRolePage(w http.ResponseWriter, r *http.Request, a *authorization, who *entra.Identity) {
	again := url.Values{}
	for name, values := range a.params {
		again[name] = values
	}
	again.Set("prompt", "select_account")
	data := struct {
		page
		Paragraphs []string
		Actions    []action
	}{
		page: page{Title: "Your account has no role here"},
		Paragraphs: []string{
			"You are signed in as " + shownAs(who) + ", but this account has no role for " + s.cfg.Name + ", so " + clientName(a) + " was not connected.",
			"Ask the administrators of " + s.cfg.Name + " to assign one of its app roles to your account in Microsoft Entra, to you or to a group that you are a direct member of. Then sign in again.",
		},
		Actions: []action{
			s.back(a, fail(codeAccessDenied, "the account has no role here"), true),
			{"Use another account", template.URL(s.cfg.AuthorizeOrigin + pathAuthorize + "?" + again.Encode()), false},
		},
	}
	s.write(w, r, http.StatusForbidden, "message.html", &data.page, &data)
}
