// Package gatewayconfig turns the user's YAML documents into what each service needs to run.
//
// It owns loading, defaults, validation and the resolving of references, and reports every problem at once with
// file, line and field. It leaves to others what the values mean: policies are text here (internal/policy compiles
// them), backends are addresses (the aggregator connects to them).
package gatewayconfig

import (
	"net/netip"
	"time"

	"vmcp/internal/secret"
)

// Part is one service's share of the configuration. Only the secrets of the requested parts are read.
type Part uint8

const (
	PartAuthz Part = 1 << iota
	PartAggregator
	PartAuthServer

	PartAll = PartAuthz | PartAggregator | PartAuthServer
)

// Source says where the documents and the secrets are.
type Source struct {
	Paths   []string // YAML files, or directories whose *.yaml and *.yml files are read in name order
	Name    string   // VirtualMCPServer to run; empty: the only one
	Secrets string   // directory laid out as <secret name>/<key>; empty: only Secret documents
	Parts   Part     // zero: no secret is read, references to them are still checked

	// Objects are documents that are in no file, as an API server has them. They were checked when they were written, so
	// those of v1alpha1 may be stored as v1beta1 with plain names as references.
	Objects []Object
	// Lookup finds a Secret or ConfigMap that a reference names and no document is; nil: there is none.
	Lookup func(kind, namespace, name string) (*Object, error)

	// Loopback accepts plain http issuers, resource URLs and backends on this machine, and commands, as `vmcp up` needs.
	Loopback bool
}

// Object is one document with a name for people, which stands where a file's would.
type Object struct {
	Name string
	YAML []byte // or JSON
}

// Gateway is the resolved configuration of one VirtualMCPServer.
type Gateway struct {
	Name       string // metadata.name; MCP::"<Name>" in policies
	Endpoint   Endpoint
	Authz      Authz
	Aggregator Aggregator
	AuthServer *AuthServer // nil without authServerConfig
	// TrustedProxies are those in front of Envoy.
	TrustedProxies TrustedProxies
	Uses           []Use  // every document that it is made from, in the order they were read; with Objects only
	Notes          []Note // what a person should know and no error: unused fields, skipped documents, warnings
}

// Use is one document that a gateway is made from.
type Use struct {
	Kind, Name string
	Keys       map[string]Part // of a Secret: which are read, and by whom
}

// TrustedProxies says which proxies are believed about the address of a client: annotation vmcp/trusted-proxies. Zero:
// none, so the peer is the client.
type TrustedProxies struct {
	Hops   int            // so many proxies are always in front; with this there are no ranges
	Ranges []netip.Prefix // of the proxies' addresses
}

// Endpoint is the MCP endpoint as clients know it. All URLs that the gateway states come from here.
type Endpoint struct {
	URL         string   // E: origin of resourceUrl and its path, or /mcp where it has none; never a trailing slash
	Path        string   // path of URL
	ResourceURL string   // incomingAuth.oidcConfigRef.resourceUrl as written
	Audience    string   // the aud that tokens must have
	Scopes      []string // oidcConfigRef.scopes; advertised in the metadata document and the challenge
	Origins     []string // further allowed Origin values, annotation vmcp/allowed-origins (comma-separated)
}

// Authz is what services/authz needs.
type Authz struct {
	Anonymous bool   // incomingAuth.type: anonymous
	Issuer    Issuer // zero when Anonymous
	Policies  Policies
	Backends  []string // backend names in configured order
}

// Issuer is an OIDC issuer whose access tokens are accepted.
type Issuer struct {
	URL            string // exact iss
	JWKSURL        string // empty: by discovery
	AllowHTTP      bool   // insecureAllowHTTP
	AllowPrivateIP bool   // jwksAllowPrivateIP or protectedResourceAllowPrivateIP
	CABundle       []byte // PEM, empty: system roots
	Own            bool   // authServerConfig.issuer: tokens are ours (typ at+jwt)
}

// Policies is the authorizer configuration, as text.
type Policies struct {
	Texts           []PolicyText
	EntitiesJSON    string // Cedar JSON entities; "[]" where none are given
	GroupClaimName  string // empty: groups, roles, cognito:groups in this order
	RoleClaimName   string
	GroupEntityType string // THVGroup by default
}

// PolicyText is one entry of a policies list: Cedar source with one or more policies.
type PolicyText struct {
	File string
	Line int // line of the entry's first character in File
	Text string
}

// Aggregator is what services/aggregator needs.
type Aggregator struct {
	Backends []Backend // in configured order: documents in the order they were read

	ConflictResolution string   // prefix, priority or manual
	PrefixFormat       string   // "{workload}_"
	PriorityOrder      []string // for priority
	ExcludeAllTools    bool
	HideByDefault      bool // aggregation.defaultToolVisibility: deny
	Tools              map[string]WorkloadTools

	// NameLimit is the length of advertised names of tools and prompts, above which they are shortened: annotation
	// vmcp/name-limit. 0: 128, what the protocol allows.
	NameLimit int

	HealthInterval time.Duration // operational.failureHandling.healthCheckInterval
	// UnhealthyThreshold is how many times in a row a backend cannot be listed before it counts as failing.
	UnhealthyThreshold int
	NeedsAll           bool     // partialFailureMode: fail; lists are errors while a backend is failing
	PassHeaders        []string // passthroughHeaders
	SecretFiles        []string // that hold a Secret document: not for the eyes of programs that the aggregator starts
}

// WorkloadTools is aggregation.tools[] of one backend, with its toolConfigRef merged in.
type WorkloadTools struct {
	Filter     []string // names to advertise, the overriding ones where there are such; empty: all
	ExcludeAll bool
	Overrides  map[string]ToolOverride // by original name
}

// ToolOverride renames or redescribes one tool. Empty or nil: as the backend says.
type ToolOverride struct {
	Name        string
	Description string
	Annotations map[string]any // title and the four hints, only those given
}

// Transport is how a backend is spoken to.
type Transport string

const (
	TransportStdio Transport = "stdio"           // a child process, newline-delimited JSON
	TransportHTTP  Transport = "streamable-http" // MCP Streamable HTTP
	TransportSSE   Transport = "sse"             // HTTP+SSE of 2024-11-05
)

// Backend is one MCP server behind the gateway.
type Backend struct {
	Name      string // metadata.name; the workload of prefixes, MCP::"<Name>" in policies
	Kind      string // MCPServer, MCPServerEntry or MCPRemoteProxy
	Transport Transport
	URL       string                  // remoteUrl; of an MCPServer only where its annotation vmcp/address says where it runs
	Bridge    bool                    // behind URL is the bridge of a stdio server, reached by mutual TLS
	Image     string                  // of an MCPServer
	Command   string                  // of an MCPServer, annotation vmcp/command: a command line that stands for Image; with Loopback
	Args      []string                // of an MCPServer
	Env       map[string]secret.Value // of an MCPServer: env and, with PartAggregator, secrets
	Headers   map[string]secret.Value // headerForward and headerInjection/bearerToken; with PartAggregator incl. secret ones
	CABundle  []byte                  // PEM
	Shared    bool                    // annotation vmcp/sessions: shared
	Roots     bool                    // annotation vmcp/client-features names roots: the backend may ask clients for them
	Sampling  bool                    // the same for sampling
	Timeout   time.Duration           // of a call in which nothing moves: operational.timeouts.perWorkload, else default
	// LongestCall is the time of a call with all progress and questions in it. Annotation vmcp/longest-call; 0: the default.
	LongestCall time.Duration
	// ToolTimeouts are in place of Timeout for calls of some tools, by their original names. Annotation vmcp/tool-timeouts.
	ToolTimeouts  map[string]time.Duration
	HealthTimeout time.Duration // of each list: failureHandling.healthCheckTimeout, else Timeout
	Breaker       Breaker
	Pin           string // annotation vmcp/pin: report or hide tools that are not as they were approved; empty: neither
}

// Breaker says when calls of a backend are refused at once: failureHandling.circuitBreaker. Zero: never.
type Breaker struct {
	Failures int           // in a row, of calls and lists, that open it
	Timeout  time.Duration // after which one is tried
}

// AuthServer is what services/authserver needs (authServerConfig).
type AuthServer struct {
	Issuer          string
	AuthorizeOrigin string     // origin of the authorization endpoint; Issuer by default
	Upstreams       []Upstream // the first signs people in

	SigningKeys []secret.Value // PEM, the first signs; only with PartAuthServer. None: the server makes its own
	// DropRemovedKeys: a key that is removed from SigningKeys is not believed any more from that moment on, instead of when
	// its last token has expired; annotation vmcp/removed-signing-keys: drop.
	DropRemovedKeys bool
	HMACKeys        []secret.Value // at least 32 bytes, the first signs; only with PartAuthServer. None: derived from its key ring

	AccessToken  time.Duration // how long an access token is good
	RefreshToken time.Duration // how long a refresh token is good if it is not used
	AuthCode     time.Duration

	Registration bool     // clients may register themselves (RFC 7591); annotation vmcp/client-registration: disabled
	Confidential bool     // and may get a secret
	ClientScopes []string // baselineClientScopes: every client may ask for these

	// RevocationSilence is for authz: how long nothing may be heard about revocations before nobody is let in; 0: for ever.
	// Annotation vmcp/revocation-silence, 60s by default.
	RevocationSilence time.Duration
}

// Upstream is one identity provider of the authorization server.
type Upstream struct {
	Name         string
	IssuerURL    string
	ClientID     string
	ClientSecret secret.Value // only with PartAuthServer
	RedirectURI  string
	Scopes       []string
}

// Note is one remark about the documents.
type Note struct {
	File  string
	Line  int
	Field string // path of the field, empty for a whole document
	Text  string
}
