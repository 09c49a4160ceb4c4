package v1beta1

// MCPOIDCConfig names an issuer whose tokens are accepted. Several servers may refer to one.
type MCPOIDCConfig struct {
	TypeMeta
	Metadata ObjectMeta        `json:"metadata"`
	Spec     MCPOIDCConfigSpec `json:"spec"`
	Status   any               `json:"status,omitempty"` // written by an operator, not read
}

// MCPOIDCConfigSpec has exactly the block that Type names.
type MCPOIDCConfigSpec struct {
	Type                     string                    `json:"type"` // required: inline or kubernetesServiceAccount
	Inline                   *InlineOIDCConfig         `json:"inline,omitempty"`
	KubernetesServiceAccount *ServiceAccountOIDCConfig `json:"kubernetesServiceAccount,omitempty"`
}

// InlineOIDCConfig describes an OIDC issuer.
type InlineOIDCConfig struct {
	Issuer                          string          `json:"issuer"`                     // required; the exact iss of its tokens
	JWKSURL                         string          `json:"jwksUrl,omitempty"`          // default: by discovery
	IntrospectionURL                string          `json:"introspectionUrl,omitempty"` // for opaque tokens
	ClientID                        string          `json:"clientId,omitempty"`         // for introspection
	ClientSecretRef                 *SecretKeyRef   `json:"clientSecretRef,omitempty"`  // for introspection
	CABundleRef                     *CABundleSource `json:"caBundleRef,omitempty"`      // beside the system's roots
	JWKSAuthTokenPath               string          `json:"jwksAuthTokenPath,omitempty"`
	JWKSAllowPrivateIP              bool            `json:"jwksAllowPrivateIP,omitempty"`              // default false; opens all OIDC requests
	ProtectedResourceAllowPrivateIP bool            `json:"protectedResourceAllowPrivateIP,omitempty"` // default false; the same
	InsecureAllowHTTP               bool            `json:"insecureAllowHTTP,omitempty"`               // default false; for development
}

// ServiceAccountOIDCConfig accepts service account tokens of the cluster.
type ServiceAccountOIDCConfig struct {
	ServiceAccount   string `json:"serviceAccount,omitempty"`
	Namespace        string `json:"namespace,omitempty"`
	Issuer           string `json:"issuer,omitempty"` // default https://kubernetes.default.svc
	JWKSURL          string `json:"jwksUrl,omitempty"`
	IntrospectionURL string `json:"introspectionUrl,omitempty"`
	UseClusterAuth   *bool  `json:"useClusterAuth,omitempty"` // default true
}

// OIDCConfigReference names an MCPOIDCConfig and says what is this server's own.
type OIDCConfigReference struct {
	Name        string   `json:"name"`                  // required
	Audience    string   `json:"audience"`              // required; the aud that tokens must have
	Scopes      []string `json:"scopes,omitempty"`      // advertised (RFC 9728 scopes_supported); default [openid]
	ResourceURL string   `json:"resourceUrl,omitempty"` // RFC 9728 resource; required here, as no cluster gives one
}
