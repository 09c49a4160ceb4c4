package v1beta1

// All references are by name, within one namespace.

// MCPGroupRef names an MCPGroup.
type MCPGroupRef struct {
	Name string `json:"name"` // required
}

// ToolConfigRef names an MCPToolConfig.
type ToolConfigRef struct {
	Name string `json:"name"` // required
}

// ExternalAuthConfigRef names an MCPExternalAuthConfig.
type ExternalAuthConfigRef struct {
	Name string `json:"name"` // required
}

// AuthzConfigReference names an MCPAuthzConfig.
type AuthzConfigReference struct {
	Name string `json:"name"` // required
}

// WebhookConfigRef names an MCPWebhookConfig.
type WebhookConfigRef struct {
	Name string `json:"name"` // required
}

// EmbeddingServerRef names an EmbeddingServer.
type EmbeddingServerRef struct {
	Name string `json:"name"` // required
}

// CompositeToolRef names a VirtualMCPCompositeToolDefinition.
type CompositeToolRef struct {
	Name string `json:"name"` // required
}

// LocalObjectReference names an object whose kind the field says.
type LocalObjectReference struct {
	Name string `json:"name"`
}

// TelemetryConfigReference names an MCPTelemetryConfig.
type TelemetryConfigReference struct {
	Name        string `json:"name"`                  // required
	ServiceName string `json:"serviceName,omitempty"` // default thv-<name> on a VirtualMCPServer
}

// AuthServerRef names the authorization server in front of a single backend.
type AuthServerRef struct {
	Kind string `json:"kind,omitempty"` // MCPExternalAuthConfig, the default and only one
	Name string `json:"name"`           // required
}

// SecretKeyRef names one key of a Secret.
type SecretKeyRef struct {
	Name string `json:"name"` // required
	Key  string `json:"key"`  // required
}

// CABundleSource says where additional CA certificates are.
type CABundleSource struct {
	ConfigMapRef *ConfigMapKeyRef `json:"configMapRef,omitempty"` // PEM
}

// ConfigMapKeyRef names one key of a ConfigMap.
type ConfigMapKeyRef struct {
	Name     string `json:"name"`               // required
	Key      string `json:"key,omitempty"`      // default ca.crt for CA bundles
	Optional bool   `json:"optional,omitempty"` // a missing one is no error; default false
}
