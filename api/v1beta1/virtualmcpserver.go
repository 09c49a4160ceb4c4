package v1beta1

// VirtualMCPServer is the gateway: one endpoint in front of the backends of a group.
type VirtualMCPServer struct {
	TypeMeta
	Metadata ObjectMeta           `json:"metadata"`
	Spec     VirtualMCPServerSpec `json:"spec"`
	Status   any                  `json:"status,omitempty"` // written by an operator, not read
}

// VirtualMCPServerSpec says who may use it, what is behind it, and how it runs.
type VirtualMCPServerSpec struct {
	GroupRef           *MCPGroupRef        `json:"groupRef"`     // required, or config.groupRef
	IncomingAuth       *IncomingAuthConfig `json:"incomingAuth"` // required
	OutgoingAuth       *OutgoingAuthConfig `json:"outgoingAuth,omitempty"`
	AuthServerConfig   *AuthServerConfig   `json:"authServerConfig,omitempty"`   // absent: tokens of an issuer elsewhere
	PassthroughHeaders []string            `json:"passthroughHeaders,omitempty"` // client headers that go to every backend
	Config             VirtualServerConfig `json:"config,omitzero"`

	ServiceType        string                    `json:"serviceType,omitempty"`     // ClusterIP (default), NodePort or LoadBalancer
	SessionAffinity    string                    `json:"sessionAffinity,omitempty"` // ClientIP (default) or None
	ServiceAccount     string                    `json:"serviceAccount,omitempty"`
	PodTemplateSpec    map[string]any            `json:"podTemplateSpec,omitempty"` // a PodTemplateSpec; container vmcp
	ImagePullSecrets   []LocalObjectReference    `json:"imagePullSecrets,omitempty"`
	Replicas           *int32                    `json:"replicas,omitempty"` // absent: left to an autoscaler
	SessionStorage     *SessionStorageConfig     `json:"sessionStorage,omitempty"`
	RateLimiting       *RateLimitConfig          `json:"rateLimiting,omitempty"`
	TelemetryConfigRef *TelemetryConfigReference `json:"telemetryConfigRef,omitempty"`
	EmbeddingServerRef *EmbeddingServerRef       `json:"embeddingServerRef,omitempty"`
}

// IncomingAuthConfig says who clients are and what they may do.
type IncomingAuthConfig struct {
	Type           string                `json:"type"`                    // required: oidc or anonymous
	OIDCConfigRef  *OIDCConfigReference  `json:"oidcConfigRef,omitempty"` // required for oidc
	AuthzConfig    *AuthzConfig          `json:"authzConfig,omitempty"`   // or authzConfigRef; absent: nothing is permitted
	AuthzConfigRef *AuthzConfigReference `json:"authzConfigRef,omitempty"`
}

// AuthzConfig holds Cedar policies; it has the block that Type names.
type AuthzConfig struct {
	Type            string             `json:"type,omitempty"` // configMap (default) or inline
	ConfigMap       *ConfigMapAuthzRef `json:"configMap,omitempty"`
	Inline          *InlineAuthzConfig `json:"inline,omitempty"`
	GroupClaimName  string             `json:"groupClaimName,omitempty"`  // default: first of groups, roles, cognito:groups
	RoleClaimName   string             `json:"roleClaimName,omitempty"`   // read beside the group claim
	GroupEntityType string             `json:"groupEntityType,omitempty"` // default THVGroup
}

// ConfigMapAuthzRef names a ConfigMap key with policies as JSON (see CedarV1).
type ConfigMapAuthzRef struct {
	Name string `json:"name"`          // required
	Key  string `json:"key,omitempty"` // default authz.json
}

// InlineAuthzConfig holds policies as text.
type InlineAuthzConfig struct {
	Policies                []string `json:"policies"`                          // at least one
	EntitiesJSON            string   `json:"entitiesJson,omitempty"`            // Cedar JSON entities; default "[]"
	PrimaryUpstreamProvider string   `json:"primaryUpstreamProvider,omitempty"` // deprecated place of that field
}

// CedarV1 is the JSON that a policy ConfigMap holds.
type CedarV1 struct {
	Version string        `json:"version"` // 1.0
	Type    string        `json:"type"`    // cedarv1
	Cedar   *CedarOptions `json:"cedar"`   // required
}

// CedarOptions are the fields of AuthzConfig and InlineAuthzConfig under their older names.
type CedarOptions struct {
	Policies                []string `json:"policies,omitempty"`
	EntitiesJSON            string   `json:"entities_json,omitempty"`
	GroupClaimName          string   `json:"group_claim_name,omitempty"`
	RoleClaimName           string   `json:"role_claim_name,omitempty"`
	GroupEntityType         string   `json:"group_entity_type,omitempty"`
	PrimaryUpstreamProvider string   `json:"primary_upstream_provider,omitempty"`
	MultiValuedClaims       []string `json:"multi_valued_claims,omitempty"`
}

// OutgoingAuthConfig says how the gateway authenticates itself to backends.
type OutgoingAuthConfig struct {
	Source   string                       `json:"source,omitempty"`   // discovered (default): each backend's own externalAuthConfigRef; or inline
	Default  *BackendAuthConfig           `json:"default,omitempty"`  // for backends that say nothing
	Backends map[string]BackendAuthConfig `json:"backends,omitempty"` // by backend name, before all else
}

// BackendAuthConfig is one backend's way.
type BackendAuthConfig struct {
	Type                  string                 `json:"type"` // required: discovered or externalAuthConfigRef
	ExternalAuthConfigRef *ExternalAuthConfigRef `json:"externalAuthConfigRef,omitempty"`
}
