package gatewayconfig

import (
	"maps"
	"slices"
	"strings"

	"vmcp/api/v1beta1"
)

// ours are the kinds that a gateway is made of.
var ours = map[string]func() any{
	"MCPGroup":              func() any { return new(v1beta1.MCPGroup) },
	"MCPServer":             func() any { return new(v1beta1.MCPServer) },
	"MCPServerEntry":        func() any { return new(v1beta1.MCPServerEntry) },
	"MCPRemoteProxy":        func() any { return new(v1beta1.MCPRemoteProxy) },
	"MCPOIDCConfig":         func() any { return new(v1beta1.MCPOIDCConfig) },
	"MCPExternalAuthConfig": func() any { return new(v1beta1.MCPExternalAuthConfig) },
	"MCPAuthzConfig":        func() any { return new(v1beta1.MCPAuthzConfig) },
	"MCPToolConfig":         func() any { return new(v1beta1.MCPToolConfig) },
	"VirtualMCPServer":      func() any { return new(v1beta1.VirtualMCPServer) },
}

// core are the kinds of Kubernetes itself (apiVersion v1) that are read.
var core = map[string]func() any{
	"Secret":    func() any { return new(secretDocument) },
	"ConfigMap": func() any { return new(configMapDocument) },
}

// later are kinds of the same API group that mean nothing here yet.
var later = []string{
	"EmbeddingServer", "MCPRegistry", "MCPTelemetryConfig", "MCPWebhookConfig",
	"VirtualMCPCompositeToolDefinition",
	"ClusterPlatformRole", "ClusterPlatformRoleBinding", "PlatformRoleBinding", "ToolhiveAuthorizationPolicy",
}

// secretDocument is a Kubernetes Secret.
type secretDocument struct {
	v1beta1.TypeMeta
	Metadata   v1beta1.ObjectMeta `json:"metadata"`
	Type       string             `json:"type"`
	Immutable  bool               `json:"immutable"`
	Data       map[string]string  `json:"data"` // base64
	StringData map[string]string  `json:"stringData"`
}

// configMapDocument is a Kubernetes ConfigMap.
type configMapDocument struct {
	v1beta1.TypeMeta
	Metadata   v1beta1.ObjectMeta `json:"metadata"`
	Immutable  bool               `json:"immutable"`
	Data       map[string]string  `json:"data"`
	BinaryData map[string]string  `json:"binaryData"` // base64
}

// used names the fields that the code of this package acts on, for each kind; a field below a named one counts too.
// What is known and not named here is reported as "accepted, not yet used". TestUsedFieldsMatter changes each named field
// and wants another result, so an entry that nothing reads fails there.
var used = map[string][]string{
	"MCPGroup": {},
	"MCPServer": {
		"spec.image", "spec.transport", "spec.args[]", "spec.env[].name", "spec.env[].value",
		"spec.secrets[].name", "spec.secrets[].key", "spec.secrets[].targetEnvName",
		"spec.groupRef.name", "spec.externalAuthConfigRef.name", "spec.toolConfigRef.name",
	},
	"MCPServerEntry": {
		"spec.remoteUrl", "spec.allowPrivateEndpoint", "spec.transport", "spec.groupRef.name",
		"spec.externalAuthConfigRef.name",
		"spec.headerForward.addPlaintextHeaders.*", "spec.headerForward.addHeadersFromSecret[].headerName",
		"spec.headerForward.addHeadersFromSecret[].valueSecretRef.name",
		"spec.headerForward.addHeadersFromSecret[].valueSecretRef.key",
		"spec.caBundleRef.configMapRef.name", "spec.caBundleRef.configMapRef.key",
		"spec.caBundleRef.configMapRef.optional",
	},
	"MCPRemoteProxy": {
		"spec.remoteUrl", "spec.allowPrivateEndpoint", "spec.transport", "spec.groupRef.name",
		"spec.externalAuthConfigRef.name", "spec.toolConfigRef.name",
		"spec.headerForward.addPlaintextHeaders.*", "spec.headerForward.addHeadersFromSecret[].headerName",
		"spec.headerForward.addHeadersFromSecret[].valueSecretRef.name",
		"spec.headerForward.addHeadersFromSecret[].valueSecretRef.key",
	},
	"MCPOIDCConfig": {
		"spec.type", "spec.inline.issuer", "spec.inline.jwksUrl", "spec.inline.jwksAllowPrivateIP",
		"spec.inline.protectedResourceAllowPrivateIP", "spec.inline.insecureAllowHTTP",
		"spec.inline.caBundleRef.configMapRef.name", "spec.inline.caBundleRef.configMapRef.key",
		"spec.inline.caBundleRef.configMapRef.optional",
	},
	"MCPExternalAuthConfig": {
		"spec.type", "spec.headerInjection.headerName", "spec.headerInjection.valueSecretRef.name",
		"spec.headerInjection.valueSecretRef.key", "spec.bearerToken.tokenSecretRef.name",
		"spec.bearerToken.tokenSecretRef.key",
	},
	"MCPToolConfig": {
		"spec.toolsFilter[]", "spec.toolsOverride.*.name", "spec.toolsOverride.*.description",
		"spec.toolsOverride.*.annotations",
	},
	"MCPAuthzConfig": {
		"spec.type", "spec.config.policies[]", "spec.config.entities_json", "spec.config.group_claim_name",
		"spec.config.role_claim_name", "spec.config.group_entity_type",
	},
	"VirtualMCPServer": {
		"spec.groupRef.name", "spec.config.groupRef",
		"spec.incomingAuth.type", "spec.incomingAuth.oidcConfigRef.name", "spec.incomingAuth.oidcConfigRef.audience",
		"spec.incomingAuth.oidcConfigRef.scopes[]", "spec.incomingAuth.oidcConfigRef.resourceUrl",
		"spec.incomingAuth.authzConfig.type", "spec.incomingAuth.authzConfig.configMap.name",
		"spec.incomingAuth.authzConfig.configMap.key", "spec.incomingAuth.authzConfig.inline.policies[]",
		"spec.incomingAuth.authzConfig.inline.entitiesJson", "spec.incomingAuth.authzConfig.groupClaimName",
		"spec.incomingAuth.authzConfig.roleClaimName", "spec.incomingAuth.authzConfig.groupEntityType",
		"spec.incomingAuth.authzConfigRef.name",
		"spec.outgoingAuth.source", "spec.outgoingAuth.default.type",
		"spec.outgoingAuth.default.externalAuthConfigRef.name", "spec.outgoingAuth.backends.*.type",
		"spec.outgoingAuth.backends.*.externalAuthConfigRef.name",
		"spec.passthroughHeaders[]",
		"spec.authServerConfig.issuer", "spec.authServerConfig.authorizationEndpointBaseUrl",
		"spec.authServerConfig.signingKeySecretRefs[].name", "spec.authServerConfig.signingKeySecretRefs[].key",
		"spec.authServerConfig.hmacSecretRefs[].name", "spec.authServerConfig.hmacSecretRefs[].key",
		"spec.authServerConfig.tokenLifespans.accessTokenLifespan",
		"spec.authServerConfig.tokenLifespans.refreshTokenLifespan",
		"spec.authServerConfig.tokenLifespans.authCodeLifespan",
		"spec.authServerConfig.allowConfidentialClientRegistration", "spec.authServerConfig.baselineClientScopes[]",
		"spec.authServerConfig.upstreamProviders[].name",
		"spec.authServerConfig.upstreamProviders[].type",
		"spec.authServerConfig.upstreamProviders[].oidcConfig.issuerUrl",
		"spec.authServerConfig.upstreamProviders[].oidcConfig.clientId",
		"spec.authServerConfig.upstreamProviders[].oidcConfig.clientSecretRef.name",
		"spec.authServerConfig.upstreamProviders[].oidcConfig.clientSecretRef.key",
		"spec.authServerConfig.upstreamProviders[].oidcConfig.redirectUri",
		"spec.authServerConfig.upstreamProviders[].oidcConfig.scopes[]",
		"spec.config.aggregation.conflictResolution",
		"spec.config.aggregation.conflictResolutionConfig.prefixFormat",
		"spec.config.aggregation.conflictResolutionConfig.priorityOrder[]",
		"spec.config.aggregation.tools[].workload", "spec.config.aggregation.tools[].toolConfigRef.name",
		"spec.config.aggregation.tools[].filter[]", "spec.config.aggregation.tools[].overrides.*.name",
		"spec.config.aggregation.tools[].overrides.*.description",
		"spec.config.aggregation.tools[].overrides.*.annotations", "spec.config.aggregation.tools[].excludeAll",
		"spec.config.aggregation.excludeAllTools", "spec.config.aggregation.defaultToolVisibility",
		"spec.config.operational.timeouts.default", "spec.config.operational.timeouts.perWorkload.*",
		"spec.config.operational.failureHandling.healthCheckInterval",
		"spec.config.operational.failureHandling.healthCheckTimeout",
		"spec.config.operational.failureHandling.unhealthyThreshold",
		"spec.config.operational.failureHandling.partialFailureMode",
		"spec.config.operational.failureHandling.circuitBreaker.enabled",
		"spec.config.operational.failureHandling.circuitBreaker.failureThreshold",
		"spec.config.operational.failureHandling.circuitBreaker.timeout",
	},
	"Secret":    {"data.*", "stringData.*"},
	"ConfigMap": {"data.*"},
	cedarV1: {
		"version", "type", "cedar.policies[]", "cedar.entities_json", "cedar.group_claim_name",
		"cedar.role_claim_name", "cedar.group_entity_type",
	},
}

// inPods names the fields that the operator acts on, which makes the pods.
var inPods = map[string][]string{
	"MCPServer": {
		"spec.mcpPort", "spec.volumes[]", "spec.resources", "spec.serviceAccount", "spec.permissionProfile", "spec.podTemplateSpec",
		"spec.resourceOverrides.proxyDeployment.imagePullSecrets[]", "spec.backendReplicas",
	},
	"VirtualMCPServer": {
		"spec.serviceType", "spec.sessionAffinity", "spec.serviceAccount", "spec.podTemplateSpec", "spec.imagePullSecrets[]", "spec.replicas",
	},
}

// silent are fields that ask for nothing, so that not acting on them is no news.
var silent = []string{"apiVersion", "kind", "metadata", "status", "spec.description", "type", "immutable"}

// whyUnused says more about fields whose effect a user may count on.
var whyUnused = map[string]string{
	"MCPServer.spec.authzConfig":         "policies of a backend are not enforced here; put them into the VirtualMCPServer",
	"MCPServer.spec.authzConfigRef":      "policies of a backend are not enforced here; put them into the VirtualMCPServer",
	"MCPRemoteProxy.spec.authzConfig":    "policies of a backend are not enforced here; put them into the VirtualMCPServer",
	"MCPRemoteProxy.spec.authzConfigRef": "policies of a backend are not enforced here; put them into the VirtualMCPServer",
	"MCPServer.spec.permissionProfile":   "here the server runs without these limits",
	"VirtualMCPServer.spec.rateLimiting": "calls are not limited",
}

// noteUnused reports the fields of a document that nothing acts on: the topmost ones, each pattern once for its kind.
func (r *resolver) noteUnused(d *document) {
	skip := "" // below an unused field, or one with a problem
	for _, f := range d.fields {
		if skip != "" && strings.HasPrefix(f.path, skip) && f.path != skip {
			continue
		}
		skip = ""
		switch {
		case isOneOf(silent, f.pattern), isOneOf(used[d.kind], f.pattern):
		case r.src.Objects != nil && isOneOf(inPods[d.kind], f.pattern):
		case f.failed:
			skip = f.path
		default:
			skip = f.path
			if key := d.kind + "." + f.pattern; !r.noted[key] {
				r.noted[key] = true
				text := "accepted, not yet used"
				if isOneOf(inPods[d.kind], f.pattern) {
					text = "for the operator alone, which makes the pods in a cluster"
				}
				if why := whyUnused[key]; why != "" {
					text += ": " + why
				}
				r.notes = append(r.notes, Note{d.file, f.line, f.path, text})
			}
		}
	}
}

// isOneOf says whether pattern is one of list, above one or below one.
func isOneOf(list []string, pattern string) bool {
	return matches(list, pattern) || slices.ContainsFunc(list, func(u string) bool { return below(u, pattern) })
}

// matches says whether pattern is one of list or below one.
func matches(list []string, pattern string) bool {
	return slices.ContainsFunc(list, func(u string) bool { return u == pattern || below(pattern, u) })
}

func below(child, parent string) bool {
	rest, ok := strings.CutPrefix(child, parent)
	return ok && rest != "" && (rest[0] == '.' || rest[0] == '[')
}

func ourKinds() []string { return slices.Sorted(maps.Keys(ours)) }
