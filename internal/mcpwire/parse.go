package mcpwire

// MaxDepth bounds the nesting of a client's JSON; MaxHeader the length of an Mcp-* header value (HV-11).
const (
	MaxDepth  = 256
	MaxHeader = 8 << 10
)

// Parse reads one HTTP request. With an error the Message holds what was known by then, the id above all, so that
// the answer can carry it (HT-10).
func Parse(r Request) (Message, *Error) {
	m := Message{Body: r.Body}
	version, err := single(r, "Mcp-Protocol-Version")
	if err != nil {
		return m, err
	}
	m.Version = version

	switch r.Method {
	case "POST":
	case "GET", "DELETE":
		m.Kind, m.Rule = KindStream, streamRule
		if r.Method == "DELETE" {
			m.Kind, m.Rule = KindEnd, endRule
		}
		m.Era = EraLegacy
		if version != "" && !LegacyVersion(version) {
			m.Era = EraModern
		}
		if len(r.Body) > 0 {
			return m, invalid("%s takes no body", r.Method)
		}
		return m, nil
	default:
		return m, &Error{Status: 405, Code: CodeInvalidRequest, Text: "method not allowed: use POST, GET or DELETE"}
	}

	if err := m.readBody(); err != nil {
		return m, err
	}
	if err := m.setEra(); err != nil {
		return m, err
	}
	if err := m.setRule(); err != nil {
		return m, err
	}
	if m.Era == EraModern && m.Kind == KindRequest && !m.VersionUnsupported {
		if err := m.compareHeaders(r); err != nil {
			return m, err
		}
	}
	return m, nil
}

// setEra decides the era by the rules of docs/rules.md#which-era-a-request-is-of, in their order.
func (m *Message) setEra() *Error {
	inBody, hasVersion := m.Meta.String(MetaProtocolVersion)
	if !hasVersion && m.Meta.Raw(MetaProtocolVersion) != nil {
		return invalid("params._meta %s must be a string", MetaProtocolVersion)
	}
	m.Era = EraLegacy
	switch {
	case m.Method == "initialize" && !hasVersion:
	case m.Version != "" && !LegacyVersion(m.Version):
		m.Era = EraModern
		if m.Kind != KindRequest {
			return nil
		}
		if hasVersion && inBody != m.Version {
			return mismatch("Mcp-Protocol-Version", "params._meta "+MetaProtocolVersion)
		}
		if m.Version != Version20260728 {
			m.VersionUnsupported = true
			return nil
		}
		if !hasVersion {
			return missingMeta(MetaProtocolVersion)
		}
		if raw := m.Meta.Raw(MetaClientCapabilities); len(raw) == 0 || raw[0] != '{' {
			return missingMeta(MetaClientCapabilities)
		}
	case hasVersion:
		return mismatch("Mcp-Protocol-Version", "params._meta "+MetaProtocolVersion)
	}
	return nil
}

func missingMeta(name string) *Error {
	return &Error{Status: 400, Code: CodeInvalidParams, Text: "params._meta lacks " + name}
}

// setRule finds the row of the method table and what the message names.
func (m *Message) setRule() *Error {
	switch m.Kind {
	case KindNotification:
		m.Rule = notifyRule
		return nil
	case KindResponse:
		if m.Era == EraModern { // HM-13
			return invalid("a client of 2026-07-28 posts no responses")
		}
		m.Rule = respondRule
		return nil
	}
	rule := methods[m.Method]
	if rule == nil || !rule.In(m.Era) {
		return nil
	}
	m.Rule, m.Item = rule, rule.Item
	if rule.Member == "" || m.VersionUnsupported {
		return nil
	}
	holder := m.Params
	member := rule.Member
	if member == "ref" {
		var bad *Error
		if holder, member, bad = m.readRef(); bad != nil {
			return bad
		}
	}
	mem, ok := holder.Find(member)
	if !ok {
		return &Error{Status: 400, Code: CodeInvalidParams, Text: m.Method + " needs params." + rule.Member}
	}
	name, ok := Unquote(holder.Text[mem.Start:mem.End])
	if !ok || name == "" {
		return &Error{Status: 400, Code: CodeInvalidParams, Text: "params." + rule.Member + " must be a string that is not empty"}
	}
	m.Name, m.name = name, span{mem.Start, mem.End}
	if raw := m.Params.Raw("arguments"); raw != nil && raw[0] != '{' {
		return &Error{Status: 400, Code: CodeInvalidParams, Text: "params.arguments must be an object"}
	}
	return nil
}

// readRef finds what a completion is about.
func (m *Message) readRef() (Object, string, *Error) {
	bad := &Error{Status: 400, Code: CodeInvalidParams, Text: "params.ref must be a ref/prompt with a name or a ref/resource with a uri"}
	mem, ok := m.Params.Find("ref")
	if !ok {
		return Object{}, "", bad
	}
	ref, err := ParseObject(m.Body, mem.Start, mem.End)
	if err != nil {
		return Object{}, "", bad
	}
	switch t, _ := ref.String("type"); t {
	case "ref/prompt":
		m.Item = ItemPrompt
		return ref, "name", nil
	case "ref/resource":
		m.Item = ItemResource
		return ref, "uri", nil
	}
	return Object{}, "", bad
}
