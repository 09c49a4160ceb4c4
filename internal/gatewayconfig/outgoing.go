package gatewayconfig

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"vmcp/api/v1beta1"
)

// outgoing checks spec.outgoingAuth and spec.passthroughHeaders.
func (r *resolver) outgoing() {
	out := r.spec.OutgoingAuth
	if out != nil {
		oneOf(r.server, "spec.outgoingAuth.source", out.Source, "discovered", "discovered", "inline")
		if out.Default != nil {
			r.way("spec.outgoingAuth.default", out.Default)
		}
		for _, name := range slices.Sorted(maps.Keys(out.Backends)) {
			at, way := join("spec.outgoingAuth.backends", name), out.Backends[name]
			r.workload(at, name)
			r.way(at, &way)
		}
	}
	for i, name := range r.spec.PassthroughHeaders {
		at, key := indexed("spec.passthroughHeaders", i), http.CanonicalHeaderKey(name)
		switch {
		case !headerName.MatchString(name):
			r.server.bad(at, "want the name of a header")
		case reserved(key), key == "Authorization", key == "Cookie", key == "Forwarded", strings.HasPrefix(key, "X-Forwarded-"):
			r.server.bad(at, "header %s is never passed on to backends", key)
		case slices.Contains(r.gateway.Aggregator.PassHeaders, key):
			r.server.bad(at, "header %s is named twice", key)
		default:
			r.gateway.Aggregator.PassHeaders = append(r.gateway.Aggregator.PassHeaders, key)
		}
	}
}

func (r *resolver) way(at string, way *v1beta1.BackendAuthConfig) {
	if oneOf(r.server, at+".type", way.Type, "", "discovered", "externalAuthConfigRef") == "externalAuthConfigRef" &&
		way.ExternalAuthConfigRef == nil {
		r.server.bad(at+".externalAuthConfigRef", "required with this type")
	}
}

// workload checks that name is a backend of the group.
func (r *resolver) workload(at, name string) bool {
	known := r.memberNames()
	if slices.Contains(known, name) {
		return true
	}
	r.server.bad(at, "no backend %q in the group%s", name, didYouMean(name, known))
	return false
}

func (r *resolver) memberNames() []string {
	var names []string
	for _, d := range r.docs {
		if isBackend(d.kind) && d.reached {
			names = append(names, d.name)
		}
	}
	return names
}

// authenticate adds to b what its MCPExternalAuthConfig says. own is the backend's own reference; outgoingAuth.backends
// comes before it, outgoingAuth.default after it, and with source inline the backend is not asked.
func (r *resolver) authenticate(d *document, b *Backend, own *v1beta1.ExternalAuthConfigRef) {
	from, at, ref := d, "spec.externalAuthConfigRef.name", own
	if out := r.spec.OutgoingAuth; out != nil {
		way, named := out.Backends[b.Name]
		switch {
		case named && way.Type == "externalAuthConfigRef":
			from, at, ref = r.server, join("spec.outgoingAuth.backends", b.Name)+".externalAuthConfigRef.name", way.ExternalAuthConfigRef
		case named:
		case out.Source == "inline" || own == nil:
			ref = nil
			if out.Default != nil && out.Default.Type == "externalAuthConfigRef" {
				from, at, ref = r.server, "spec.outgoingAuth.default.externalAuthConfigRef.name", out.Default.ExternalAuthConfigRef
			} else if out.Default != nil {
				ref = own
			}
		}
	}
	if own != nil && ref != own {
		r.note(d, "spec.externalAuthConfigRef", "not used: the VirtualMCPServer's outgoingAuth decides for this backend")
	}
	if ref == nil {
		return
	}
	doc := r.refer(from, at, "MCPExternalAuthConfig", ref.Name)
	if doc == nil {
		return
	}
	r.credentials(doc, from, at, b)
	if b.Transport == TransportStdio && doc.object.(*v1beta1.MCPExternalAuthConfig).Spec.Type != "unauthenticated" {
		r.note(from, at, "no effect on %s: a stdio server gets no headers; give it secrets as environment variables", b.Name)
	}
}

// authTypes are the values of MCPExternalAuthConfig's type.
var authTypes = []string{"unauthenticated", "headerInjection", "bearerToken", "tokenExchange", "upstreamInject", "xaa", "awsSts", "obo", "embeddedAuthServer"}

// credentials adds the header that doc describes. from and at are the reference to it.
func (r *resolver) credentials(doc, from *document, at string, b *Backend) {
	spec := doc.object.(*v1beta1.MCPExternalAuthConfig).Spec
	known := r.src.Parts&PartAggregator != 0
	switch kind := oneOf(doc, "spec.type", spec.Type, "", authTypes...); kind {
	case "", "unauthenticated":
	case "headerInjection":
		h := spec.HeaderInjection
		if h == nil {
			doc.bad("spec.headerInjection", "required with type headerInjection")
			return
		}
		value := r.secret(doc, "spec.headerInjection.valueSecretRef", h.ValueSecretRef, PartAggregator)
		setHeader(doc, "spec.headerInjection.headerName", b, h.HeaderName, value, known)
	case "bearerToken":
		if spec.BearerToken == nil {
			doc.bad("spec.bearerToken", "required with type bearerToken")
			return
		}
		token := r.secret(doc, "spec.bearerToken.tokenSecretRef", spec.BearerToken.TokenSecretRef, PartAggregator)
		setHeader(doc, "spec.bearerToken.tokenSecretRef", b, "Authorization", "Bearer "+token, known)
	default:
		from.bad(at, "MCPExternalAuthConfig %s has type %s, which is not supported yet (supported: unauthenticated, headerInjection, bearerToken)",
			doc.name, kind)
	}
}
