package v1beta1

// AuthServerConfig describes the OAuth 2.1 authorization server in front of the gateway.
type AuthServerConfig struct {
	Issuer                       string             `json:"issuer"` // required; origin only, the iss of its tokens
	AuthorizationEndpointBaseURL string             `json:"authorizationEndpointBaseUrl,omitempty"`
	UpstreamProviders            []UpstreamProvider `json:"upstreamProviders"`                 // at least one
	PrimaryUpstreamProvider      string             `json:"primaryUpstreamProvider,omitempty"` // default: the first

	SigningKeySecretRefs []SecretKeyRef           `json:"signingKeySecretRefs,omitempty"` // PEM; the first signs
	HMACSecretRefs       []SecretKeyRef           `json:"hmacSecretRefs,omitempty"`       // 32 bytes or more; the first signs
	TokenLifespans       *TokenLifespans          `json:"tokenLifespans,omitempty"`
	Storage              *AuthServerStorageConfig `json:"storage,omitempty"`

	AllowConfidentialClientRegistration       bool             `json:"allowConfidentialClientRegistration,omitempty"` // default false
	ForceConfidentialRedirectURIs             []string         `json:"forceConfidentialRedirectUris,omitempty"`
	InsecureAllowConfidentialOverLoopbackHTTP bool             `json:"insecureAllowConfidentialOverLoopbackHTTP,omitempty"` // default false
	InsecureAllowHTTP                         bool             `json:"insecureAllowHTTP,omitempty"`                         // default false
	BaselineClientScopes                      []string         `json:"baselineClientScopes,omitempty"`                      // at most 10
	CIMD                                      *CIMDConfig      `json:"cimd,omitempty"`
	DelegateClients                           []DelegateClient `json:"delegateClients,omitempty"` // at most 10
	TrustedIssuers                            []TrustedIssuer  `json:"trustedIssuers,omitempty"`  // at most 20
	DisableUpstreamTokenInjection             bool             `json:"disableUpstreamTokenInjection,omitempty"`
}

// UpstreamProvider is one identity provider; it has the block that Type names.
type UpstreamProvider struct {
	Name         string                `json:"name"` // required; DNS label
	Type         string                `json:"type"` // required: oidc or oauth2
	OIDCConfig   *OIDCUpstreamConfig   `json:"oidcConfig,omitempty"`
	OAuth2Config *OAuth2UpstreamConfig `json:"oauth2Config,omitempty"`
}

// OIDCUpstreamConfig is an OIDC provider, such as an Entra tenant.
type OIDCUpstreamConfig struct {
	IssuerURL                     string            `json:"issuerUrl"` // required; https
	ClientID                      string            `json:"clientId"`  // required
	ClientSecretRef               *SecretKeyRef     `json:"clientSecretRef,omitempty"`
	RedirectURI                   string            `json:"redirectUri,omitempty"` // default <issuer>/oauth/callback
	Scopes                        []string          `json:"scopes,omitempty"`      // default [openid, offline_access]
	UserInfoOverride              *UserInfoConfig   `json:"userInfoOverride,omitempty"`
	AdditionalAuthorizationParams map[string]string `json:"additionalAuthorizationParams,omitempty"` // at most 16
	SubjectClaim                  string            `json:"subjectClaim,omitempty"`                  // default sub
}

// OAuth2UpstreamConfig is a provider without OIDC.
type OAuth2UpstreamConfig struct {
	AuthorizationEndpoint         string                `json:"authorizationEndpoint"`
	TokenEndpoint                 string                `json:"tokenEndpoint"`
	UserInfo                      *UserInfoConfig       `json:"userInfo,omitempty"`
	ClientID                      string                `json:"clientId,omitempty"` // or dcrConfig
	DCRConfig                     *UpstreamDCRConfig    `json:"dcrConfig,omitempty"`
	ClientSecretRef               *SecretKeyRef         `json:"clientSecretRef,omitempty"`
	RedirectURI                   string                `json:"redirectUri,omitempty"` // default <issuer>/oauth/callback
	Scopes                        []string              `json:"scopes,omitempty"`
	TokenResponseMapping          *TokenResponseMapping `json:"tokenResponseMapping,omitempty"`
	IdentityFromToken             *IdentityFromToken    `json:"identityFromToken,omitempty"`
	AdditionalAuthorizationParams map[string]string     `json:"additionalAuthorizationParams,omitempty"`
	InsecureAllowHTTP             bool                  `json:"insecureAllowHTTP,omitempty"` // default false
	AllowPrivateIPs               bool                  `json:"allowPrivateIPs,omitempty"`   // default false
}

// UserInfoConfig asks an endpoint who the person is.
type UserInfoConfig struct {
	EndpointURL       string                `json:"endpointUrl"`
	HTTPMethod        string                `json:"httpMethod,omitempty"` // default GET
	AdditionalHeaders map[string]string     `json:"additionalHeaders,omitempty"`
	FieldMapping      *UserInfoFieldMapping `json:"fieldMapping,omitempty"`
}

// UserInfoFieldMapping names members of the answer, the first present wins.
type UserInfoFieldMapping struct {
	SubjectFields []string `json:"subjectFields,omitempty"`
	NameFields    []string `json:"nameFields,omitempty"`
	EmailFields   []string `json:"emailFields,omitempty"`
}

// UpstreamDCRConfig registers the gateway with the provider (RFC 7591).
type UpstreamDCRConfig struct {
	DiscoveryURL          string        `json:"discoveryUrl,omitempty"` // or registrationEndpoint
	RegistrationEndpoint  string        `json:"registrationEndpoint,omitempty"`
	InitialAccessTokenRef *SecretKeyRef `json:"initialAccessTokenRef,omitempty"`
	SoftwareID            string        `json:"softwareId,omitempty"`
	SoftwareStatement     string        `json:"softwareStatement,omitempty"`
}

// TokenResponseMapping says where a non-standard token response keeps its members.
type TokenResponseMapping struct {
	AccessTokenPath  string `json:"accessTokenPath"`
	ScopePath        string `json:"scopePath,omitempty"`
	RefreshTokenPath string `json:"refreshTokenPath,omitempty"`
	ExpiresInPath    string `json:"expiresInPath,omitempty"`
}

// IdentityFromToken says where a token response names the person.
type IdentityFromToken struct {
	SubjectPath string `json:"subjectPath"`
	NamePath    string `json:"namePath,omitempty"`
	EmailPath   string `json:"emailPath,omitempty"`
}

// TokenLifespans says how long what the server issues is good for.
type TokenLifespans struct {
	AccessTokenLifespan  *Duration `json:"accessTokenLifespan,omitempty"`  // 1m to 24h; default 15m
	RefreshTokenLifespan *Duration `json:"refreshTokenLifespan,omitempty"` // 1h to 720h; default 168h
	AuthCodeLifespan     *Duration `json:"authCodeLifespan,omitempty"`     // 30s to 10m; default 60s, where ToolHive has 10m
}

// AuthServerStorageConfig says where clients, codes and grants are kept.
type AuthServerStorageConfig struct {
	Type  string              `json:"type,omitempty"` // memory or redis
	Redis *RedisStorageConfig `json:"redis,omitempty"`
}

// RedisStorageConfig is a Redis server, a cluster or a set of sentinels.
type RedisStorageConfig struct {
	Addr           string               `json:"addr,omitempty"` // or sentinelConfig
	SentinelConfig *RedisSentinelConfig `json:"sentinelConfig,omitempty"`
	ClusterMode    bool                 `json:"clusterMode,omitempty"`
	ACLUserConfig  *RedisACLUserConfig  `json:"aclUserConfig,omitempty"`
	DialTimeout    *Duration            `json:"dialTimeout,omitempty"`  // default 5s
	ReadTimeout    *Duration            `json:"readTimeout,omitempty"`  // default 3s
	WriteTimeout   *Duration            `json:"writeTimeout,omitempty"` // default 3s
	TLS            *RedisTLSConfig      `json:"tls,omitempty"`
	SentinelTLS    *RedisTLSConfig      `json:"sentinelTls,omitempty"`
}

// RedisSentinelConfig finds the master.
type RedisSentinelConfig struct {
	MasterName      string                `json:"masterName"`
	SentinelAddrs   []string              `json:"sentinelAddrs,omitempty"` // or sentinelService
	SentinelService *RedisSentinelService `json:"sentinelService,omitempty"`
	DB              int32                 `json:"db,omitempty"`
}

// RedisSentinelService is the Kubernetes Service of the sentinels.
type RedisSentinelService struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace,omitempty"`
	Port      int32  `json:"port,omitempty"` // default 26379
}

// RedisACLUserConfig is the Redis user.
type RedisACLUserConfig struct {
	UsernameSecretRef *SecretKeyRef `json:"usernameSecretRef,omitempty"`
	PasswordSecretRef *SecretKeyRef `json:"passwordSecretRef"`
}

// RedisTLSConfig turns TLS on.
type RedisTLSConfig struct {
	CACertSecretRef    *SecretKeyRef `json:"caCertSecretRef,omitempty"`
	InsecureSkipVerify bool          `json:"insecureSkipVerify,omitempty"`
}

// CIMDConfig is about clients that are known by the URL of their metadata document.
type CIMDConfig struct {
	Enabled          bool      `json:"enabled,omitempty"`
	CacheMaxSize     int32     `json:"cacheMaxSize,omitempty"`     // default 256
	CacheFallbackTTL *Duration `json:"cacheFallbackTtl,omitempty"` // default 5m
}

// DelegateClient is a confidential client that may exchange tokens.
type DelegateClient struct {
	ClientID        string        `json:"clientId"`
	ClientSecretRef *SecretKeyRef `json:"clientSecretRef"`
	Scopes          []string      `json:"scopes,omitempty"`
	Audiences       []string      `json:"audiences,omitempty"`
}

// TrustedIssuer is an issuer whose tokens may be exchanged for the gateway's.
type TrustedIssuer struct {
	Name                   string                `json:"name,omitempty"`
	IssuerURL              string                `json:"issuerUrl"`
	ExpectedAudience       string                `json:"expectedAudience,omitempty"`
	JWKSURL                string                `json:"jwksUrl,omitempty"`
	InsecureAllowHTTP      bool                  `json:"insecureAllowHTTP,omitempty"`
	AllowPrivateIPs        bool                  `json:"allowPrivateIPs,omitempty"` // needs jwksUrl
	CABundleRef            *CABundleSource       `json:"caBundleRef,omitempty"`
	ActorClaim             string                `json:"actorClaim,omitempty"` // default azp
	AllowedActors          []string              `json:"allowedActors,omitempty"`
	ActorMatcher           string                `json:"actorMatcher,omitempty"` // CEL
	AllowedDelegateClients []string              `json:"allowedDelegateClients,omitempty"`
	AllowMayAct            bool                  `json:"allowMayAct,omitempty"` // default false
	JWTBearerGrant         *JWTBearerGrantConfig `json:"jwtBearerGrant,omitempty"`
}

// JWTBearerGrantConfig lets machines in by RFC 7523 assertions.
type JWTBearerGrantConfig struct {
	MaxAssertionAge   *Duration        `json:"maxAssertionAge"`
	SubjectBindings   []SubjectBinding `json:"subjectBindings"`
	AcceptedAudiences []string         `json:"acceptedAudiences,omitempty"`
}

// SubjectBinding says which resources one assertion subject may ask for.
type SubjectBinding struct {
	Subject          string   `json:"subject"`
	AllowedResources []string `json:"allowedResources"`
}
