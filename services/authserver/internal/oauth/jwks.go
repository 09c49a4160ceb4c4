package oauth

import (
	"encoding/base64"
	"net/http"
)

// serveJWKS publishes the keys (RFC 7517). authz gets them pushed and does not ask here.
func (s *Server) serveJWKS(w http.ResponseWriter, r *http.Request) error {
	jwks, etag := s.cfg.Keys.JWKS()
	serveDocument(w, r, jwks, etag)
	return nil
}

func base64url(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
