package backend

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"vmcp/internal/mcpwire"
)

// restoreToken gives a progress notification the client's token. False: it belongs to no call of this client (PC-1).
func (h *hop) restoreToken(r mcpwire.Reply) ([]byte, bool) {
	params, ok := r.Params()
	if !ok || h.token == nil {
		return nil, false
	}
	token, ok := params.Find("progressToken")
	if !ok || !isID(r.Body.Text[token.Start:token.End], string(h.id)) {
		return nil, false
	}
	return mcpwire.Splice(r.Body.Text, mcpwire.Edit{Start: token.Start, End: token.End, With: h.token}), true
}

// wantsLog says whether a modern client asked for a log message of this level with this request (HM-9).
func (h *hop) wantsLog(r mcpwire.Reply) bool {
	asked, _ := h.req.Message.Meta.String(mcpwire.MetaLogLevel)
	params, _ := r.Params()
	level, _ := params.String("level")
	least := slices.Index(mcpwire.LogLevels, asked)
	return least >= 0 && slices.Index(mcpwire.LogLevels, level) >= least
}

// restore makes a response the client's: its id, and the fields of its era.
func (h *hop) restore(r mcpwire.Reply) ([]byte, error) {
	edits := make([]mcpwire.Edit, 0, 6)
	if id := r.IDSpan; id.Exists() {
		edits = append(edits, mcpwire.Edit{Start: id.Start, End: id.End, With: h.req.Message.ID})
	} else if at, ok := r.Body.Find("id"); ok { // null
		edits = append(edits, mcpwire.Edit{Start: at.Start, End: at.End, With: h.req.Message.ID})
	} else {
		edits = append(edits, r.Body.Change(nil, mcpwire.Field{Name: "id", Value: h.req.Message.ID})...)
	}
	var more []mcpwire.Edit
	var err error
	switch {
	case r.ErrorSpan.Exists():
		more = h.errorEdits(r)
	case h.wire == mcpwire.EraModern:
		more, err = h.modernResult(r)
	case h.client == mcpwire.EraModern:
		more, err = h.legacyResult(r)
	case bytes.Contains(r.Body.Text, []byte(`"structuredContent"`)):
		if o, ok := r.Result(); ok {
			more = o.Change(unreadableOutput(o))
		}
	}
	if err != nil {
		return nil, err
	}
	return mcpwire.Splice(r.Body.Text, append(edits, more...)...), nil
}

// errorEdits: -32002 and -32042 are never shown to a modern client (docs/rules.md#errors). An error that clients could not
// read, and would wait for to the end of their patience, gets the members that it lacks.
func (h *hop) errorEdits(r mcpwire.Reply) []mcpwire.Edit {
	o, ok := r.Error()
	if !ok { // of a text one keeps what it says
		raw := r.Body.Text[r.ErrorSpan.Start:r.ErrorSpan.End]
		if raw[0] != '"' {
			raw = mcpwire.Quote("an error without words")
		}
		return []mcpwire.Edit{{Start: r.ErrorSpan.Start, End: r.ErrorSpan.End,
			With: object([]mcpwire.Field{codeField(mcpwire.CodeInternal), {Name: "message", Value: raw}})}}
	}
	var set []mcpwire.Field
	if _, ok := o.String("message"); !ok {
		set = append(set, mcpwire.Field{Name: "message", Value: mcpwire.Quote("an error without words")})
	}
	code, err := strconv.Atoi(string(o.Raw("code")))
	switch {
	case err != nil:
		set = append(set, codeField(mcpwire.CodeInternal))
	case h.client != mcpwire.EraModern:
	case code == -32002:
		set = append(set, codeField(mcpwire.CodeInvalidParams))
	case code == -32042:
		set = append(set, codeField(mcpwire.CodeInternal))
	}
	return o.Change(nil, set...)
}

func codeField(code int) mcpwire.Field {
	return mcpwire.Field{Name: "code", Value: strconv.AppendInt(nil, int64(code), 10)}
}

// modernResult takes a modern backend's result to a client of either era.
func (h *hop) modernResult(r mcpwire.Reply) ([]mcpwire.Edit, error) {
	b := h.b
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
	case "input_required": // a legacy client never gets here, see questions
		fields, edits, err := h.askEdits(o)
		if err != nil {
			return nil, err
		}
		return append(edits, resultEdits(o, b.cfg.ServerInfo, nil, fields...)...), nil
	default: // HM-5; an extension's value too: none is declared
		return nil, b.errorf(ErrInvalidReply, true, "unknown resultType")
	}
	if h.client == mcpwire.EraLegacy {
		unreadable := unreadableOutput(o)
		return resultEdits(o, nil, func(name string) bool {
			return name == "resultType" || name == "ttlMs" || name == "cacheScope" || unreadable(name)
		}), nil
	}
	var fields []mcpwire.Field
	if kind == "" {
		fields = append(fields, mcpwire.Field{Name: "resultType", Value: []byte(`"complete"`)})
	}
	if h.req.Message.Method == "resources/read" {
		fields = append(fields, private(o)...)
	}
	return resultEdits(o, b.cfg.ServerInfo, nil, fields...), nil
}

// legacyResult gives a legacy backend's result the fields that a modern client demands.
func (h *hop) legacyResult(r mcpwire.Reply) ([]mcpwire.Edit, error) {
	b := h.b
	o, ok := r.Result()
	if !ok {
		return nil, b.errorf(ErrInvalidReply, true, "result is no object")
	}
	fields := []mcpwire.Field{{Name: "resultType", Value: []byte(`"complete"`)}}
	if m := h.req.Message.Method; m == "resources/read" || strings.HasSuffix(m, "/list") {
		fields = append(fields, private(o)...)
	}
	return resultEdits(o, b.cfg.ServerInfo, nil, fields...), nil
}

// private are the hints of a result that policies give to some and not to others (CA-1, CA-3).
func private(result mcpwire.Object) []mcpwire.Field {
	fields := []mcpwire.Field{{Name: "cacheScope", Value: []byte(`"private"`)}}
	if result.Raw("ttlMs") == nil {
		fields = append(fields, mcpwire.Field{Name: "ttlMs", Value: []byte("0")})
	}
	return fields
}

// unreadableOutput names a structuredContent that is no object. Clients of 2025 take none and lose the whole result by
// it; what it says is in the text content too.
func unreadableOutput(result mcpwire.Object) func(name string) bool {
	raw := result.Raw("structuredContent")
	return func(name string) bool { return name == "structuredContent" && raw[0] != '{' }
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
