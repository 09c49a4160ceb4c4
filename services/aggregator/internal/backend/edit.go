package backend

import (
	"bytes"
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"vmcp/internal/mcpwire"
)

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
func (c *call) outgoing(ctx context.Context) (*outgoing, error) {
	m := c.req.Message
	edits := make([]mcpwire.Edit, 0, 8)
	edits = append(edits, m.IDEdit(c.id))
	if m.Item != mcpwire.ItemNone && c.req.Name != m.Name {
		edits = append(edits, m.NameEdit(c.req.Name))
	}
	edits = append(edits, c.metaEdits()...)
	out := &outgoing{id: c.id, method: m.Method, body: mcpwire.Splice(m.Body, edits...), header: c.req.Header}
	if c.wire == mcpwire.EraModern {
		out.header = c.modernHeader(ctx)
	}
	return out, nil
}

// metaEdits give params._meta the fields of the wire's era.
func (c *call) metaEdits() []mcpwire.Edit {
	m := c.req.Message
	var fields []mcpwire.Field
	c.token = nil
	if token := m.Meta.Raw("progressToken"); token != nil {
		c.token = token
		fields = append(fields, mcpwire.Field{Name: "progressToken", Value: c.id})
	}
	if c.wire == mcpwire.EraModern {
		fields = append(fields, c.envelope()...)
	}
	if m.Meta.Exists() {
		return m.Meta.Change(reserved, fields...)
	}
	if len(fields) == 0 {
		return nil
	}
	meta := mcpwire.Field{Name: "_meta", Value: object(fields)}
	if m.Params.Exists() {
		return m.Params.Change(nil, meta)
	}
	at := bytes.IndexByte(m.Body, '{') + 1
	return []mcpwire.Edit{{Start: at, End: at, With: append(append([]byte(`"params":`), object([]mcpwire.Field{meta})...), ',')}}
}

var quotedModern = mcpwire.Quote(mcpwire.Version20260728)

// envelope is the reserved part of _meta toward a modern backend (HM-1).
func (c *call) envelope() []mcpwire.Field {
	meta := c.req.Message.Meta
	fields := []mcpwire.Field{
		{Name: mcpwire.MetaProtocolVersion, Value: quotedModern},
		{Name: mcpwire.MetaClientInfo, Value: c.s.conn.b.cfg.ClientInfo},
	}
	if c.client == mcpwire.EraModern {
		capabilities := c.s.conn.b.offered(meta.Raw(mcpwire.MetaClientCapabilities))
		fields = append(fields, mcpwire.Field{Name: mcpwire.MetaClientCapabilities, Value: capabilities})
		if level := meta.Raw(mcpwire.MetaLogLevel); level != nil {
			fields = append(fields, mcpwire.Field{Name: mcpwire.MetaLogLevel, Value: level})
		}
		return fields
	}
	fields = append(fields, mcpwire.Field{Name: mcpwire.MetaClientCapabilities, Value: c.s.conn.declared})
	if c.req.LogLevel != "" {
		fields = append(fields, mcpwire.Field{Name: mcpwire.MetaLogLevel, Value: mcpwire.Quote(c.req.LogLevel)})
	}
	return fields
}

// withoutInput drops the capabilities by which a backend could ask back: a legacy client's modern backend would do so
// with an input_required result, which is not bridged.
func withoutInput(capabilities []byte) []byte {
	if len(capabilities) == 0 {
		return []byte("{}")
	}
	o, err := mcpwire.ParseObject(capabilities, 0, len(capabilities))
	if err != nil {
		return []byte("{}")
	}
	return mcpwire.Splice(capabilities, o.Change(func(name string) bool {
		return name == "elicitation" || name == "sampling" || name == "roots" || name == "tasks"
	})...)
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

// restoreToken gives a progress notification the client's token. False: it belongs to no call of this client (PC-1).
func (c *call) restoreToken(r mcpwire.Reply) ([]byte, bool) {
	params, ok := r.Params()
	if !ok || c.token == nil {
		return nil, false
	}
	token, ok := params.Find("progressToken")
	if !ok || !bytes.Equal(r.Body.Text[token.Start:token.End], c.id) {
		return nil, false
	}
	return mcpwire.Splice(r.Body.Text, mcpwire.Edit{Start: token.Start, End: token.End, With: c.token}), true
}

// wantsLog says whether a modern client asked for a log message of this level with this request (HM-9).
func (c *call) wantsLog(r mcpwire.Reply) bool {
	asked, _ := c.req.Message.Meta.String(mcpwire.MetaLogLevel)
	params, _ := r.Params()
	level, _ := params.String("level")
	least := slices.Index(mcpwire.LogLevels, asked)
	return least >= 0 && slices.Index(mcpwire.LogLevels, level) >= least
}

// restore makes a response the client's: its id, and the fields of its era.
func (c *call) restore(r mcpwire.Reply) ([]byte, error) {
	edits := make([]mcpwire.Edit, 0, 6)
	if id := r.IDSpan; id.Exists() {
		edits = append(edits, mcpwire.Edit{Start: id.Start, End: id.End, With: c.req.Message.ID})
	} else if at, ok := r.Body.Find("id"); ok { // null
		edits = append(edits, mcpwire.Edit{Start: at.Start, End: at.End, With: c.req.Message.ID})
	} else {
		edits = append(edits, r.Body.Change(nil, mcpwire.Field{Name: "id", Value: c.req.Message.ID})...)
	}
	var more []mcpwire.Edit
	var err error
	switch {
	case r.ErrorSpan.Exists():
		more, err = c.errorEdits(r)
	case c.wire == mcpwire.EraModern:
		more, err = c.modernResult(r)
	case c.client == mcpwire.EraModern:
		more, err = c.legacyResult(r)
	}
	if err != nil {
		return nil, err
	}
	return mcpwire.Splice(r.Body.Text, append(edits, more...)...), nil
}

// errorEdits: -32002 and -32042 are never shown to a modern client (docs/rules.md#errors).
func (c *call) errorEdits(r mcpwire.Reply) ([]mcpwire.Edit, error) {
	o, ok := r.Error()
	if !ok {
		return nil, c.s.conn.b.errorf(ErrInvalidReply, true, "error is no object")
	}
	code, ok := o.Find("code")
	if !ok {
		return nil, c.s.conn.b.errorf(ErrInvalidReply, true, "error has no code")
	}
	if c.client != mcpwire.EraModern {
		return nil, nil
	}
	to := 0
	switch r.ErrorCode() {
	case -32002:
		to = mcpwire.CodeInvalidParams
	case -32042:
		to = mcpwire.CodeInternal
	default:
		return nil, nil
	}
	return []mcpwire.Edit{{Start: code.Start, End: code.End, With: strconv.AppendInt(nil, int64(to), 10)}}, nil
}

// modernResult takes a modern backend's result to a client of either era.
func (c *call) modernResult(r mcpwire.Reply) ([]mcpwire.Edit, error) {
	b := c.s.conn.b
	o, ok := r.Result()
	if !ok {
		return nil, b.errorf(ErrInvalidReply, true, "result is no object")
	}
	kind, ok := o.String("resultType")
	if !ok && o.Raw("resultType") != nil {
		return nil, b.errorf(ErrInvalidReply, true, "resultType is no string")
	}
	switch kind {
	case "", "complete":
	case "input_required":
		switch c.req.Message.Method { // MR-1
		case "tools/call", "prompts/get", "resources/read":
		default:
			return nil, b.errorf(ErrInvalidReply, true, "input_required in reply to %s", c.req.Message.Method)
		}
		if c.client == mcpwire.EraLegacy {
			return nil, b.errorf(ErrNeedsInput, true, "%s was answered with input_required", c.req.Message.Method)
		}
		if method, bad := b.asksTooMuch(o); bad {
			return nil, b.errorf(ErrInvalidReply, true, "input_required asks for %q, which no client is asked for this backend", method)
		}
	default: // HM-5; an extension's value too: none is declared
		return nil, b.errorf(ErrInvalidReply, true, "unknown resultType")
	}
	if c.client == mcpwire.EraLegacy {
		return resultEdits(o, nil, func(name string) bool {
			return name == "resultType" || name == "ttlMs" || name == "cacheScope"
		}), nil
	}
	var fields []mcpwire.Field
	if kind == "" {
		fields = append(fields, mcpwire.Field{Name: "resultType", Value: []byte(`"complete"`)})
	}
	return resultEdits(o, b.cfg.ServerInfo, nil, fields...), nil
}

// legacyResult gives a legacy backend's result the fields that a modern client demands.
func (c *call) legacyResult(r mcpwire.Reply) ([]mcpwire.Edit, error) {
	b := c.s.conn.b
	o, ok := r.Result()
	if !ok {
		return nil, b.errorf(ErrInvalidReply, true, "result is no object")
	}
	fields := []mcpwire.Field{{Name: "resultType", Value: []byte(`"complete"`)}}
	if m := c.req.Message.Method; m == "resources/read" || strings.HasSuffix(m, "/list") { // CA-1, CA-3
		if o.Raw("ttlMs") == nil {
			fields = append(fields, mcpwire.Field{Name: "ttlMs", Value: []byte("0")})
		}
		if o.Raw("cacheScope") == nil {
			fields = append(fields, mcpwire.Field{Name: "cacheScope", Value: []byte(`"private"`)})
		}
	}
	return resultEdits(o, b.cfg.ServerInfo, nil, fields...), nil
}

// resultEdits change the members of a result, and in its _meta drop the reserved fields and write our serverInfo, if
// there is one to write.
func resultEdits(result mcpwire.Object, serverInfo []byte, drop func(string) bool, fields ...mcpwire.Field) []mcpwire.Edit {
	var info []mcpwire.Field
	if serverInfo != nil {
		info = []mcpwire.Field{{Name: mcpwire.MetaServerInfo, Value: serverInfo}}
	}
	var edits []mcpwire.Edit
	if at, ok := result.Find("_meta"); ok {
		if meta, err := mcpwire.ParseObject(result.Text, at.Start, at.End); err == nil {
			edits = meta.Change(reserved, info...)
		}
	} else if info != nil {
		fields = append(fields, mcpwire.Field{Name: "_meta", Value: object(info)})
	}
	return append(edits, result.Change(drop, fields...)...)
}

// modernHeader makes the mirrored headers from what goes out, never from what came in (HV-7).
func (c *call) modernHeader(ctx context.Context) http.Header {
	m := c.req.Message
	h := make(http.Header, len(c.req.Header)+4)
	for name, values := range c.req.Header {
		h[name] = values
	}
	h["Mcp-Method"] = []string{m.Method}
	switch m.Method {
	case "tools/call":
		c.s.conn.b.paramHeaders(h, c.req.Name, m.Arguments)
		fallthrough
	case "prompts/get", "resources/read":
		h["Mcp-Name"] = []string{mcpwire.EncodeHeader(c.req.Name)}
	}
	return h
}
