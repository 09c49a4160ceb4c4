package v1beta1

// MCPExternalAuthConfig says how the gateway authenticates itself to a backend, or (embeddedAuthServer) describes an
// authorization server in front of one.
type MCPExternalAuthConfig struct {
	TypeMeta
	Metadata ObjectMeta                `json:"metadata"`
	Spec     MCPExternalAuthConfigSpec `json:"spec"`
	Status   any                       `json:"status,omitempty"` // written by an operator, not read
}

// MCPExternalAuthConfigSpec has exactly the block that Type names; unauthenticated has none.
type MCPExternalAuthConfigSpec struct {
	// Type is required: unauthenticated, headerInjection, bearerToken, tokenExchange, upstreamInject, xaa, awsSts, obo
	// or embeddedAuthServer.
	Type               string                 `json:"type"`
	HeaderInjection    *HeaderInjectionConfig `json:"headerInjection,omitempty"`
	BearerToken        *BearerTokenConfig     `json:"bearerToken,omitempty"`
	TokenExchange      *TokenExchangeConfig   `json:"tokenExchange,omitempty"`
	UpstreamInject     *UpstreamInjectConfig  `json:"upstreamInject,omitempty"`
	XAA                *XAAConfig             `json:"xaa,omitempty"`
	AWSSts             *AWSStsConfig          `json:"awsSts,omitempty"`
	OBO                *OBOConfig             `json:"obo,omitempty"`
	EmbeddedAuthServer *AuthServerConfig      `json:"embeddedAuthServer,omitempty"`
}

// HeaderInjectionConfig sends a secret in a header of its own.
type HeaderInjectionConfig struct {
	HeaderName     string        `json:"headerName"`     // required
	ValueSecretRef *SecretKeyRef `json:"valueSecretRef"` // required
}

// BearerTokenConfig sends a secret as Authorization: Bearer.
type BearerTokenConfig struct {
	TokenSecretRef *SecretKeyRef `json:"tokenSecretRef"` // required
}

// TokenExchangeConfig gets the backend's token by RFC 8693.
type TokenExchangeConfig struct {
	TokenURL                string        `json:"tokenUrl"` // required
	ClientID                string        `json:"clientId,omitempty"`
	ClientSecretRef         *SecretKeyRef `json:"clientSecretRef,omitempty"`
	Audience                string        `json:"audience"` // required
	Scopes                  []string      `json:"scopes,omitempty"`
	SubjectTokenType        string        `json:"subjectTokenType,omitempty"` // access_token (default), id_token, jwt or a URN
	ExternalTokenHeaderName string        `json:"externalTokenHeaderName,omitempty"`
	SubjectProviderName     string        `json:"subjectProviderName,omitempty"` // default: the first upstream
}

// UpstreamInjectConfig sends the caller's upstream access token.
type UpstreamInjectConfig struct {
	ProviderName string `json:"providerName"` // required
}

// XAAConfig gets the backend's token by cross-application access: an ID-JAG from the IdP, then RFC 7523 at the target.
type XAAConfig struct {
	IDPTokenURL            string        `json:"idpTokenUrl"`
	IDPClientID            string        `json:"idpClientId,omitempty"`
	IDPClientSecretRef     *SecretKeyRef `json:"idpClientSecretRef,omitempty"`
	TargetTokenURL         string        `json:"targetTokenUrl"`
	InsecureTargetTokenURL bool          `json:"insecureTargetTokenUrl,omitempty"` // default false
	TargetClientID         string        `json:"targetClientId,omitempty"`
	TargetClientSecretRef  *SecretKeyRef `json:"targetClientSecretRef,omitempty"`
	TargetAudience         string        `json:"targetAudience,omitempty"`
	TargetResource         string        `json:"targetResource,omitempty"`
	Scopes                 []string      `json:"scopes,omitempty"`
	SubjectProviderName    string        `json:"subjectProviderName,omitempty"`
	SubjectTokenType       string        `json:"subjectTokenType,omitempty"`
}

// AWSStsConfig signs requests with credentials of AssumeRoleWithWebIdentity.
type AWSStsConfig struct {
	Region              string           `json:"region"`                    // required
	Service             string           `json:"service,omitempty"`         // default aws-mcp
	FallbackRoleARN     string           `json:"fallbackRoleArn,omitempty"` // required without roleMappings
	RoleMappings        []AWSRoleMapping `json:"roleMappings,omitempty"`
	RoleClaim           string           `json:"roleClaim,omitempty"`        // default groups
	SessionDuration     *int32           `json:"sessionDuration,omitempty"`  // seconds, 900 to 43200; default 3600
	SessionNameClaim    string           `json:"sessionNameClaim,omitempty"` // default sub
	SubjectProviderName string           `json:"subjectProviderName,omitempty"`
}

// AWSRoleMapping picks a role by claim value or by a CEL matcher, lowest Priority first.
type AWSRoleMapping struct {
	Claim    string `json:"claim,omitempty"` // or matcher
	Matcher  string `json:"matcher,omitempty"`
	RoleARN  string `json:"roleArn"`
	Priority *int32 `json:"priority,omitempty"`
}

// OBOConfig is Entra's on-behalf-of flow.
type OBOConfig struct {
	TenantID                 string        `json:"tenantId,omitempty"`
	Authority                string        `json:"authority,omitempty"` // default https://login.microsoftonline.com
	ClientID                 string        `json:"clientId,omitempty"`
	ClientSecretRef          *SecretKeyRef `json:"clientSecretRef,omitempty"`
	Audience                 string        `json:"audience,omitempty"`
	Scopes                   []string      `json:"scopes,omitempty"` // at most 20
	SubjectTokenProviderName string        `json:"subjectTokenProviderName,omitempty"`
	CacheSkew                *Duration     `json:"cacheSkew,omitempty"`
}
