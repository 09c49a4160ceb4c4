package oauth

import (
	"context"
	"crypto/hmac"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"time"

	"vmcp/services/authserver/internal/store"
)

const (
	browserTime  = 30 * 24 * time.Hour
	strangerTime = 15 * time.Minute // a browser where nobody has signed in yet
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

// browser finds the browser by its cookie; nil for a stranger. A value that we did not give is a stranger's.
func (s *Server) browser(r *http.Request) (b *store.Browser, cookie string, err error) {
	c, err := r.Cookie(s.cookieName())
	if err != nil || len(c.Value) > 100 {
		return nil, "", nil
	}
	b, err = s.cfg.Store.Browser(r.Context(), c.Value, time.Now())
	if errors.Is(err, store.ErrNotFound) {
		return nil, "", nil
	}
	return b, c.Value, err
}

// meet is browser, and gives a stranger a cookie.
func (s *Server) meet(w http.ResponseWriter, r *http.Request) (*store.Browser, string, error) {
	b, cookie, err := s.browser(r)
	if b != nil || err != nil {
		return b, cookie, err
	}
	cookie = random(32)
	b, err = s.cfg.Store.AddBrowser(r.Context(), cookie, time.Now().Add(strangerTime))
	if err == nil {
		s.setCookie(w, cookie, strangerTime)
	}
	return b, cookie, err
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

// formToken binds a form to the browser that it was shown in.
func (s *Server) formToken(cookie, transaction string) string {
	key := s.cfg.Secrets.Newest()
	return key.ID + "." + base64.RawURLEncoding.EncodeToString(key.MAC("authserver form", []byte(cookie+"\x00"+transaction)))
}

func (s *Server) checkFormToken(cookie, transaction, token string) bool {
	id, mac, _ := strings.Cut(token, ".")
	key := s.cfg.Secrets.ByID(id)
	got, err := base64.RawURLEncoding.DecodeString(mac)
	return key != nil && err == nil && hmac.Equal(got, key.MAC("authserver form", []byte(cookie+"\x00"+transaction)))
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
