package oauth

import (
	"encoding/json"
	"net/http"
	"slices"

	"vmcp/services/authserver/internal/store"
)

// metadataDocument is RFC 8414 and OpenID Connect Discovery in one: clients try both addresses and read what they know.
func (s *Server) metadataDocument() []byte {
	methods := s.authMethods()
	doc := map[string]any{
		"issuer":                                         s.cfg.Issuer,
		"authorization_endpoint":                         s.cfg.AuthorizeOrigin + pathAuthorize,
		"token_endpoint":                                 s.cfg.Issuer + pathToken,
		"revocation_endpoint":                            s.cfg.Issuer + pathRevoke,
		"jwks_uri":                                       s.cfg.Issuer + pathJWKS,
		"scopes_supported":                               s.scopes,
		"response_types_supported":                       []string{"code"},
		"response_modes_supported":                       []string{"query"},
		"grant_types_supported":                          []string{"authorization_code", "refresh_token"},
		"token_endpoint_auth_methods_supported":          methods,
		"revocation_endpoint_auth_methods_supported":     methods,
		"code_challenge_methods_supported":               []string{"S256"},
		"authorization_response_iss_parameter_supported": true, // RFC 9207
		// Required or misleading by their defaults in OpenID Connect. We issue no ID tokens.
		"subject_types_supported":               []string{"public"},
		"id_token_signing_alg_values_supported": []string{"ES256"},
		"request_parameter_supported":           false,
		"request_uri_parameter_supported":       false,
	}
	if s.cfg.Registration {
		doc["registration_endpoint"] = s.cfg.Issuer + pathRegister
	}
	b, err := json.Marshal(doc)
	if err != nil {
		panic(err) // strings and booleans
	}
	return b
}

func (s *Server) authMethods() []string {
	if s.cfg.Confidential {
		return []string{authNone, authBasic, authPost}
	}
	return []string{authNone}
}

func (s *Server) serveMetadata(w http.ResponseWriter, r *http.Request) error {
	serveDocument(w, r, s.metadata, `"`+base64url(store.Hash(string(s.metadata)))+`"`)
	return nil
}

// serveDocument serves what is the same for everybody.
func serveDocument(w http.ResponseWriter, r *http.Request, body []byte, etag string) {
	h := w.Header()
	h.Set("Cache-Control", "public, max-age=300")
	h.Set("ETag", etag)
	if slices.Contains(r.Header.Values("If-None-Match"), etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	w.Write(body) // the client is gone where it fails
}
