package gatewayconfig

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"vmcp/api/v1beta1"
	"vmcp/internal/secret"
)

// groupOf is the group that a backend document says it belongs to, and whether it says so.
func groupOf(d *document) (name string, ok bool) {
	var ref *v1beta1.MCPGroupRef
	switch b := d.object.(type) {
	case *v1beta1.MCPServer:
		ref = b.Spec.GroupRef
	case *v1beta1.MCPServerEntry:
		ref = b.Spec.GroupRef
	case *v1beta1.MCPRemoteProxy:
		ref = b.Spec.GroupRef
	}
	if ref == nil {
		return "", false
	}
	return ref.Name, true
}

// members finds the backends of the server's group, in the order of the documents. A group that a backend names and that
// is nowhere is most likely a misspelling, so that is a problem of all backends, of this group or not.
func (r *resolver) members() []*document {
	at, name := "spec.groupRef.name", ""
	if r.spec.GroupRef != nil {
		name = r.spec.GroupRef.Name
	} else if r.spec.Config.GroupRef != "" {
		at, name = "spec.config.groupRef", r.spec.Config.GroupRef
	}
	group := r.refer(r.server, at, "MCPGroup", name)

	var list []*document
	for _, d := range r.docs {
		if !isBackend(d.kind) {
			continue
		}
		member, ok := groupOf(d)
		switch {
		case !ok && d.kind == "MCPServerEntry":
			d.bad("spec.groupRef", "required")
		case !ok:
		case r.lookup("MCPGroup", member, d) == nil:
			findPlaceholders(d)
			d.bad("spec.groupRef.name", "no MCPGroup %q in the %s%s", member, r.src.place(), didYouMean(member, r.names("MCPGroup")))
		case group != nil && member == name && sameNamespace(d.namespace, r.server.namespace):
			r.reach(d)
			list = append(list, d)
		}
	}
	if group != nil && len(list) == 0 {
		r.note(r.server, at, "no backend is in group %s", name)
	}
	return list
}

// backends resolves the members of the group and how the gateway authenticates itself to each.
func (r *resolver) backends(docs []*document) {
	byName := map[string]*document{}
	for _, d := range docs {
		if first := byName[d.name]; first != nil {
			d.bad("metadata.name", "a second backend %s in the group; the first is the %s at %s:%d", d.name, first.kind, first.file, first.line)
		}
		if d.name == r.server.name {
			d.bad("metadata.name", "equal to the name of the VirtualMCPServer: policies could not tell MCP::%q apart; rename one", d.name)
		}
		byName[d.name] = d
	}
	r.outgoing()
	for _, d := range docs {
		known := []string{sessionsAnnotation, featuresAnnotation, longestAnnotation, toolsAnnotation, pinAnnotation}
		if d.kind == "MCPServer" {
			known = append(known, CommandAnnotation, AddressAnnotation)
		}
		annotations(d, known...)
		b := Backend{Name: d.name, Kind: d.kind, Headers: map[string]secret.Value{}}
		switch o := d.object.(type) {
		case *v1beta1.MCPServer:
			r.image(d, &b, &o.Spec)
			r.command(d, &b)
			r.address(d, &b)
			r.authenticate(d, &b, o.Spec.ExternalAuthConfigRef)
		case *v1beta1.MCPServerEntry:
			r.remote(d, &b, o.Spec.RemoteURL, o.Spec.AllowPrivateEndpoint)
			b.Transport = Transport(oneOf(d, "spec.transport", o.Spec.Transport, "", "streamable-http", "sse"))
			b.CABundle = r.caBundle(d, "spec.caBundleRef", o.Spec.CABundleRef)
			r.forward(d, &b, o.Spec.HeaderForward)
			r.authenticate(d, &b, o.Spec.ExternalAuthConfigRef)
		case *v1beta1.MCPRemoteProxy:
			r.remote(d, &b, o.Spec.RemoteURL, o.Spec.AllowPrivateEndpoint)
			b.Transport = Transport(oneOf(d, "spec.transport", o.Spec.Transport, "streamable-http", "streamable-http", "sse"))
			r.forward(d, &b, o.Spec.HeaderForward)
			r.authenticate(d, &b, o.Spec.ExternalAuthConfigRef)
		}
		switch at := join("metadata.annotations", sessionsAnnotation); metaOf(d.object).Annotations[sessionsAnnotation] {
		case "":
		case "shared":
			b.Shared = true
		default:
			d.bad(at, "want shared, or no such annotation")
		}
		if text, given := metaOf(d.object).Annotations[longestAnnotation]; given {
			var err error
			if b.LongestCall, err = time.ParseDuration(text); err != nil || b.LongestCall < time.Second {
				d.bad(join("metadata.annotations", longestAnnotation), "want a duration of 1s or more, such as 10m")
			}
		}
		switch b.Pin = metaOf(d.object).Annotations[pinAnnotation]; b.Pin {
		case "", "report", "hide":
		default:
			d.bad(join("metadata.annotations", pinAnnotation), "want report or hide, or no such annotation")
		}
		toolTimeouts(d, &b)
		clientFeatures(d, &b)
		r.gateway.Aggregator.Backends = append(r.gateway.Aggregator.Backends, b)
		r.gateway.Authz.Backends = append(r.gateway.Authz.Backends, b.Name)
	}
}

// toolTimeouts reads limits of tools, as name=duration separated by commas.
func toolTimeouts(d *document, b *Backend) {
	text, given := metaOf(d.object).Annotations[toolsAnnotation]
	if !given {
		return
	}
	b.ToolTimeouts = map[string]time.Duration{}
	for part := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		limit, err := time.ParseDuration(value)
		if name == "" || err != nil || limit <= 0 || b.ToolTimeouts[name] != 0 {
			d.bad(join("metadata.annotations", toolsAnnotation), "want the server's own names of tools, each with a duration: build=10m, search=5s")
			return
		}
		b.ToolTimeouts[name] = limit
	}
}

// clientFeatures reads what a backend may ask of the client beyond elicitation, words separated by commas.
func clientFeatures(d *document, b *Backend) {
	text, given := metaOf(d.object).Annotations[featuresAnnotation]
	if !given {
		return
	}
	at := join("metadata.annotations", featuresAnnotation)
	for word := range strings.SplitSeq(text, ",") {
		switch word = strings.TrimSpace(word); {
		case word == "sampling":
			b.Sampling = true
		case word != "roots":
			d.bad(at, "unknown feature %q; want roots, sampling or both (elicitation is always on)", word)
		case b.Transport == TransportStdio:
			d.bad(at, "roots are directories of the client's machine, and a stdio server would take them for its own")
		default:
			b.Roots = true
		}
	}
	if b.Shared && (b.Roots || b.Sampling) {
		d.bad(at, "with %s: shared the backend can ask none of its clients", sessionsAnnotation)
	}
}

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)

func (r *resolver) image(d *document, b *Backend, spec *v1beta1.MCPServerSpec) {
	if b.Image = spec.Image; b.Image == "" {
		d.bad("spec.image", "required")
	}
	b.Transport = Transport(oneOf(d, "spec.transport", spec.Transport, "stdio", "stdio", "streamable-http", "sse"))
	b.Args = spec.Args
	b.Env = map[string]secret.Value{}
	set := func(at, name string) bool {
		if _, twice := b.Env[name]; twice || !envName.MatchString(name) {
			if twice {
				d.bad(at, "environment variable %s is set twice", name)
			} else {
				d.bad(at, "want the name of an environment variable")
			}
			return false
		}
		b.Env[name] = ""
		return true
	}
	for i, e := range spec.Env {
		if at := fmt.Sprintf("spec.env[%d].name", i); set(at, e.Name) {
			b.Env[e.Name] = secret.Value(e.Value)
		}
	}
	part := PartAggregator
	if r.runsElsewhere(d) { // the secrets are in its environment there
		part = 0
	}
	var secrets []string
	for i, s := range spec.Secrets {
		at, name := fmt.Sprintf("spec.secrets[%d]", i), s.TargetEnvName
		nameAt := at + ".targetEnvName"
		if name == "" {
			name, nameAt = s.Key, at+".key"
		}
		value := r.secret(d, at, &v1beta1.SecretKeyRef{Name: s.Name, Key: s.Key}, part)
		if set(nameAt, name) {
			b.Env[name] = value
			secrets = append(secrets, name)
		}
	}
	if r.src.Parts&part == 0 {
		for _, name := range secrets {
			delete(b.Env, name)
		}
	}
}

// remote checks remoteUrl. Loopback is for machines that the gateway shares with the backend.
func (r *resolver) remote(d *document, b *Backend, raw string, private bool) {
	const at = "spec.remoteUrl"
	u := r.url(d, at, raw, urlRule{remote: true})
	if u == nil {
		return
	}
	b.URL = raw
	switch host := u.Hostname(); {
	case isMetadata(host):
		d.bad(at, "link-local, unspecified and metadata addresses are no MCP servers")
	case isLoopback(host) && !private && !r.src.Loopback:
		d.bad(at, "a loopback address needs spec.allowPrivateEndpoint: true, or `vmcp up`")
	case u.Scheme == "http" && !isLoopback(host) && !private:
		r.note(d, at, "plain http: calls and their headers can be read on the way (spec.allowPrivateEndpoint: true says that it is a private network)")
	}
}

func (r *resolver) forward(d *document, b *Backend, h *v1beta1.HeaderForwardConfig) {
	if h == nil {
		return
	}
	const at = "spec.headerForward"
	for _, name := range slices.Sorted(maps.Keys(h.AddPlaintextHeaders)) {
		setHeader(d, join(at+".addPlaintextHeaders", name), b, name, secret.Value(h.AddPlaintextHeaders[name]), true)
	}
	for i, s := range h.AddHeadersFromSecret {
		at := fmt.Sprintf("%s.addHeadersFromSecret[%d]", at, i)
		value := r.secret(d, at+".valueSecretRef", s.ValueSecretRef, PartAggregator)
		setHeader(d, at+".headerName", b, s.HeaderName, value, r.src.Parts&PartAggregator != 0)
	}
}

var headerName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$") // token, RFC 9110 §5.6.2

// setHeader adds a header to every request of a backend. known is false where its value is a secret of another part.
func setHeader(d *document, at string, b *Backend, name string, value secret.Value, known bool) {
	key := http.CanonicalHeaderKey(name)
	_, twice := b.Headers[key]
	switch {
	case name == "":
		d.bad(at, "required")
	case !headerName.MatchString(name):
		d.bad(at, "want the name of a header")
	case reserved(key):
		d.bad(at, "header %s belongs to the transport and cannot be set", key)
	case twice:
		d.bad(at, "header %s is set twice", key)
	case strings.ContainsFunc(string(value), func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }):
		d.bad(at, "the value of header %s has a line break or another control character", key)
	default:
		if b.Headers[key] = value; !known {
			delete(b.Headers, key)
		}
	}
}

// reserved are headers that HTTP, MCP or the gateway itself decides about.
func reserved(canonical string) bool {
	switch canonical {
	case "Host", "Connection", "Content-Length", "Content-Type", "Content-Encoding", "Transfer-Encoding", "Te", "Trailer",
		"Upgrade", "Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "Expect", "Accept", "Accept-Encoding", "Last-Event-Id":
		return true
	}
	return strings.HasPrefix(canonical, "Mcp-") || strings.HasPrefix(canonical, "X-Vmcp-")
}
