package v1beta1

// MCPServerEntry is a backend somewhere else, reached directly.
type MCPServerEntry struct {
	TypeMeta
	Metadata ObjectMeta         `json:"metadata"`
	Spec     MCPServerEntrySpec `json:"spec"`
	Status   any                `json:"status,omitempty"` // written by an operator, not read
}

// MCPServerEntrySpec says where it is.
type MCPServerEntrySpec struct {
	RemoteURL             string                 `json:"remoteUrl"`                      // required; http or https
	AllowPrivateEndpoint  bool                   `json:"allowPrivateEndpoint,omitempty"` // default false
	Transport             string                 `json:"transport"`                      // required: streamable-http or sse
	GroupRef              *MCPGroupRef           `json:"groupRef"`                       // required
	ExternalAuthConfigRef *ExternalAuthConfigRef `json:"externalAuthConfigRef,omitempty"`
	HeaderForward         *HeaderForwardConfig   `json:"headerForward,omitempty"`
	CABundleRef           *CABundleSource        `json:"caBundleRef,omitempty"` // beside the system's roots
}

// MCPRemoteProxy is a backend somewhere else. Where ToolHive starts a proxy pod for it, this gateway connects directly.
type MCPRemoteProxy struct {
	TypeMeta
	Metadata ObjectMeta         `json:"metadata"`
	Spec     MCPRemoteProxySpec `json:"spec"`
	Status   any                `json:"status,omitempty"` // written by an operator, not read
}

// MCPRemoteProxySpec says where it is, and how its proxy pod looks.
type MCPRemoteProxySpec struct {
	RemoteURL             string                 `json:"remoteUrl"`                      // required; http or https
	AllowPrivateEndpoint  bool                   `json:"allowPrivateEndpoint,omitempty"` // default false
	Transport             string                 `json:"transport,omitempty"`            // streamable-http (default) or sse
	GroupRef              *MCPGroupRef           `json:"groupRef,omitempty"`
	ExternalAuthConfigRef *ExternalAuthConfigRef `json:"externalAuthConfigRef,omitempty"`
	HeaderForward         *HeaderForwardConfig   `json:"headerForward,omitempty"`
	ToolConfigRef         *ToolConfigRef         `json:"toolConfigRef,omitempty"`

	OIDCConfigRef      *OIDCConfigReference      `json:"oidcConfigRef,omitempty"`
	AuthServerRef      *AuthServerRef            `json:"authServerRef,omitempty"`
	AuthzConfig        *AuthzConfig              `json:"authzConfig,omitempty"` // or authzConfigRef
	AuthzConfigRef     *AuthzConfigReference     `json:"authzConfigRef,omitempty"`
	Audit              *AuditSwitch              `json:"audit,omitempty"`
	TelemetryConfigRef *TelemetryConfigReference `json:"telemetryConfigRef,omitempty"`

	ProxyPort         int32                 `json:"proxyPort,omitempty"` // default 8080
	Resources         ResourceRequirements  `json:"resources,omitzero"`
	ServiceAccount    string                `json:"serviceAccount,omitempty"`
	PodTemplateSpec   map[string]any        `json:"podTemplateSpec,omitempty"`   // a PodTemplateSpec; container toolhive
	TrustProxyHeaders bool                  `json:"trustProxyHeaders,omitempty"` // default false
	EndpointPrefix    string                `json:"endpointPrefix,omitempty"`
	ResourceOverrides *ResourceOverrides    `json:"resourceOverrides,omitempty"`
	SessionAffinity   string                `json:"sessionAffinity,omitempty"` // ClientIP (default) or None
	Replicas          *int32                `json:"replicas,omitempty"`        // absent: left to an autoscaler
	SessionStorage    *SessionStorageConfig `json:"sessionStorage,omitempty"`
}

// HeaderForwardConfig adds headers to every request to the backend.
type HeaderForwardConfig struct {
	AddPlaintextHeaders  map[string]string  `json:"addPlaintextHeaders,omitempty"`
	AddHeadersFromSecret []HeaderFromSecret `json:"addHeadersFromSecret,omitempty"`
}

// HeaderFromSecret is a header whose value is a secret.
type HeaderFromSecret struct {
	HeaderName     string        `json:"headerName"`     // required
	ValueSecretRef *SecretKeyRef `json:"valueSecretRef"` // required
}
