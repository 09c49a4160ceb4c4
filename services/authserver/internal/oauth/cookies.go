package oauth

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"time"

	"vmcp/services/authserver/internal/store"
)

const (
	browserTime  = 30 * 24 * time.Hour
	strangerTime = time.Hour // a browser where nobody has signed in yet
)

// cookieName: with __Host- no other host, no path and no plain connection can set it. That prefix needs https, so plain
// http, which is for loopback, has a plain name.
func (s *Server) cookieName() string {
	if s.secure {
		return "__Host-vmcp_browser"
	}
	return "vmcp_browser"
}

func (s *Server) setCookie(w http.ResponseWriter, value string, life time.Duration) {
	http.SetCookie(w, &http.Cookie{Name: s.cookieName(), Value: value, Path: "/", MaxAge: int(life / time.Second),
		HttpOnly: true, Secure: s.secure, SameSite: http.SameSiteLaxMode}) // Lax: Entra's answer is a navigation
}

// browser finds the browser by its cookie; nil for a stranger. cookie is then what we gave the stranger: a value that is
// not of ours is as good as none.
func (s *Server) browser(r *http.Request) (b *store.Browser, cookie string, err error) {
	c, err := r.Cookie(s.cookieName())
	if err != nil || len(c.Value) > 300 {
		return nil, "", nil
	}
	if until, ok := s.cfg.Secrets.Open(strangerPurpose, c.Value, nil); ok {
		if time.Now().After(textTime(until)) {
			return nil, "", nil
		}
		return nil, c.Value, nil
	}
	b, err = s.cfg.Store.Browser(r.Context(), c.Value, time.Now())
	if errors.Is(err, store.ErrNotFound) {
		return nil, "", nil
	}
	return b, c.Value, err
}

const (
	strangerPurpose = "authserver stranger"
	consentPurpose  = "authserver consent"
)

func timeText(t time.Time) []byte { return t.AppendFormat(nil, time.RFC3339) }

// textTime is the zero time, which is long past, for what is none.
func textTime(text []byte) time.Time {
	t, _ := time.Parse(time.RFC3339, string(text))
	return t
}

// meet is browser, and gives a stranger a cookie. It says itself that it is ours and until when, so that whoever opens
// pages without end leaves nothing behind (T24).
func (s *Server) meet(w http.ResponseWriter, r *http.Request) (*store.Browser, string, error) {
	b, cookie, err := s.browser(r)
	if cookie != "" || err != nil {
		return b, cookie, err
	}
	cookie = s.cfg.Secrets.Seal(strangerPurpose, timeText(time.Now().Add(strangerTime)), nil)
	s.setCookie(w, cookie, strangerTime)
	return nil, cookie, nil
}

// admit keeps a browser whose person agreed to something, and gives it another cookie.
func (s *Server) admit(ctx context.Context, w http.ResponseWriter, b *store.Browser) (*store.Browser, error) {
	if b != nil {
		life := strangerTime
		if b.Sub != "" {
			life = browserTime
		}
		return b, s.renew(ctx, w, b, life)
	}
	cookie := random(32)
	b, err := s.cfg.Store.AddBrowser(ctx, cookie, time.Now().Add(strangerTime), maxPending)
	if err == nil {
		s.setCookie(w, cookie, strangerTime)
	}
	return b, err
}

// renew gives a browser another cookie, so that one which somebody planted or saw is worth nothing (session fixation).
func (s *Server) renew(ctx context.Context, w http.ResponseWriter, b *store.Browser, life time.Duration) error {
	cookie := random(32)
	if err := s.cfg.Store.RenewBrowser(ctx, b.ID, cookie, time.Now().Add(life)); err != nil {
		return err
	}
	s.setCookie(w, cookie, life)
	return nil
}

// sealRequest puts an authorization request into a form, for the browser that the form is shown in and for a while.
func (s *Server) sealRequest(request, cookie string) string {
	plain := append(timeText(time.Now().Add(pendingTime)), ' ')
	return s.cfg.Secrets.Seal(consentPurpose, append(plain, request...), []byte(cookie))
}

// openRequest undoes sealRequest. ok is false for what this browser was not shown, late for what it was shown long ago.
func (s *Server) openRequest(sealed, cookie string) (request string, ok, late bool) {
	plain, ok := s.cfg.Secrets.Open(consentPurpose, sealed, []byte(cookie))
	until, rest, _ := strings.Cut(string(plain), " ")
	return rest, ok, time.Now().After(textTime([]byte(until)))
}

// upstreamSecrets are the nonce and the PKCE verifier of a state. They are derived, so nothing of them lies in the store.
func (s *Server) upstreamSecrets(keyID, state string) (nonce, verifier string, err error) {
	key := s.cfg.Secrets.ByID(keyID)
	if key == nil {
		return "", "", errors.New("the key of this state is gone")
	}
	derive := func(purpose string) string {
		return base64.RawURLEncoding.EncodeToString(key.MAC("authserver "+purpose, []byte(state)))
	}
	return derive("nonce"), derive("verifier"), nil
}
