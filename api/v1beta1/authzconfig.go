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

// AuthorizerConfig has the options of Cedar under the names of CedarOptions, and those of the other type.
type AuthorizerConfig struct {
	Policies                []string `json:"policies,omitempty"`
	EntitiesJSON            string   `json:"entities_json,omitempty"`
	GroupClaimName          string   `json:"group_claim_name,omitempty"`
	RoleClaimName           string   `json:"role_claim_name,omitempty"`
	GroupEntityType         string   `json:"group_entity_type,omitempty"`
	PrimaryUpstreamProvider string   `json:"primary_upstream_provider,omitempty"`
	MultiValuedClaims       []string `json:"multi_valued_claims,omitempty"`

	HTTP         any `json:"http,omitempty"`
	Context      any `json:"context,omitempty"`
	ClaimMapping any `json:"claim_mapping,omitempty"`
}
