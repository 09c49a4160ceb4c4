// Package entrasim is one Entra tenant with one app registration, on loopback: discovery and keys of both versions,
// the sign-in page, the token endpoint, and the errors that Entra gives. It is the peer of tests and of the demo, and it
// can misbehave.
//
// What stands in documents and tokens is Microsoft's, addresses included: a client must replace the address where it
// connects, and nothing else, so that its checks run as they do against the real one. Where a behaviour comes from
// stands beside it, as the topic of Microsoft's documentation or the AADSTS number of its error list; what nobody
// could check against a live tenant is marked "unverified".
//
// Left out: consent, MFA pages, groups, national clouds, on-behalf-of, Graph, SAML. Tokens are real, accounts are
// anybody's: never point a gateway that others reach at it.
package entrasim

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"vmcp/internal/guid"
	"vmcp/internal/loopback"
	"vmcp/internal/secret"
)

// Config is the app registration and where the tenant listens.
type Config struct {
	Listen       string // a loopback address such as 127.0.0.1:0
	Tenant       string // directory (tenant) id, a GUID
	ClientID     string // application (client) id, a GUID
	ClientSecret secret.Value
	RedirectURIs []string // of platform Web
	AppIDURI     string   // empty: api://<client id>
	Scope        string   // name of the exposed scope; empty: mcp.access
	TokenVersion int      // requestedAccessTokenVersion of the manifest: 0 (null) and 1 give v1.0 tokens, 2 gives v2.0
	SSO          bool     // one account stays signed in, as in a browser that knows one; else the page always asks
	Directory    Directory
}

const (
	authority = "https://login.microsoftonline.com"
	sts       = "https://sts.windows.net"
	graph     = "00000003-0000-0000-c000-000000000000" // Microsoft Graph, the same in every tenant

	codeTime    = 10 * time.Minute    // "Authorization code flow": about 10 minutes
	refreshTime = 90 * 24 * time.Hour // "Refresh tokens": 90 days, for web apps
	maxForm     = 64 << 10
)

// What codes and refresh tokens begin with, for tests that look for them where they must not be. Access and ID tokens
// begin with eyJhbGci.
const (
	CodePrefix    = "1.AXsimcode."
	RefreshPrefix = "1.AXsimrefresh."
)

// Tenant is a running simulation. Its methods may be called at any time, from anywhere.
type Tenant struct {
	URL string // http://127.0.0.1:port

	cfg    Config
	server *http.Server
	done   chan struct{} // closed when the server has stopped

	mu       sync.Mutex
	offset   time.Duration // of the tenant's clock
	dir      Directory
	version  int
	secrets  []credential
	keys     []*signingKey // the last one signs, all are published
	faults   Faults
	codes    map[string]*grant
	refresh  map[string]*grant
	sessions map[string]string // cookie value → user principal name
	counts   map[string]int    // requests by path
	requests []url.Values      // to the token endpoint, the last 1000
}

type credential struct {
	value   secret.Value
	expired bool
}

// Start starts a tenant.
func Start(cfg Config) (*Tenant, error) {
	cfg.AppIDURI = cmp.Or(cfg.AppIDURI, "api://"+cfg.ClientID)
	cfg.Scope = cmp.Or(cfg.Scope, "mcp.access")
	if len(cfg.Directory.People) == 0 {
		cfg.Directory = DefaultDirectory()
	}
	cfg.Directory = cfg.Directory.clone()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("simulated tenant: %w", err)
	}
	key, err := newKey()
	if err != nil {
		return nil, fmt.Errorf("simulated tenant: %w", err)
	}
	l, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("simulated tenant: %w", err)
	}
	if !l.Addr().(*net.TCPAddr).IP.IsLoopback() {
		l.Close()
		return nil, fmt.Errorf("simulated tenant: %s is not a loopback address: its accounts are anybody's", cfg.Listen)
	}
	t := &Tenant{
		URL: "http://" + l.Addr().String(), cfg: cfg, done: make(chan struct{}),
		dir: cfg.Directory, version: cfg.TokenVersion, secrets: []credential{{value: cfg.ClientSecret}}, keys: []*signingKey{key},
		codes: map[string]*grant{}, refresh: map[string]*grant{}, sessions: map[string]string{}, counts: map[string]int{},
	}
	t.server = &http.Server{Handler: t.handler(), ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	go func() {
		defer close(t.done)
		t.server.Serve(l)
	}()
	return t, nil
}

func (cfg *Config) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !guid.Valid(cfg.Tenant) {
		bad("tenant %q is not a GUID in lower case", cfg.Tenant)
	}
	if !guid.Valid(cfg.ClientID) {
		bad("client id %q is not a GUID in lower case", cfg.ClientID)
	}
	if cfg.ClientSecret == "" {
		bad("a client secret is required")
	}
	if !loopback.Address(cfg.Listen) {
		bad("listen address %q is not of the form 127.0.0.1:port: accounts here are anybody's", cfg.Listen)
	}
	if cfg.TokenVersion < 0 || cfg.TokenVersion > 2 {
		bad("access token version %d: want 0 (not set), 1 or 2", cfg.TokenVersion)
	}
	for _, text := range cfg.RedirectURIs {
		if err := checkRedirectURI(text); err != nil {
			bad("redirect URI %q: %w", text, err)
		}
	}
	errs = append(errs, cfg.Directory.validate())
	return errors.Join(errs...)
}

// checkRedirectURI applies "Redirect URI (reply URL) restrictions": https, or http on localhost; no fragment, no wildcard.
// http on 127.0.0.1 is accepted too, which the portal refuses and the manifest editor takes.
func checkRedirectURI(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return errors.New("not a URL")
	case u.Scheme != "https" && (u.Scheme != "http" || u.Hostname() != "localhost" && u.Hostname() != "127.0.0.1"):
		return errors.New("want https, or http on localhost")
	case u.Host == "" || u.Fragment != "" || slices.Contains([]byte(text), '*'):
		return errors.New("want a host, no fragment and no wildcard")
	}
	return nil
}

// Close stops the tenant.
func (t *Tenant) Close() {
	t.server.Close()
	<-t.done
}

// Issuer returns the issuer of the tenant's v2.0 tokens, https://login.microsoftonline.com/<tenant>/v2.0.
func (t *Tenant) Issuer() string { return authority + "/" + t.cfg.Tenant + "/v2.0" }

func (t *Tenant) issuerV1() string { return sts + "/" + t.cfg.Tenant + "/" }

// Now returns the time of the tenant's clock.
func (t *Tenant) Now() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.now()
}

// now needs mu.
func (t *Tenant) now() time.Time { return time.Now().Add(t.offset) }

func (t *Tenant) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{tenant}/v2.0/.well-known/openid-configuration", t.discovery(2))
	mux.HandleFunc("GET /{tenant}/.well-known/openid-configuration", t.discovery(1))
	mux.HandleFunc("GET /{tenant}/discovery/v2.0/keys", t.serveKeys(2))
	mux.HandleFunc("GET /{tenant}/discovery/keys", t.serveKeys(1))
	mux.HandleFunc("GET /{tenant}/oauth2/v2.0/authorize", t.authorize)
	mux.HandleFunc("POST /{tenant}/oauth2/v2.0/authorize", t.authorize)
	mux.HandleFunc("POST /{tenant}/oauth2/v2.0/token", t.token)
	mux.HandleFunc("GET /{tenant}/oauth2/v2.0/logout", t.logout)
	mux.HandleFunc("GET /{$}", t.home)
	return t.misbehave(mux)
}

// random returns a text of 208 bits that looks like Entra's opaque values.
func random(prefix string) string { return prefix + rand.Text() + rand.Text()[:16] }
