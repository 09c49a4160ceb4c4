package mcpwire

// ItemKind is the kind of a thing that policies are written about.
type ItemKind uint8

const (
	ItemNone     ItemKind = 0
	ItemTool     ItemKind = 1
	ItemPrompt   ItemKind = 2
	ItemResource ItemKind = 3
	ItemTemplate ItemKind = 4 // only in lists; a template is read as a resource
)

func (k ItemKind) String() string {
	switch k {
	case ItemTool:
		return "tool"
	case ItemPrompt:
		return "prompt"
	case ItemResource:
		return "resource"
	case ItemTemplate:
		return "resource template"
	}
	return "none"
}

// Cedar action ids. The first three decide about items; the others exist so that a forbid can name them.
const (
	ActionCallTool      = "call_tool"
	ActionGetPrompt     = "get_prompt"
	ActionReadResource  = "read_resource"
	ActionListTools     = "list_tools"
	ActionListPrompts   = "list_prompts"
	ActionListResources = "list_resources"
	ActionSubscribe     = "subscribe"
	ActionComplete      = "complete"
	ActionInitialize    = "initialize"
	ActionPing          = "ping"
	ActionDiscover      = "discover"
	ActionSetLevel      = "set_level"
	ActionNotify        = "notify"
	ActionRespond       = "respond"
	ActionOpenStream    = "open_stream"
	ActionEndSession    = "end_session"
)

// Rule is a row of the method table (docs/architecture.md#what-is-decided): what a method names and which action it is.
type Rule struct {
	Action string // family action; for an item call also what the item's own action is derived from
	// Item says what the message names, in the member Member of params. ItemNone: nothing, any verified principal.
	// For completion/complete the kind depends on ref and Item is ItemNone in the table.
	Item   ItemKind
	Member string
	eras   Era // bit set
}

const both = EraLegacy | EraModern

// methods is every method a client may send, by era. What is not here is -32601 (HM-4).
var methods = map[string]*Rule{
	"initialize":               {ActionInitialize, ItemNone, "", EraLegacy},
	"ping":                     {ActionPing, ItemNone, "", EraLegacy},
	"logging/setLevel":         {ActionSetLevel, ItemNone, "", EraLegacy},
	"server/discover":          {ActionDiscover, ItemNone, "", EraModern},
	"tools/list":               {ActionListTools, ItemNone, "", both},
	"tools/call":               {ActionCallTool, ItemTool, "name", both},
	"prompts/list":             {ActionListPrompts, ItemNone, "", both},
	"prompts/get":              {ActionGetPrompt, ItemPrompt, "name", both},
	"resources/list":           {ActionListResources, ItemNone, "", both},
	"resources/templates/list": {ActionListResources, ItemNone, "", both},
	"resources/read":           {ActionReadResource, ItemResource, "uri", both},
	"resources/subscribe":      {ActionSubscribe, ItemResource, "uri", EraLegacy},
	"resources/unsubscribe":    {ActionSubscribe, ItemResource, "uri", EraLegacy},
	"subscriptions/listen":     {ActionSubscribe, ItemNone, "", EraModern},
	"completion/complete":      {ActionComplete, ItemNone, "ref", both},
}

var (
	notifyRule  = &Rule{ActionNotify, ItemNone, "", both}
	respondRule = &Rule{ActionRespond, ItemNone, "", EraLegacy}
	streamRule  = &Rule{ActionOpenStream, ItemNone, "", both}
	endRule     = &Rule{ActionEndSession, ItemNone, "", both}
)

// ItemAction is the action that decides about an item of the kind.
func ItemAction(k ItemKind) string {
	switch k {
	case ItemTool:
		return ActionCallTool
	case ItemPrompt:
		return ActionGetPrompt
	case ItemResource, ItemTemplate:
		return ActionReadResource
	}
	return ""
}
