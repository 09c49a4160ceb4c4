package v1beta1

// MCPServer is a backend that runs from an image.
type MCPServer struct {
	TypeMeta
	Metadata ObjectMeta    `json:"metadata"`
	Spec     MCPServerSpec `json:"spec"`
	Status   any           `json:"status,omitempty"` // written by an operator, not read
}

// MCPServerSpec says what runs and how it is spoken to.
type MCPServerSpec struct {
	Image     string `json:"image"`               // required
	Transport string `json:"transport,omitempty"` // stdio (default), streamable-http or sse
	ProxyMode string `json:"proxyMode,omitempty"` // streamable-http (default) or sse; only for stdio
	ProxyPort int32  `json:"proxyPort,omitempty"` // default 8080
	MCPPort   int32  `json:"mcpPort,omitempty"`   // port inside the container; default 8080

	Args    []string    `json:"args,omitempty"`
	Env     []EnvVar    `json:"env,omitempty"`
	Secrets []SecretRef `json:"secrets,omitempty"` // as environment variables
	Volumes []Volume    `json:"volumes,omitempty"`

	Resources         ResourceRequirements  `json:"resources,omitzero"`
	ServiceAccount    string                `json:"serviceAccount,omitempty"`
	PermissionProfile *PermissionProfileRef `json:"permissionProfile,omitempty"`
	PodTemplateSpec   map[string]any        `json:"podTemplateSpec,omitempty"` // a PodTemplateSpec; container mcp
	ResourceOverrides *ResourceOverrides    `json:"resourceOverrides,omitempty"`

	GroupRef              *MCPGroupRef              `json:"groupRef,omitempty"` // at most one group
	OIDCConfigRef         *OIDCConfigReference      `json:"oidcConfigRef,omitempty"`
	AuthzConfig           *AuthzConfig              `json:"authzConfig,omitempty"` // or authzConfigRef
	AuthzConfigRef        *AuthzConfigReference     `json:"authzConfigRef,omitempty"`
	AuthServerRef         *AuthServerRef            `json:"authServerRef,omitempty"`
	ExternalAuthConfigRef *ExternalAuthConfigRef    `json:"externalAuthConfigRef,omitempty"`
	WebhookConfigRef      *WebhookConfigRef         `json:"webhookConfigRef,omitempty"`
	ToolConfigRef         *ToolConfigRef            `json:"toolConfigRef,omitempty"`
	TelemetryConfigRef    *TelemetryConfigReference `json:"telemetryConfigRef,omitempty"`
	Audit                 *AuditSwitch              `json:"audit,omitempty"`

	TrustProxyHeaders bool                  `json:"trustProxyHeaders,omitempty"` // default false
	EndpointPrefix    string                `json:"endpointPrefix,omitempty"`
	SessionAffinity   string                `json:"sessionAffinity,omitempty"` // ClientIP (default) or None
	Replicas          *int32                `json:"replicas,omitempty"`        // of the proxy; absent: left to an autoscaler
	BackendReplicas   *int32                `json:"backendReplicas,omitempty"` // of the server; stdio has one
	SessionStorage    *SessionStorageConfig `json:"sessionStorage,omitempty"`
	RateLimiting      *RateLimitConfig      `json:"rateLimiting,omitempty"`
	ProxyReadTimeout  *Duration             `json:"proxyReadTimeout,omitempty"`  // default 30s
	ProxyWriteTimeout *Duration             `json:"proxyWriteTimeout,omitempty"` // default 30s
}

// EnvVar is one environment variable.
type EnvVar struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// SecretRef puts one key of a Secret into an environment variable.
type SecretRef struct {
	Name          string `json:"name"`
	Key           string `json:"key"`
	TargetEnvName string `json:"targetEnvName,omitempty"` // default: Key
}

// Volume mounts a path of the host.
type Volume struct {
	Name      string `json:"name"`
	HostPath  string `json:"hostPath"`
	MountPath string `json:"mountPath"`
	ReadOnly  bool   `json:"readOnly,omitempty"` // default false
}

// ResourceRequirements bounds a container.
type ResourceRequirements struct {
	Limits   ResourceList `json:"limits,omitzero"`
	Requests ResourceList `json:"requests,omitzero"`
}

// ResourceList holds Kubernetes quantities, such as "500m" and "64Mi".
type ResourceList struct {
	CPU    string `json:"cpu,omitempty"`
	Memory string `json:"memory,omitempty"`
}

// PermissionProfileRef names what the container may touch.
type PermissionProfileRef struct {
	Type string `json:"type,omitempty"` // builtin (default) or configmap
	Name string `json:"name"`           // builtin: none or network
	Key  string `json:"key,omitempty"`  // of the ConfigMap
}

// ResourceOverrides changes the Kubernetes objects made for a backend.
type ResourceOverrides struct {
	ProxyDeployment *DeploymentOverrides `json:"proxyDeployment,omitempty"`
	ProxyService    *MetadataOverrides   `json:"proxyService,omitempty"`
}

// DeploymentOverrides changes the proxy's Deployment.
type DeploymentOverrides struct {
	MetadataOverrides
	PodTemplateMetadataOverrides *MetadataOverrides     `json:"podTemplateMetadataOverrides,omitempty"`
	Env                          []EnvVar               `json:"env,omitempty"`
	ImagePullSecrets             []LocalObjectReference `json:"imagePullSecrets,omitempty"`
}

// MetadataOverrides adds labels and annotations.
type MetadataOverrides struct {
	Annotations map[string]string `json:"annotations,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
}

// AuditSwitch turns audit records of a single backend on.
type AuditSwitch struct {
	Enabled bool `json:"enabled,omitempty"` // default false
}

// SessionStorageConfig says where several replicas keep sessions.
type SessionStorageConfig struct {
	Provider    string        `json:"provider"`          // memory or redis
	Address     string        `json:"address,omitempty"` // required for redis
	DB          int32         `json:"db,omitempty"`      // default 0
	KeyPrefix   string        `json:"keyPrefix,omitempty"`
	PasswordRef *SecretKeyRef `json:"passwordRef,omitempty"`
}

// RateLimitConfig bounds calls by token buckets.
type RateLimitConfig struct {
	Shared  *RateLimitBucket `json:"shared,omitempty"`  // all callers together
	PerUser *RateLimitBucket `json:"perUser,omitempty"` // needs incomingAuth.type oidc
	Tools   []ToolRateLimit  `json:"tools,omitempty"`
}

// RateLimitBucket holds MaxTokens calls and is full again after RefillPeriod.
type RateLimitBucket struct {
	MaxTokens    int32    `json:"maxTokens"`
	RefillPeriod Duration `json:"refillPeriod"`
}

// ToolRateLimit bounds one tool.
type ToolRateLimit struct {
	Name    string           `json:"name"`
	Shared  *RateLimitBucket `json:"shared,omitempty"`
	PerUser *RateLimitBucket `json:"perUser,omitempty"`
}
