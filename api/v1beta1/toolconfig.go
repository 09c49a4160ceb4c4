package v1beta1

// MCPToolConfig picks and renames tools of a backend.
type MCPToolConfig struct {
	TypeMeta
	Metadata ObjectMeta        `json:"metadata"`
	Spec     MCPToolConfigSpec `json:"spec"`
	Status   any               `json:"status,omitempty"` // written by an operator, not read
}

// MCPToolConfigSpec is the filter and the overrides.
type MCPToolConfigSpec struct {
	ToolsFilter   []string                `json:"toolsFilter,omitempty"`   // tools to show; empty: all
	ToolsOverride map[string]ToolOverride `json:"toolsOverride,omitempty"` // by the backend's own tool name
}

// ToolOverride replaces what a backend says about a tool. At least one field is given.
type ToolOverride struct {
	Name        string                   `json:"name,omitempty"`
	Description string                   `json:"description,omitempty"`
	Annotations *ToolAnnotationsOverride `json:"annotations,omitempty"`
}

// ToolAnnotationsOverride replaces single annotations; absent ones stay the backend's.
type ToolAnnotationsOverride struct {
	Title           *string `json:"title,omitempty"`
	ReadOnlyHint    *bool   `json:"readOnlyHint,omitempty"`
	DestructiveHint *bool   `json:"destructiveHint,omitempty"`
	IdempotentHint  *bool   `json:"idempotentHint,omitempty"`
	OpenWorldHint   *bool   `json:"openWorldHint,omitempty"`
}
