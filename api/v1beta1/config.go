package v1beta1

// VirtualServerConfig is spec.config of a VirtualMCPServer.
type VirtualServerConfig struct {
	Name               string                `json:"name,omitempty"`     // filled by an operator
	GroupRef           string                `json:"groupRef,omitempty"` // older place of spec.groupRef.name
	Metadata           map[string]string     `json:"metadata,omitempty"`
	Backends           []StaticBackend       `json:"backends,omitempty"`
	IncomingAuth       map[string]any        `json:"incomingAuth,omitempty"` // superseded by spec.incomingAuth
	OutgoingAuth       map[string]any        `json:"outgoingAuth,omitempty"` // superseded by spec.outgoingAuth
	Aggregation        *AggregationConfig    `json:"aggregation,omitempty"`
	CompositeTools     []CompositeTool       `json:"compositeTools,omitempty"`
	CompositeToolRefs  []CompositeToolRef    `json:"compositeToolRefs,omitempty"`
	Operational        *OperationalConfig    `json:"operational,omitempty"`
	Telemetry          map[string]any        `json:"telemetry,omitempty"` // deprecated
	Audit              *AuditConfig          `json:"audit,omitempty"`
	Optimizer          *OptimizerConfig      `json:"optimizer,omitempty"`
	CodeMode           *CodeModeConfig       `json:"codeMode,omitempty"`
	RateLimiting       *RateLimitConfig      `json:"rateLimiting,omitempty"`
	SessionStorage     *SessionStorageConfig `json:"sessionStorage,omitempty"`     // superseded by spec.sessionStorage
	PassthroughHeaders []string              `json:"passthroughHeaders,omitempty"` // superseded by spec.passthroughHeaders
}

// StaticBackend is a backend of the static mode.
type StaticBackend struct {
	Name         string            `json:"name"`
	URL          string            `json:"url"`
	Transport    string            `json:"transport"`      // sse or streamable-http
	Type         string            `json:"type,omitempty"` // entry
	CABundlePath string            `json:"caBundlePath,omitempty"`
	Metadata     map[string]string `json:"metadata,omitempty"`
}

// AggregationConfig says which tools are shown, under which names.
type AggregationConfig struct {
	ConflictResolution       string                    `json:"conflictResolution,omitempty"` // prefix (default), priority or manual
	ConflictResolutionConfig *ConflictResolutionConfig `json:"conflictResolutionConfig,omitempty"`
	Tools                    []WorkloadToolConfig      `json:"tools,omitempty"`
	ExcludeAllTools          bool                      `json:"excludeAllTools,omitempty"`       // default false
	DefaultToolVisibility    string                    `json:"defaultToolVisibility,omitempty"` // allow (default) or deny
}

// ConflictResolutionConfig is what a strategy needs.
type ConflictResolutionConfig struct {
	PrefixFormat  string   `json:"prefixFormat,omitempty"`  // for prefix; default {workload}_
	PriorityOrder []string `json:"priorityOrder,omitempty"` // for priority, required there; backend names
}

// WorkloadToolConfig is about the tools of one backend.
type WorkloadToolConfig struct {
	Workload      string                  `json:"workload"` // required; backend name
	ToolConfigRef *ToolConfigRef          `json:"toolConfigRef,omitempty"`
	Filter        []string                `json:"filter,omitempty"`
	Overrides     map[string]ToolOverride `json:"overrides,omitempty"` // by the backend's own tool name
	ExcludeAll    bool                    `json:"excludeAll,omitempty"`
}

// OperationalConfig is about time limits and failing backends.
type OperationalConfig struct {
	LogLevel        string                 `json:"logLevel,omitempty"` // debug or absent
	Timeouts        *TimeoutConfig         `json:"timeouts,omitempty"`
	FailureHandling *FailureHandlingConfig `json:"failureHandling,omitempty"`
}

// TimeoutConfig bounds one request to a backend.
type TimeoutConfig struct {
	Default     *Duration           `json:"default,omitempty"` // default 30s
	PerWorkload map[string]Duration `json:"perWorkload,omitempty"`
}

// FailureHandlingConfig says when a backend counts as failing and what follows.
type FailureHandlingConfig struct {
	HealthCheckInterval     *Duration             `json:"healthCheckInterval,omitempty"`     // default 30s
	HealthCheckTimeout      *Duration             `json:"healthCheckTimeout,omitempty"`      // default 10s
	UnhealthyThreshold      *int32                `json:"unhealthyThreshold,omitempty"`      // default 3
	StatusReportingInterval *Duration             `json:"statusReportingInterval,omitempty"` // default 30s
	PartialFailureMode      string                `json:"partialFailureMode,omitempty"`      // fail (default) or best_effort
	CircuitBreaker          *CircuitBreakerConfig `json:"circuitBreaker,omitempty"`
}

// CircuitBreakerConfig stops asking a backend that fails.
type CircuitBreakerConfig struct {
	Enabled          bool      `json:"enabled,omitempty"`          // default false
	FailureThreshold *int32    `json:"failureThreshold,omitempty"` // at least 1; default 5
	Timeout          *Duration `json:"timeout,omitempty"`          // at least 1s; default 60s
}

// AuditConfig is about audit records.
type AuditConfig struct {
	Enabled             bool     `json:"enabled,omitempty"`   // default false
	Component           string   `json:"component,omitempty"` // default vmcp-server
	EventTypes          []string `json:"eventTypes,omitempty"`
	ExcludeEventTypes   []string `json:"excludeEventTypes,omitempty"`
	IncludeRequestData  bool     `json:"includeRequestData,omitempty"`
	IncludeResponseData bool     `json:"includeResponseData,omitempty"`
	MaxDataSize         *int32   `json:"maxDataSize,omitempty"` // bytes; default 1024
	LogFile             string   `json:"logFile,omitempty"`     // default: stdout
}

// OptimizerConfig replaces the tool list by find_tool and call_tool.
type OptimizerConfig struct {
	EmbeddingService          string            `json:"embeddingService,omitempty"`
	EmbeddingServiceTimeout   *Duration         `json:"embeddingServiceTimeout,omitempty"` // default 30s
	EmbeddingProvider         string            `json:"embeddingProvider,omitempty"`       // tei or openai
	EmbeddingModel            string            `json:"embeddingModel,omitempty"`
	EmbeddingHeaders          map[string]string `json:"embeddingHeaders,omitempty"`          // at most 32
	MaxToolsToReturn          *int32            `json:"maxToolsToReturn,omitempty"`          // 1 to 50; default 8
	HybridSearchSemanticRatio string            `json:"hybridSearchSemanticRatio,omitempty"` // default "0.5"
	SemanticDistanceThreshold string            `json:"semanticDistanceThreshold,omitempty"` // default "1.0"
}

// CodeModeConfig lets clients send scripts that call tools.
type CodeModeConfig struct {
	Enabled                bool      `json:"enabled,omitempty"`                // default false
	StepLimit              *int64    `json:"stepLimit,omitempty"`              // default 100000
	ParallelMaxConcurrency *int32    `json:"parallelMaxConcurrency,omitempty"` // default 10
	ToolCallTimeout        *Duration `json:"toolCallTimeout,omitempty"`        // default 30s
}

// CompositeTool is a workflow shown as one tool.
type CompositeTool struct {
	Name        string                   `json:"name"`
	Description string                   `json:"description,omitempty"`
	Parameters  map[string]any           `json:"parameters,omitempty"` // JSON Schema
	Timeout     *Duration                `json:"timeout,omitempty"`    // default 30m
	Steps       []WorkflowStep           `json:"steps"`
	Output      *WorkflowOutput          `json:"output,omitempty"`
	Annotations *ToolAnnotationsOverride `json:"annotations,omitempty"`
}

// WorkflowStep calls a tool, asks the person, or repeats a step.
type WorkflowStep struct {
	ID             string               `json:"id"`
	Type           string               `json:"type,omitempty"`      // tool (default), elicitation or forEach
	Tool           string               `json:"tool,omitempty"`      // <workload>.<tool>
	Arguments      map[string]any       `json:"arguments,omitempty"` // templates
	Condition      string               `json:"condition,omitempty"`
	DependsOn      []string             `json:"dependsOn,omitempty"`
	OnError        *StepErrorHandling   `json:"onError,omitempty"`
	Message        string               `json:"message,omitempty"`
	Schema         map[string]any       `json:"schema,omitempty"`
	Timeout        *Duration            `json:"timeout,omitempty"` // default 5m
	OnDecline      *ElicitationResponse `json:"onDecline,omitempty"`
	OnCancel       *ElicitationResponse `json:"onCancel,omitempty"`
	DefaultResults map[string]any       `json:"defaultResults,omitempty"`
	Collection     string               `json:"collection,omitempty"`
	ItemVar        string               `json:"itemVar,omitempty"`       // default item
	MaxParallel    *int32               `json:"maxParallel,omitempty"`   // default 10, at most 50
	MaxIterations  *int32               `json:"maxIterations,omitempty"` // default 100, at most 1000
	Step           *WorkflowStep        `json:"step,omitempty"`
}

// StepErrorHandling says what follows a failed step.
type StepErrorHandling struct {
	Action     string    `json:"action,omitempty"`     // abort (default), continue or retry
	RetryCount *int32    `json:"retryCount,omitempty"` // at most 10
	RetryDelay *Duration `json:"retryDelay,omitempty"`
}

// ElicitationResponse says what follows a refusal.
type ElicitationResponse struct {
	Action string `json:"action,omitempty"` // abort (default), skip_remaining or continue
}

// WorkflowOutput is the shape and content of a workflow's result.
type WorkflowOutput struct {
	Properties map[string]OutputProperty `json:"properties"`
	Required   []string                  `json:"required,omitempty"`
}

// OutputProperty is one member of it.
type OutputProperty struct {
	Type        string                    `json:"type"`
	Description string                    `json:"description,omitempty"`
	Value       string                    `json:"value,omitempty"` // template
	Properties  map[string]OutputProperty `json:"properties,omitempty"`
	Default     any                       `json:"default,omitempty"`
}
