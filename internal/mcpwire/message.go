// Package mcpwire is the one parser of MCP messages in this repository.
//
// authz decides on what it reads and the aggregator dispatches what it reads: if the two read the same bytes
// differently, the difference is a bypass. So both call Parse, and nothing else here or there looks into a client's
// JSON. The package owns the strict reading of requests (era, kind, method, target, protocol errors), the shallow
// reading of backends' replies, byte-exact edits of both, and the table of methods. It decides nothing.
package mcpwire

import "fmt"

// Protocol versions that are served at the one endpoint, newest first.
const (
	Version20260728 = "2026-07-28"
	Version20251125 = "2025-11-25"
	Version20250618 = "2025-06-18"
)

// SupportedVersions is what server/discover and error -32022 list (HM-10).
var SupportedVersions = []string{Version20260728, Version20251125, Version20250618}

// LegacyVersion reports whether v is a version with sessions that is served here.
func LegacyVersion(v string) bool { return v == Version20251125 || v == Version20250618 }

// Era is the protocol era of one request (docs/rules.md#which-era-a-request-is-of). The zero Era is no era.
type Era uint8

const (
	EraLegacy Era = 1 // 2025-11-25 and older: initialize, sessions
	EraModern Era = 2 // 2026-07-28: every request stands alone
)

func (e Era) String() string {
	switch e {
	case EraLegacy:
		return "legacy"
	case EraModern:
		return "modern"
	}
	return "none"
}

// Kind says what a message is.
type Kind uint8

const (
	KindRequest      Kind = 1 // method and id
	KindNotification Kind = 2 // method, no id
	KindResponse     Kind = 3 // result or error
	KindStream       Kind = 4 // HTTP GET
	KindEnd          Kind = 5 // HTTP DELETE
)

func (k Kind) String() string {
	switch k {
	case KindRequest:
		return "request"
	case KindNotification:
		return "notification"
	case KindResponse:
		return "response"
	case KindStream:
		return "stream"
	case KindEnd:
		return "end"
	}
	return "none"
}

// JSON-RPC and MCP error codes that the gateway itself answers with (docs/rules.md#errors).
const (
	CodeParse              = -32700
	CodeInvalidRequest     = -32600
	CodeMethodNotFound     = -32601
	CodeInvalidParams      = -32602
	CodeInternal           = -32603
	CodeHeaderMismatch     = -32020
	CodeMissingCapability  = -32021
	CodeUnsupportedVersion = -32022
)

// Names of the fields of _meta that belong to the hop (docs/rules.md#whose-_meta-it-is).
const (
	MetaPrefix             = "io.modelcontextprotocol/"
	MetaProtocolVersion    = MetaPrefix + "protocolVersion"
	MetaClientInfo         = MetaPrefix + "clientInfo"
	MetaClientCapabilities = MetaPrefix + "clientCapabilities"
	MetaLogLevel           = MetaPrefix + "logLevel"
	MetaServerInfo         = MetaPrefix + "serverInfo"
	MetaSubscriptionID     = MetaPrefix + "subscriptionId"
)

// RawID is a JSON-RPC id as it was written: a JSON string or integer. Nil where there is none.
type RawID []byte

// Message is one HTTP request of a client, read once. Its byte fields point into the request body.
type Message struct {
	Kind    Kind
	Era     Era
	Method  string // JSON-RPC method; empty for responses, GET and DELETE
	ID      RawID
	Version string // MCP-Protocol-Version header; empty where it is absent

	// Rule is the row of the method table; nil for a request whose method its era does not have.
	Rule *Rule
	// Item and Name are what the message names: a tool, a prompt, a resource. ItemNone and "" where it names nothing.
	Item ItemKind
	Name string

	// VersionUnsupported: the request names a protocol version that is not served. Answer -32022 (HM-2).
	VersionUnsupported bool

	Body      []byte
	Params    Object // members of params; zero where absent
	Meta      Object // members of params._meta; zero where absent
	Arguments []byte // params.arguments as written; nil where absent
	// ArgumentNames are the top-level member names of Arguments, decoded.
	ArgumentNames []string

	id   span
	name span // the value that holds Name
	body Object
}

// Request is what Parse reads: the parts of an HTTP request that carry MCP.
type Request struct {
	Method string                     // HTTP method
	Header func(name string) []string // all values of a header, name in canonical form; nil where absent
	Body   []byte
}

// Error is a request that the protocol itself refuses, before any policy.
type Error struct {
	Status int // HTTP
	Code   int // JSON-RPC
	Text   string
}

func (e *Error) Error() string { return fmt.Sprintf("%d %d: %s", e.Status, e.Code, e.Text) }

func invalid(format string, args ...any) *Error {
	return &Error{Status: 400, Code: CodeInvalidRequest, Text: fmt.Sprintf(format, args...)}
}

// NameEdit writes another name or URI in the place that Name was read from.
func (m *Message) NameEdit(name string) Edit {
	return Edit{m.name.start, m.name.end, Quote(name)}
}

// IDEdit replaces the id.
func (m *Message) IDEdit(id RawID) Edit { return Edit{m.id.start, m.id.end, id} }
