package gatewayconfig

import (
	"net/url"
	"slices"
	"strings"
	"time"

	"vmcp/api/v1beta1"
	"vmcp/internal/guid"
	"vmcp/internal/secret"
)

// authServer resolves spec.authServerConfig.
func (r *resolver) authServer() {
	const at = "spec.authServerConfig"
	cfg := r.spec.AuthServerConfig
	if cfg == nil || r.gateway.Authz.Anonymous {
		return
	}
	u := r.url(r.server, at+".issuer", cfg.Issuer, urlRule{origin: true, http: r.gateway.Authz.Issuer.AllowHTTP})
	server := &AuthServer{Issuer: cfg.Issuer, AuthorizeOrigin: cfg.Issuer, Confidential: cfg.AllowConfidentialClientRegistration,
		ClientScopes: cfg.BaselineClientScopes}
	r.gateway.AuthServer = server
	if base := cfg.AuthorizationEndpointBaseURL; base != "" {
		r.url(r.server, at+".authorizationEndpointBaseUrl", base, urlRule{origin: true, http: r.gateway.Authz.Issuer.AllowHTTP})
		server.AuthorizeOrigin = base
	}
	server.SigningKeys = r.secrets(at+".signingKeySecretRefs", cfg.SigningKeySecretRefs, 5)
	server.HMACKeys = r.secrets(at+".hmacSecretRefs", cfg.HMACSecretRefs, 5)
	for i, key := range server.HMACKeys {
		if r.src.Parts&PartAuthServer != 0 && key != "" && len(key) < 32 {
			r.server.bad(indexed(at+".hmacSecretRefs", i), "the secret has %d bytes; want 32 or more", len(key))
		}
	}
	r.lifespans(at+".tokenLifespans", server)
	switch value := metaOf(r.server.object).Annotations[registerAnnotation]; value {
	case "", "enabled":
		server.Registration = true
	case "disabled":
	default:
		r.server.bad(join("metadata.annotations", registerAnnotation), "want enabled or disabled")
	}
	switch value := metaOf(r.server.object).Annotations[removedAnnotation]; value {
	case "", "keep":
	case "drop":
		server.DropRemovedKeys = true
	default:
		r.server.bad(join("metadata.annotations", removedAnnotation), "want keep, until their tokens have expired, or drop")
	}
	server.RevocationSilence = time.Minute
	if text, ok := metaOf(r.server.object).Annotations[silenceAnnotation]; ok {
		d, err := time.ParseDuration(text)
		if err != nil || d != 0 && d < 10*time.Second {
			r.server.bad(join("metadata.annotations", silenceAnnotation), "want 10s or more, or 0s for no limit")
		}
		server.RevocationSilence = d
	}
	if len(cfg.BaselineClientScopes) > 10 {
		r.server.bad(at+".baselineClientScopes", "%d scopes; at most 10", len(cfg.BaselineClientScopes))
	}
	if len(cfg.UpstreamProviders) > 1 {
		r.note(r.server, at+".upstreamProviders", "only the first provider signs people in")
	}
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

// lifespans resolves tokenLifespans, each within the limits of the kind.
func (r *resolver) lifespans(at string, server *AuthServer) {
	server.AccessToken, server.RefreshToken, server.AuthCode = 15*time.Minute, 7*24*time.Hour, time.Minute
	spans := r.spec.AuthServerConfig.TokenLifespans
	if spans == nil {
		return
	}
	for _, s := range []struct {
		field       string
		value       *v1beta1.Duration
		to          *time.Duration
		least, most time.Duration
	}{
		{"accessTokenLifespan", spans.AccessTokenLifespan, &server.AccessToken, time.Minute, 24 * time.Hour},
		{"refreshTokenLifespan", spans.RefreshTokenLifespan, &server.RefreshToken, time.Hour, 720 * time.Hour},
		{"authCodeLifespan", spans.AuthCodeLifespan, &server.AuthCode, 30 * time.Second, 10 * time.Minute},
	} {
		if s.value == nil {
			continue
		}
		if *s.to = time.Duration(*s.value); *s.to < s.least || *s.to > s.most {
			r.server.bad(at+"."+s.field, "want between %v and %v", s.least, s.most)
		}
	}
}

// secrets resolves a list of references of the authorization server.
func (r *resolver) secrets(at string, refs []v1beta1.SecretKeyRef, most int) []secret.Value {
	if len(refs) > most {
		r.server.bad(at, "%d references; at most %d", len(refs), most)
	}
	var values []secret.Value
	for i := range refs {
		values = append(values, r.secret(r.server, indexed(at, i), &refs[i], PartAuthServer))
	}
	return values
}

// callback is where the authorization server takes answers of identity providers.
const callback = "/oauth/callback"

func (r *resolver) upstream(at string, p *v1beta1.UpstreamProvider, issuer *url.URL) Upstream {
	c := p.OIDCConfig
	up := Upstream{Name: p.Name, IssuerURL: c.IssuerURL, ClientID: c.ClientID, RedirectURI: c.RedirectURI, Scopes: c.Scopes}
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
		switch {
		case u == nil || issuer == nil || c.RedirectURI == origin(issuer)+callback:
		case origin(u) == origin(issuer):
			r.server.bad(at+".redirectUri", "must be %s: nobody would come back from sign-in at another path of the issuer's address", origin(issuer)+callback)
		default:
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
	case !guid.Valid(tenant):
		r.server.bad(at, "want the tenant's GUID in lower case: tokens name the tenant by it, and common, organizations or a domain match none")
	case rest != "v2.0":
		r.server.bad(at, "want https://%s/%s/v2.0", u.Host, tenant)
	}
	return true
}
