// Package oauth is the authorization server that MCP clients see: OAuth 2.1 with PKCE for public clients, and the pages
// that a person meets on the way to Entra and back. One file per endpoint.
//
// It owns what is checked before and around fosite (provider.go), consent, the way through the browser, errors and
// pages. It leaves to store what is atomic, to keys who signs, to entra what Entra says, and to authz what an access
// token is good for.
//
// A sign-in: authorize checks the request and shows the consent page; consent makes a state that only this browser can
// bring back, and sends the browser to Entra; callback takes the state, redeems Entra's code, and gives the client a
// code of ours; token redeems that. Each refresh asks Entra for the roles again.
package oauth

import (
	"context"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"

	"vmcp/internal/entra"
	"vmcp/internal/gatewayconfig"
	"vmcp/internal/keyring"
	"vmcp/internal/secret"
	"vmcp/internal/token"
	"vmcp/services/authserver/internal/signing"
	"vmcp/services/authserver/internal/store"
)

// Paths of the endpoints, below the issuer.
const (
	pathAuthorize = "/oauth/authorize"
	pathConsent   = "/oauth/consent"
	pathCallback  = "/oauth/callback"
	pathToken     = "/oauth/token"
	pathRegister  = "/oauth/register"
	pathRevoke    = "/oauth/revoke"
	pathMetadata  = "/.well-known/oauth-authorization-server" // RFC 8414
	pathOIDC      = "/.well-known/openid-configuration"
	pathJWKS      = "/.well-known/jwks.json"
)

const (
	pendingTime = 10 * time.Minute // for a person to get through pages
	maxPending  = 10_000
	maxClients  = 10_000
)

// Config is what a Server is made of.
type Config struct {
	gatewayconfig.AuthServer
	Name     string // of the virtual server, for people
	Endpoint gatewayconfig.Endpoint
	Upstream *entra.Client
	// UpstreamOrigin is where the browser is sent to sign in, for the pages' policy.
	UpstreamOrigin string
	Store          *store.DB
	Keys           *signing.Keys
	Secrets        *keyring.Ring         // binds forms and states to browsers
	HMACKeys       func() []secret.Value // of codes and refresh tokens; the first makes new ones
	Log            *zap.Logger
}

// Server serves the endpoints.
type Server struct {
	cfg       Config
	secure    bool // cookies by TLS only
	resources []string
	scopes    []string // scopes_supported
	metadata  []byte
	provider  *provider
	handler   http.Handler

	starting    *limiter // sign-ins
	registering *limiter
	roles       singleflight.Group // by family: one question to Entra at a time
	refreshing  singleflight.Group // by refresh token
}

// New makes a server.
func New(cfg Config) *Server {
	s := &Server{
		cfg:         cfg,
		secure:      strings.HasPrefix(cfg.Issuer, "https:"),
		starting:    newLimiter(5, 100, 200, 1000),
		registering: newLimiter(rate.Every(time.Second), 60, 10, 200),
	}
	for _, r := range []string{cfg.Endpoint.URL, cfg.Endpoint.ResourceURL, cfg.Endpoint.Audience} {
		if c, ok := canonicalResource(r); ok {
			s.resources = append(s.resources, c)
		}
	}
	for _, scope := range slices.Concat(cfg.Endpoint.Scopes, cfg.ClientScopes, []string{"openid", "profile", "email", "offline_access"}) {
		if !slices.Contains(s.scopes, scope) {
			s.scopes = append(s.scopes, scope)
		}
	}
	s.provider = newProvider(s)
	s.metadata = s.metadataDocument()

	mux := http.NewServeMux()
	for _, e := range []struct {
		path, methods string
		page          bool // for people
		serve         func(http.ResponseWriter, *http.Request) error
	}{
		{pathAuthorize, "GET", true, s.authorize},
		{pathConsent, "POST", true, s.consent},
		{pathCallback, "GET", true, s.callback},
		{pathToken, "POST", false, s.token},
		{pathRevoke, "POST", false, s.revoke},
		{pathRegister, "POST", false, s.register},
		{pathMetadata, "GET", false, s.serveMetadata},
		{pathOIDC, "GET", false, s.serveMetadata},
		{pathJWKS, "GET", false, s.serveJWKS},
	} {
		mux.HandleFunc(e.path, func(w http.ResponseWriter, r *http.Request) {
			if !e.page && allowOrigins(w, r, e.methods) {
				return
			}
			var err error
			if r.Method != e.methods && !(e.methods == "GET" && r.Method == "HEAD" && !e.page) {
				w.Header().Set("Allow", e.methods)
				err = &Error{Code: codeInvalidRequest, Text: "this address takes " + e.methods + " requests only", Status: http.StatusMethodNotAllowed}
			} else {
				err = e.serve(w, r)
			}
			switch {
			case err == nil:
			case e.page:
				s.showError(w, r, err)
			default:
				writeError(w, r, err)
			}
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.showError(w, r, &Error{Code: "not_found", Text: "There is no such page here.", Status: http.StatusNotFound})
	})
	s.handler = s.logged(mux)
	return s
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// allowOrigins lets programs in a browser talk to the endpoints that need no cookie. It reports whether the request was
// a preflight and is answered.
func allowOrigins(w http.ResponseWriter, r *http.Request, methods string) bool {
	if r.Header.Get("Origin") == "" {
		return false
	}
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*") // without credentials
	h.Set("Access-Control-Expose-Headers", "WWW-Authenticate, Retry-After")
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	h.Set("Access-Control-Allow-Methods", methods)
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, MCP-Protocol-Version")
	h.Set("Access-Control-Max-Age", "7200")
	w.WriteHeader(http.StatusNoContent)
	return true
}

// end ends a family.
func (s *Server) end(ctx context.Context, tsid, reason string) error {
	now := time.Now()
	ended, err := s.cfg.Store.EndFamily(ctx, tsid, reason, now, now.Add(s.forget()))
	if ended {
		s.cfg.Log.Warn("sign-in ended", zap.String("tsid", tsid), zap.String("reason", reason))
	}
	return err
}

// forget is how long after a revocation the last token may live that it is about, clocks of others included.
func (s *Server) forget() time.Duration { return s.cfg.AccessToken + token.Margin }

// addressHeader is where Envoy writes the client's address. It takes the header away from clients.
const addressHeader = "X-Vmcp-Client-Address"

// clientIP is the address that Envoy found: the peer's, or what proxies say that the documents trust (annotation
// vmcp/trusted-proxies). Only Envoy reaches our socket. Where clients connect by loopback they share one address: nothing
// else tells them apart that they could not choose themselves.
func clientIP(r *http.Request) string {
	if address := r.Header.Get(addressHeader); address != "" {
		return address
	}
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		return host
	}
	return "unknown"
}
