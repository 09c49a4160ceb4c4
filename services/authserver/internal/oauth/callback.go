package oauth

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/ory/fosite"

	"vmcp/internal/entra"
	"vmcp/services/authserver/internal/store"
)

// callback takes Entra's answer.
func (s *Server) callback(w http.ResponseWriter, r *http.Request) error {
	stale := &Error{Code: codeInvalidRequest,
		Text: "This sign-in has expired or was finished already. If the application is not connected, start again there."}
	if len(r.URL.RawQuery) > maxForm {
		return stale
	}
	answer, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil || len(answer["state"]) != 1 {
		return stale.because(err)
	}
	browser, _, err := s.browser(r)
	if err != nil {
		return internalError("finding the browser", err)
	}
	// Whoever brings the state, it is spent: an address that was sent to somebody else leads nowhere twice.
	state := answer.Get("state")
	p, err := s.cfg.Store.TakePending(r.Context(), state, time.Now())
	if errors.Is(err, store.ErrNotFound) {
		return stale
	} else if err != nil {
		return internalError("finding the sign-in", err)
	}
	if browser == nil || browser.ID != p.Browser {
		return &Error{Code: codeAccessDenied, Status: http.StatusForbidden,
			Text: "This sign-in was started in another browser, and was stopped. If you did not start it, somebody may have sent you the address: close this page. Otherwise start again from the application."}
	}
	a, err := s.resume(r, p.Request, p.Approved)
	if err != nil {
		return err
	}
	who, err := s.redeem(r.Context(), p, state, answer)
	if err != nil {
		return upstreamRefused(a, who, err, p.Approved)
	}
	sub := subject(s.cfg.Upstreams[0].Name, who.Person)
	recordOf(r).caller = sub
	if !p.Approved && browser.Sub != sub {
		// Somebody else agreed to this client in this browser. This person is asked, too.
		if err := s.cfg.Store.SwitchPerson(r.Context(), browser.ID, sub); err != nil {
			return &stopped{a: a, err: internalError("switching the person", err)}
		}
		redirect(w, s.cfg.AuthorizeOrigin+pathAuthorize+"?"+p.Request)
		return nil
	}
	to, err := s.issueCode(r.Context(), w, a, browser, sub, who)
	if err != nil {
		return &stopped{a: a, err: err}
	}
	recordOf(r).outcome = "signed_in"
	redirect(w, to)
	return nil
}

// redeem asks Entra who it is.
func (s *Server) redeem(ctx context.Context, p *store.Pending, state string, answer url.Values) (*entra.Identity, error) {
	code, err := s.cfg.Upstream.Callback(answer)
	if err != nil {
		return nil, err
	}
	nonce, verifier, err := s.upstreamSecrets(p.KeyID, state)
	if err != nil {
		return nil, internalError("finding the secrets of the state", err)
	}
	return s.cfg.Upstream.Exchange(ctx, code, verifier, nonce)
}

// upstreamRefused is why there is no sign-in: the client hears of it if the person declined, else the person reads it.
func upstreamRefused(a *authorization, who *entra.Identity, err error, approved bool) error {
	e := upstreamError(err)
	if e == nil {
		return &stopped{a: a, err: err}
	}
	out := &stopped{a: a, err: e, approved: approved}
	var ee *entra.Error
	errors.As(err, &ee)
	switch {
	case ee.Kind == entra.Declined:
		out.tell = true
	case ee.Kind == entra.NoRole:
		out.who = who
	}
	return out
}

// issueCode keeps who signed in, and makes the client's code.
func (s *Server) issueCode(ctx context.Context, w http.ResponseWriter, a *authorization, b *store.Browser, sub string, who *entra.Identity) (string, error) {
	now := time.Now()
	for _, scope := range a.scopes {
		a.fosite.GrantScope(scope)
	}
	a.fosite.GrantAudience(s.cfg.Endpoint.Audience)
	se := &session{family: store.Family{TSID: random(16), Sub: sub, AuthTime: now, Expires: now.Add(familyLife)}}
	a.fosite.SetID(se.family.TSID)
	var code string
	err := s.cfg.Store.Tx(ctx, func(ctx context.Context) error {
		if err := s.cfg.Store.SignIn(ctx, b.ID, sub, a.client.ID, a.to.String(), a.consent); err != nil {
			return err
		}
		resp, err := s.provider.NewAuthorizeResponse(ctx, a.fosite, se)
		if err != nil {
			return err
		}
		code = resp.GetCode()
		if err := s.cfg.Store.SetGrant(ctx, grantOf(se.family.TSID, who, now)); err != nil { // now the family is there
			return err
		}
		return s.renew(ctx, w, b, browserTime)
	})
	if err != nil {
		var f *fosite.RFC6749Error
		if errors.As(err, &f) {
			return "", err
		}
		return "", internalError("keeping the sign-in", err)
	}
	return s.answer(a, url.Values{"code": {code}, "iss": {s.cfg.Issuer}}), nil
}

func grantOf(tsid string, who *entra.Identity, now time.Time) *store.Grant {
	return &store.Grant{TSID: tsid, TID: who.TID, OID: who.OID, Name: who.Name, Email: who.Email, Roles: who.Roles,
		RefreshToken: string(who.RefreshToken), Checked: now}
}
