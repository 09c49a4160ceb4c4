// Package entra is Microsoft Entra ID as an OpenID Connect client sees it: the address of the sign-in page, the exchange
// of codes and refresh tokens, what makes Entra's tokens good, and which app roles they give. All we know about Entra is
// here, its errors included.
//
// It keeps nothing about people: sessions, consent, the storage of refresh tokens and the coalescing of refreshes are
// the authorization server's.
//
// The roles come from the access token, verified in full. Clients shall not look into access tokens that are for
// others; this one is for us, because client and API are the same app registration. It is v1.0 or v2.0 as the
// registration says (requestedAccessTokenVersion), so two verifiers are configured in full, and the token's own ver only
// chooses between them. The ID token, always v2.0, proves that the answer belongs to the sign-in that we started.
package entra

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"vmcp/internal/guid"
	"vmcp/internal/loopback"
	"vmcp/internal/secret"
)

// Config is one app registration.
type Config struct {
	IssuerURL   string              // https://login.microsoftonline.com/<tenant GUID>/v2.0, also of a national cloud
	ClientID    string              // application (client) id, a GUID
	Secret      func() secret.Value // asked for each request, so that it can change
	RedirectURI string
	// Scopes must have openid, profile, and at least one of the application's own API, such as
	// api://<client id>/mcp.access. Without offline_access there are no refresh tokens.
	Scopes []string
	// Address replaces the origin where Entra is reached, for a simulated tenant: http on loopback. Every iss stays.
	Address string
	Log     *zap.Logger
	Timeout time.Duration // of one request to Entra; 0: 10 s
}

// Client is one app registration in one tenant. It is safe for concurrent use. Run must run beside its use.
type Client struct {
	cfg       Config
	tenant    string
	host      string   // of the issuer
	resource  string   // of the API, as Scopes have it
	names     []string // scopes of the API without the resource
	scope     string   // as sent
	scopeGUID string   // the same with the client id for the resource, see AADSTS90009
	useGUID   atomic.Bool
	audiences []string
	v1, v2    *verifier
	http      *http.Client
	log       *zap.Logger
}

// securityTokenServices are the origins of v1.0 issuers, by the host of v2.0 ones: Microsoft's public cloud, its US
// government cloud and 21Vianet's ("National clouds").
var securityTokenServices = map[string]string{
	"login.microsoftonline.com":        "https://sts.windows.net",
	"login.microsoftonline.us":         "https://sts.windows.net",
	"login.partner.microsoftonline.cn": "https://sts.chinacloudapi.cn",
}

var oidcScopes = []string{"openid", "profile", "email", "offline_access"}

// New checks the configuration, all of it, and asks nobody: Entra may be away. Keys are fetched by Run.
func New(cfg Config) (*Client, error) {
	c := &Client{cfg: cfg, log: cfg.Log}
	if c.cfg.Timeout == 0 {
		c.cfg.Timeout = 10 * time.Second
	}
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	issuer, err := url.Parse(cfg.IssuerURL)
	if err != nil || issuer.Scheme != "https" || securityTokenServices[issuer.Host] == "" {
		return nil, fmt.Errorf("entra: issuer %q: want https://login.microsoftonline.com/<tenant GUID>/v2.0", cfg.IssuerURL)
	}
	c.host = issuer.Host
	c.tenant, _, _ = strings.Cut(strings.TrimPrefix(issuer.Path, "/"), "/")
	switch {
	case !guid.Valid(c.tenant):
		// common and organizations are any tenant, consumers are private accounts; a domain's tokens say the GUID.
		bad("issuer: tenant %q is not a GUID in lower case: want the directory (tenant) id, not common, organizations, consumers or a domain", c.tenant)
	case cfg.IssuerURL != "https://"+c.host+"/"+c.tenant+"/v2.0":
		bad("issuer %q: want https://%s/%s/v2.0", cfg.IssuerURL, c.host, c.tenant)
	}
	if !guid.Valid(cfg.ClientID) {
		bad("client id %q is not a GUID in lower case: want the application (client) id", cfg.ClientID)
	}
	if cfg.Secret == nil || cfg.Secret() == "" {
		bad("the client secret is empty")
	}
	if u, err := url.Parse(cfg.RedirectURI); err != nil || u.Host == "" {
		bad("redirect URI %q is not an absolute URL", cfg.RedirectURI)
	}
	if err := c.readScopes(); err != nil {
		bad("scopes: %w", err)
	}
	if err := checkAddress(cfg.Address); err != nil {
		bad("address %q: %w", cfg.Address, err)
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("entra: %w", errors.Join(errs...))
	}
	c.audiences = []string{cfg.ClientID, "api://" + cfg.ClientID, c.resource}
	c.http = newHTTP(c.cfg.Timeout)
	c.v2 = c.newVerifier("2.0", cfg.IssuerURL, "/v2.0/.well-known/openid-configuration")
	c.v1 = c.newVerifier("1.0", securityTokenServices[c.host]+"/"+c.tenant+"/", "/.well-known/openid-configuration")
	return c, nil
}

// readScopes finds the API among the scopes.
func (c *Client) readScopes() error {
	for _, need := range []string{"openid", "profile"} { // without profile there is no oid in ID tokens
		if !slices.Contains(c.cfg.Scopes, need) {
			return fmt.Errorf("%s is missing", need)
		}
	}
	var inGUID []string
	for _, s := range c.cfg.Scopes {
		if slices.Contains(oidcScopes, s) {
			inGUID = append(inGUID, s)
			continue
		}
		i := strings.LastIndexByte(s, '/')
		if i < 1 || i == len(s)-1 || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return fmt.Errorf("%q: want openid, profile, email, offline_access and api://<client id>/<scope>", s)
		}
		if c.resource != "" && c.resource != s[:i] { // AADSTS700022
			return fmt.Errorf("%q: scopes of one API only, and there is %s", s, c.resource)
		}
		c.resource = s[:i]
		c.names = append(c.names, s[i+1:])
		inGUID = append(inGUID, c.cfg.ClientID+s[i:])
	}
	if c.resource == "" {
		return errors.New("none of the application's own API (api://<client id>/mcp.access): Entra's access token would be for Graph, without roles")
	}
	c.scope, c.scopeGUID = strings.Join(c.cfg.Scopes, " "), strings.Join(inGUID, " ")
	return nil
}

// checkAddress accepts nothing, or an http origin on this machine.
func checkAddress(text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" || u.Host == "" || text != "http://"+u.Host {
		return errors.New("want http://127.0.0.1:<port>")
	}
	if !loopback.Host(u.Hostname()) {
		return errors.New("only an address on this machine may stand in for Entra")
	}
	return nil
}

// Run fetches Entra's signing keys, now, each hour, and when a token names an unknown key, until ctx ends.
func (c *Client) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.v1.keys.Run(ctx) })
	g.Go(func() error { return c.v2.keys.Run(ctx) })
	return g.Wait()
}

// Ready returns nil when tokens of both versions can be verified, else why not.
func (c *Client) Ready() error { return errors.Join(c.v1.keys.Ready(), c.v2.keys.Ready()) }

// url returns an address of Entra: path follows the tenant.
func (c *Client) url(path string) string { return "https://" + c.host + "/" + c.tenant + path }

// AuthorizeOptions are parameters that not every sign-in has.
type AuthorizeOptions struct {
	Prompt    string // select_account, login, consent, none
	LoginHint string // user principal name
	Claims    string // of an Error: what Conditional Access asks for
}

// AuthorizeURL returns where to send the browser. challenge is the S256 code challenge of RFC 7636. It never has
// resource: Entra refuses that parameter (AADSTS9010010, AADSTS901002), which clients send to us.
func (c *Client) AuthorizeURL(state, nonce, challenge string, opts AuthorizeOptions) string {
	q := url.Values{
		"client_id": {c.cfg.ClientID}, "response_type": {"code"}, "response_mode": {"query"}, "redirect_uri": {c.cfg.RedirectURI},
		"scope": {c.scope}, "state": {state}, "nonce": {nonce}, "code_challenge": {challenge}, "code_challenge_method": {"S256"},
	}
	for name, value := range map[string]string{"prompt": opts.Prompt, "login_hint": opts.LoginHint, "claims": opts.Claims} {
		if value != "" {
			q.Set(name, value)
		}
	}
	return c.reach(c.url("/oauth2/v2.0/authorize")) + "?" + q.Encode()
}

// Callback returns the code of an answer that the browser brought to the redirect URI, or an *Error. The state must have
// been checked before.
func (c *Client) Callback(q url.Values) (code string, err error) {
	for name, values := range q {
		if len(values) > 1 { // RFC 6749 section 3.1
			return "", failed("the answer has %.32q more than once", name)
		}
	}
	// RFC 9207. Entra does not send it today; what is there must fit.
	if iss := q.Get("iss"); iss != "" && iss != c.cfg.IssuerURL {
		return "", failed("the answer is of another issuer")
	}
	if q.Get("error") != "" {
		return "", fromCallback(q)
	}
	if code = q.Get("code"); code == "" || len(code) > 8<<10 {
		return "", failed("the answer has neither a code nor an error")
	}
	return code, nil
}
