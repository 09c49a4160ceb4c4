package gatewayconfig

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"vmcp/api/v1beta1"
)

// incoming resolves spec.incomingAuth: the endpoint, the issuer and the policies.
func (r *resolver) incoming() {
	const at = "spec.incomingAuth"
	in := r.spec.IncomingAuth
	if in == nil {
		r.server.bad(at, "required (type: oidc or anonymous)")
		return
	}
	r.policies(in)
	r.gateway.Endpoint = Endpoint{Path: "/mcp", Origins: r.origins()}
	r.gateway.TrustedProxies = r.trustedProxies()
	switch oneOf(r.server, at+".type", in.Type, "", "oidc", "anonymous") {
	case "anonymous":
		r.gateway.Authz.Anonymous = true
		if in.OIDCConfigRef != nil {
			r.note(r.server, at+".oidcConfigRef", "ignored: incomingAuth.type is anonymous, so nobody signs in")
		}
		if r.spec.AuthServerConfig != nil {
			r.note(r.server, "spec.authServerConfig", "ignored: incomingAuth.type is anonymous, so nobody signs in")
		}
	case "oidc":
		if in.OIDCConfigRef == nil {
			r.server.bad(at+".oidcConfigRef", "required with type oidc")
			return
		}
		r.oidc(at+".oidcConfigRef", in.OIDCConfigRef)
	}
}

func (r *resolver) oidc(at string, ref *v1beta1.OIDCConfigReference) {
	e := &r.gateway.Endpoint
	e.ResourceURL, e.Audience, e.Scopes = ref.ResourceURL, ref.Audience, ref.Scopes
	if len(e.Scopes) == 0 {
		e.Scopes = []string{"openid"}
	}
	if ref.Audience == "" {
		r.server.bad(at+".audience", "required: the aud that tokens must have, usually the same as resourceUrl")
	}
	allowHTTP := false
	if doc := r.refer(r.server, at+".name", "MCPOIDCConfig", ref.Name); doc != nil {
		allowHTTP = r.issuer(doc)
	}
	if ref.ResourceURL == "" {
		r.server.bad(at+".resourceUrl", "required: the URL under which clients reach this gateway, such as https://mcp.example.com")
		return
	}
	if u := r.url(r.server, at+".resourceUrl", ref.ResourceURL, urlRule{http: allowHTTP}); u != nil {
		r.endpoint(at+".resourceUrl", u)
	}
}

// endpoint derives E, the one URL of the MCP endpoint, from resourceUrl.
func (r *resolver) endpoint(at string, u *url.URL) {
	e := &r.gateway.Endpoint
	if e.Path = u.Path; e.Path == "" {
		e.Path = "/mcp"
	}
	e.URL = origin(u) + e.Path
	for _, taken := range []string{"/oauth", "/.well-known"} {
		if e.Path == taken || strings.HasPrefix(e.Path, taken+"/") {
			r.server.bad(at, "the path %s belongs to the authorization server; choose another, such as /mcp", taken)
		}
	}
}

// issuer resolves an MCPOIDCConfig. It returns whether plain http is accepted.
func (r *resolver) issuer(doc *document) (allowHTTP bool) {
	spec := doc.object.(*v1beta1.MCPOIDCConfig).Spec
	switch oneOf(doc, "spec.type", spec.Type, "", "inline", "kubernetesServiceAccount") {
	case "kubernetesServiceAccount":
		doc.bad("spec.type", "kubernetesServiceAccount is not supported yet; want inline")
		return false
	case "":
		return false
	}
	in := spec.Inline
	if in == nil {
		doc.bad("spec.inline", "required with type inline")
		return false
	}
	if spec.KubernetesServiceAccount != nil {
		doc.bad("spec.kubernetesServiceAccount", "not allowed with type inline")
	}
	rule := urlRule{http: in.InsecureAllowHTTP, slash: true}
	r.url(doc, "spec.inline.issuer", in.Issuer, rule)
	if in.JWKSURL != "" {
		r.url(doc, "spec.inline.jwksUrl", in.JWKSURL, urlRule{http: in.InsecureAllowHTTP, slash: true})
	}
	r.gateway.Authz.Issuer = Issuer{
		URL:            in.Issuer,
		JWKSURL:        in.JWKSURL,
		AllowHTTP:      in.InsecureAllowHTTP || r.src.Loopback && strings.HasPrefix(in.Issuer, "http:"),
		AllowPrivateIP: in.JWKSAllowPrivateIP || in.ProtectedResourceAllowPrivateIP,
		CABundle:       r.caBundle(doc, "spec.inline.caBundleRef", in.CABundleRef),
	}
	if own := r.spec.AuthServerConfig; own != nil {
		r.gateway.Authz.Issuer.Own = true
		at := "spec.authServerConfig.issuer"
		if in.Issuer != own.Issuer && own.Issuer != "" && in.Issuer != "" && !doc.at("spec.inline.issuer").failed {
			r.server.bad(at, "must equal the issuer of MCPOIDCConfig %s (%s:%d), byte for byte",
				doc.name, doc.file, doc.at("spec.inline.issuer").line)
		}
	}
	return in.InsecureAllowHTTP
}

// annotation prefixes are vmcp/; what is unknown there is a misspelling.
const (
	originsAnnotation  = "vmcp/allowed-origins"
	registerAnnotation = "vmcp/client-registration"
	silenceAnnotation  = "vmcp/revocation-silence"
	removedAnnotation  = "vmcp/removed-signing-keys"
	proxiesAnnotation  = "vmcp/trusted-proxies"
	sessionsAnnotation = "vmcp/sessions"
	featuresAnnotation = "vmcp/client-features"
	longestAnnotation  = "vmcp/longest-call"
	toolsAnnotation    = "vmcp/tool-timeouts"
	pinAnnotation      = "vmcp/pin"
	limitAnnotation    = "vmcp/name-limit"
)

// What only the operator acts on, which makes the gateway's pods.
const (
	TLSSecretAnnotation    = "vmcp/tls-secret"
	StorageAnnotation      = "vmcp/authserver-storage"
	StorageClassAnnotation = "vmcp/authserver-storage-class"
	AnonymousAnnotation    = "vmcp/allow-anonymous"
)

// annotations reports unknown annotations of ours on d.
func annotations(d *document, known ...string) {
	for key := range metaOf(d.object).Annotations {
		if strings.HasPrefix(key, "vmcp/") && !slices.Contains(known, key) {
			d.bad(join("metadata.annotations", key), "unknown annotation of a %s%s", d.kind, didYouMean(key, known))
		}
	}
}

func (r *resolver) origins() []string {
	annotations(r.server, originsAnnotation, registerAnnotation, silenceAnnotation, removedAnnotation, proxiesAnnotation, limitAnnotation,
		TLSSecretAnnotation, StorageAnnotation, StorageClassAnnotation, AnonymousAnnotation)
	var list []string
	text := metaOf(r.server.object).Annotations[originsAnnotation]
	for o := range strings.SplitSeq(text, ",") {
		if o = strings.TrimSpace(o); o == "" {
			continue
		}
		u, err := url.Parse(o)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || origin(u) != strings.ToLower(o) || !validPort(u) {
			r.server.bad(join("metadata.annotations", originsAnnotation), "want origins such as https://app.example.com, separated by commas")
			continue
		}
		list = append(list, strings.ToLower(o))
	}
	return list
}

func (r *resolver) trustedProxies() TrustedProxies {
	text, ok := metaOf(r.server.object).Annotations[proxiesAnnotation]
	if !ok {
		return TrustedProxies{}
	}
	p, err := ParseTrustedProxies(text)
	if err != nil {
		r.server.bad(join("metadata.annotations", proxiesAnnotation), "%v", err)
	}
	return p
}

// maxHops is more proxies than anybody has in a row.
const maxHops = 10

// ParseTrustedProxies reads the annotation vmcp/trusted-proxies: a number of hops, or ranges of addresses.
func ParseTrustedProxies(text string) (TrustedProxies, error) {
	var p TrustedProxies
	if n, err := strconv.Atoi(text); err == nil {
		if n < 1 || n > maxHops {
			return p, fmt.Errorf("want a number of proxies from 1 to %d, or ranges of their addresses such as 10.0.0.0/8", maxHops)
		}
		return TrustedProxies{Hops: n}, nil
	}
	for one := range strings.SplitSeq(text, ",") {
		prefix, err := netip.ParsePrefix(strings.TrimSpace(one))
		switch {
		case err != nil:
			return p, errors.New("want a number of proxies, or ranges of their addresses such as 10.0.0.0/8, separated by commas")
		case prefix != prefix.Masked():
			return p, fmt.Errorf("%s has bits beyond its length: want %s", prefix, prefix.Masked())
		case prefix.Bits() == 0:
			return p, fmt.Errorf("%s is everybody: each client could choose its own address", prefix)
		}
		p.Ranges = append(p.Ranges, prefix)
	}
	return p, nil
}
