package gatewayconfig

import (
	"net/url"
	"regexp"
	"slices"
	"strings"

	"vmcp/api/v1beta1"
)

// authServer resolves spec.authServerConfig.
func (r *resolver) authServer() {
	const at = "spec.authServerConfig"
	cfg := r.spec.AuthServerConfig
	if cfg == nil || r.gateway.Authz.Anonymous {
		return
	}
	u := r.url(r.server, at+".issuer", cfg.Issuer, urlRule{origin: true, http: r.gateway.Authz.Issuer.AllowHTTP})
	server := &AuthServer{Issuer: cfg.Issuer}
	r.gateway.AuthServer = server
	if len(cfg.UpstreamProviders) == 0 {
		r.server.bad(at+".upstreamProviders", "required: at least one identity provider")
	}
	var names []string
	for i := range cfg.UpstreamProviders {
		p, at := &cfg.UpstreamProviders[i], indexed(at+".upstreamProviders", i)
		if len(p.Name) > 63 || !dnsLabel.MatchString(p.Name) {
			r.server.bad(at+".name", "required: lower-case letters, digits and dashes")
		} else if slices.Contains(names, p.Name) {
			r.server.bad(at+".name", "a second provider %s", p.Name)
		}
		names = append(names, p.Name)
		switch oneOf(r.server, at+".type", p.Type, "", "oidc", "oauth2") {
		case "oidc":
			if p.OIDCConfig == nil {
				r.server.bad(at+".oidcConfig", "required with type oidc")
				continue
			}
			server.Upstreams = append(server.Upstreams, r.upstream(at+".oidcConfig", p, u))
		case "oauth2":
			r.server.bad(at+".type", "oauth2 is not supported yet; want oidc")
		}
	}
}

// callback is where the authorization server takes answers of identity providers.
const callback = "/oauth/callback"

func (r *resolver) upstream(at string, p *v1beta1.UpstreamProvider, issuer *url.URL) Upstream {
	c := p.OIDCConfig
	up := Upstream{Name: p.Name, Type: p.Type, IssuerURL: c.IssuerURL, ClientID: c.ClientID, RedirectURI: c.RedirectURI, Scopes: c.Scopes}
	entra := false
	if u := r.url(r.server, at+".issuerUrl", c.IssuerURL, urlRule{slash: true}); u != nil {
		entra = r.entra(at+".issuerUrl", u)
	}
	if c.ClientID == "" {
		r.server.bad(at+".clientId", "required")
	}
	if c.ClientSecretRef != nil {
		up.ClientSecret = r.secret(r.server, at+".clientSecretRef", c.ClientSecretRef, PartAuthServer)
	}
	switch {
	case c.RedirectURI == "" && issuer != nil:
		up.RedirectURI = origin(issuer) + callback
	case c.RedirectURI != "":
		u := r.url(r.server, at+".redirectUri", c.RedirectURI, urlRule{http: r.gateway.Authz.Issuer.AllowHTTP})
		if u != nil && issuer != nil && c.RedirectURI != origin(issuer)+callback {
			r.note(r.server, at+".redirectUri", "the authorization server listens at %s: this address must lead there", origin(issuer)+callback)
		}
	}
	switch {
	case len(c.Scopes) == 0:
		up.Scopes = []string{"openid", "offline_access"}
	case !slices.Contains(c.Scopes, "openid"):
		r.server.bad(at+".scopes", "must contain openid")
	}
	if entra && !slices.ContainsFunc(up.Scopes, func(s string) bool { return strings.Contains(s, "/") }) {
		r.note(r.server, at+".scopes", "no scope of your own application (api://<client-id>/mcp.access): Entra's access token would be for Graph, without roles")
	}
	return up
}

var guid = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// entra checks an Entra issuer, which is exact in tokens: one tenant by its GUID, the v2.0 endpoint.
func (r *resolver) entra(at string, u *url.URL) bool {
	switch u.Hostname() {
	case "login.microsoftonline.com", "login.microsoftonline.us", "login.partner.microsoftonline.cn":
	case "sts.windows.net":
		r.server.bad(at, "the v1 issuer; want https://login.microsoftonline.com/<tenant GUID>/v2.0")
		return true
	default:
		return false
	}
	tenant, rest, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	switch {
	case !guid.MatchString(tenant):
		r.server.bad(at, "want the tenant's GUID in lower case: tokens name the tenant by it, and common, organizations or a domain match none")
	case rest != "v2.0":
		r.server.bad(at, "want https://%s/%s/v2.0", u.Host, tenant)
	}
	return true
}
