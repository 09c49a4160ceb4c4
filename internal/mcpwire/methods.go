package mcpwire

import "slices"

// ItemKind is the kind of a thing that policies are written about.
type ItemKind uint8

const (
	ItemNone     ItemKind = 0
	ItemTool     ItemKind = 1
	ItemPrompt   ItemKind = 2
	ItemResource ItemKind = 3
	ItemTemplate ItemKind = 4 // only in lists; a template is read as a resource
)

// Kinds are those that have a list.
var Kinds = []ItemKind{ItemTool, ItemPrompt, ItemResource, ItemTemplate}

type kindNames struct{ name, capability, list, member, key string }

// kinds is how the protocol speaks of each kind.
var kinds = [...]kindNames{
	ItemNone:     {name: "none"},
	ItemTool:     {"tool", "tools", "tools/list", "tools", "name"},
	ItemPrompt:   {"prompt", "prompts", "prompts/list", "prompts", "name"},
	ItemResource: {"resource", "resources", "resources/list", "resources", "uri"},
	ItemTemplate: {"resource template", "resources", "resources/templates/list", "resourceTemplates", "uriTemplate"},
}

func (k ItemKind) names() kindNames {
	if int(k) < len(kinds) {
		return kinds[k]
	}
	return kinds[ItemNone]
}

func (k ItemKind) String() string { return k.names().name }

// Capability is the member of a server's capabilities that stands for the kind.
func (k ItemKind) Capability() string { return k.names().capability }

// ListMethod lists the kind.
func (k ItemKind) ListMethod() string { return k.names().list }

// ListMember is the member of a list's result that holds the items, and ItemKey the member of an item that names it.
func (k ItemKind) ListMember() string { return k.names().member }
func (k ItemKind) ItemKey() string    { return k.names().key }

// ListChanged is the notification that a list of the kind changed.
func (k ItemKind) ListChanged() string {
	return "notifications/" + k.names().capability + "/list_changed"
}

// IsListChanged says whether a notification is about a list of any kind.
func IsListChanged(method string) bool {
	return slices.ContainsFunc(Kinds, func(k ItemKind) bool { return method == k.ListChanged() })
}

// LogLevels are those of logging/setLevel and notifications/message, the least severe first.
var LogLevels = []string{"debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"}

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
	List   ItemKind // the kind that the method lists
	eras   Era      // bit set
}

// In says whether the era has the method.
func (r *Rule) In(era Era) bool { return r.eras&era != 0 }

const both = EraLegacy | EraModern

// methods is every method a client may send, by era. What is not here is -32601 (HM-4).
var methods = map[string]*Rule{
	"initialize":               {Action: ActionInitialize, eras: EraLegacy},
	"ping":                     {Action: ActionPing, eras: EraLegacy},
	"logging/setLevel":         {Action: ActionSetLevel, eras: EraLegacy},
	"server/discover":          {Action: ActionDiscover, eras: EraModern},
	"tools/list":               {Action: ActionListTools, List: ItemTool, eras: both},
	"tools/call":               {Action: ActionCallTool, Item: ItemTool, Member: "name", eras: both},
	"prompts/list":             {Action: ActionListPrompts, List: ItemPrompt, eras: both},
	"prompts/get":              {Action: ActionGetPrompt, Item: ItemPrompt, Member: "name", eras: both},
	"resources/list":           {Action: ActionListResources, List: ItemResource, eras: both},
	"resources/templates/list": {Action: ActionListResources, List: ItemTemplate, eras: both},
	"resources/read":           {Action: ActionReadResource, Item: ItemResource, Member: "uri", eras: both},
	"resources/subscribe":      {Action: ActionSubscribe, Item: ItemResource, Member: "uri", eras: EraLegacy},
	"resources/unsubscribe":    {Action: ActionSubscribe, Item: ItemResource, Member: "uri", eras: EraLegacy},
	"subscriptions/listen":     {Action: ActionSubscribe, eras: EraModern},
	"completion/complete":      {Action: ActionComplete, Member: "ref", eras: both},
}

var (
	notifyRule  = &Rule{Action: ActionNotify, eras: both}
	respondRule = &Rule{Action: ActionRespond, eras: EraLegacy}
	streamRule  = &Rule{Action: ActionOpenStream, eras: both}
	endRule     = &Rule{Action: ActionEndSession, eras: both}
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
