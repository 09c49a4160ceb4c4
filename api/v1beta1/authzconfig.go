package v1beta1

// MCPAuthzConfig is an authorizer for several servers.
type MCPAuthzConfig struct {
	TypeMeta
	Metadata ObjectMeta         `json:"metadata"`
	Spec     MCPAuthzConfigSpec `json:"spec"`
	Status   any                `json:"status,omitempty"` // written by an operator, not read
}

// MCPAuthzConfigSpec says how is decided, and by what.
type MCPAuthzConfigSpec struct {
	Type   string           `json:"type"` // required: cedarv1, or httpv1 (not for a VirtualMCPServer)
	Config AuthorizerConfig `json:"config,omitzero"`
}

// AuthorizerConfig has the options of Cedar, and those of the other type.
type AuthorizerConfig struct {
	CedarOptions

	HTTP         any `json:"http,omitempty"`
	Context      any `json:"context,omitempty"`
	ClaimMapping any `json:"claim_mapping,omitempty"`
}
