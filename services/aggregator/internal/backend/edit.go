package backend

import (
	"bytes"
	"net/http"
	"slices"
	"strings"

	"vmcp/internal/mcpwire"
)

// hop is a request on its way, and what of it is said differently on the two sides.
type hop struct {
	b            *Backend
	req          Request
	client, wire mcpwire.Era
	declared     []byte          // what a modern backend is told of a legacy client's capabilities
	id           mcpwire.RawID   // ours, also as progress token
	token        mcpwire.RawID   // the client's progress token; nil without
	params       []mcpwire.Field // of params, in place of the client's or beside them
}

// reserved says that a field of _meta belongs to the hop: a prefix whose second label is mcp or modelcontextprotocol
// (docs/rules.md#whose-_meta-it-is).
func reserved(name string) bool {
	prefix, _, ok := strings.Cut(name, "/")
	if !ok {
		return false
	}
	labels := strings.SplitN(prefix, ".", 3)
	return len(labels) >= 2 && (labels[1] == "mcp" || labels[1] == "modelcontextprotocol")
}

// outgoing makes the request as this backend is to see it.
func (h *hop) outgoing() *outgoing {
	m := h.req.Message
	edits := make([]mcpwire.Edit, 0, 8)
	edits = append(edits, m.IDEdit(h.id))
	if m.Item != mcpwire.ItemNone && h.req.Name != m.Name {
		edits = append(edits, m.NameEdit(h.req.Name))
	}
	edits = append(edits, h.metaEdits()...)
	out := &outgoing{id: h.id, method: m.Method, body: mcpwire.Splice(m.Body, edits...), header: h.req.Header}
	if h.wire == mcpwire.EraModern {
		out.header = h.modernHeader()
	}
	return out
}

// metaEdits give params._meta the fields of the wire's era.
func (h *hop) metaEdits() []mcpwire.Edit {
	m := h.req.Message
	var fields []mcpwire.Field
	h.token = nil
	if token := m.Meta.Raw("progressToken"); token != nil {
		h.token = token
		fields = append(fields, mcpwire.Field{Name: "progressToken", Value: h.id})
	}
	if h.wire == mcpwire.EraModern {
		fields = append(fields, h.envelope()...)
	}
	if m.Meta.Exists() {
		return append(m.Meta.Change(reserved, fields...), m.Params.Change(nil, h.params...)...)
	}
	if len(fields) == 0 {
		return m.Params.Change(nil, h.params...)
	}
	meta := mcpwire.Field{Name: "_meta", Value: object(fields)}
	if m.Params.Exists() {
		return m.Params.Change(nil, append(slices.Clone(h.params), meta)...)
	}
	at := bytes.IndexByte(m.Body, '{') + 1
	return []mcpwire.Edit{{Start: at, End: at, With: append(append([]byte(`"params":`), object([]mcpwire.Field{meta})...), ',')}}
}

var quotedModern = mcpwire.Quote(mcpwire.Version20260728)

// envelope is the reserved part of _meta toward a modern backend (HM-1).
func (h *hop) envelope() []mcpwire.Field {
	meta := h.req.Message.Meta
	fields := []mcpwire.Field{
		{Name: mcpwire.MetaProtocolVersion, Value: quotedModern},
		{Name: mcpwire.MetaClientInfo, Value: h.b.cfg.ClientInfo},
	}
	if h.client == mcpwire.EraModern {
		capabilities := h.b.offered(meta.Raw(mcpwire.MetaClientCapabilities))
		fields = append(fields, mcpwire.Field{Name: mcpwire.MetaClientCapabilities, Value: capabilities})
		if level := meta.Raw(mcpwire.MetaLogLevel); level != nil {
			fields = append(fields, mcpwire.Field{Name: mcpwire.MetaLogLevel, Value: level})
		}
		return fields
	}
	fields = append(fields, mcpwire.Field{Name: mcpwire.MetaClientCapabilities, Value: h.declared})
	if h.req.LogLevel != "" {
		fields = append(fields, mcpwire.Field{Name: mcpwire.MetaLogLevel, Value: mcpwire.Quote(h.req.LogLevel)})
	}
	return fields
}

func object(fields []mcpwire.Field) []byte {
	b := []byte{'{'}
	for i, f := range fields {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, mcpwire.Quote(f.Name)...)
		b = append(b, ':')
		b = append(b, f.Value...)
	}
	return append(b, '}')
}

// modernHeader makes the mirrored headers from what goes out, never from what came in (HV-7).
func (h *hop) modernHeader() http.Header {
	m := h.req.Message
	header := make(http.Header, len(h.req.Header)+4)
	for name, values := range h.req.Header {
		header[name] = values
	}
	header["Mcp-Method"] = []string{m.Method}
	switch m.Method {
	case "tools/call":
		h.b.paramHeaders(header, h.req.Name, m.Arguments)
		fallthrough
	case "prompts/get", "resources/read":
		header["Mcp-Name"] = []string{mcpwire.EncodeHeader(h.req.Name)}
	}
	return header
}
