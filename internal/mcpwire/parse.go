package mcpwire

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

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

// single returns the one value of a header. More than one is refused: readers differ in which they take (HV-3).
func single(r Request, name string) (string, *Error) {
	values := r.Header(name)
	if len(values) == 0 {
		return "", nil
	}
	if len(values) > 1 {
		return "", invalid("header %s is given %d times", name, len(values))
	}
	if len(values[0]) > MaxHeader {
		return "", invalid("header %s is longer than %d bytes", name, MaxHeader)
	}
	return strings.Trim(values[0], " \t"), nil
}

var decoders = sync.Pool{New: func() any { return new(decoder) }}

type decoder struct {
	buf bytes.Buffer
	dec jsontext.Decoder
}

// withDecoder runs f with a pooled strict decoder over text: no duplicate names, no invalid UTF-8.
func withDecoder[T any](text []byte, f func(*jsontext.Decoder) T, opts ...jsontext.Options) T {
	d := decoders.Get().(*decoder)
	d.buf = *bytes.NewBuffer(text)
	d.dec.Reset(&d.buf, opts...)
	out := f(&d.dec)
	d.buf = bytes.Buffer{}
	decoders.Put(d)
	return out
}

func (m *Message) readBody() *Error {
	return withDecoder(m.Body, func(dec *jsontext.Decoder) *Error {
		err := m.readEnvelope(dec)
		if err == nil {
			return nil
		}
		var refused *Error
		if errors.As(err, &refused) {
			return refused
		}
		if errors.Is(err, jsontext.ErrDuplicateName) {
			return invalid("a member name occurs twice in one object")
		}
		return &Error{Status: 400, Code: CodeParse, Text: "the body is not one valid JSON document"}
	})
}

// refuse is invalid for functions that also return the decoder's errors.
func refuse(format string, args ...any) error { return invalid(format, args...) }

func (m *Message) readEnvelope(dec *jsontext.Decoder) error {
	if k := dec.PeekKind(); k == '[' {
		return refuse("batches are not supported: send one message per request")
	} else if k != '{' {
		if k == jsontext.KindInvalid { // an unreadable or empty body
			_, err := dec.ReadToken()
			if err == nil {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		return refuse("the body is not a JSON object")
	}

	var hasID, hasMethod, hasResult, hasError bool
	var version string
	err := readObject(dec, m.Body, &m.body, knownEnvelope, "message", func(name string) error {
		switch name {
		case "id":
			v, s, err := readValue(dec)
			if err != nil {
				return err
			}
			if !validID(v) {
				return refuse("id must be a string or an integer")
			}
			hasID, m.id, m.ID = true, s, RawID(m.Body[s.start:s.end])
			return nil
		case "jsonrpc":
			return readString(dec, &version, "jsonrpc")
		case "method":
			hasMethod = true
			return readString(dec, &m.Method, "method")
		case "params":
			if err := want(dec, '{', "params must be an object"); err != nil {
				return err
			}
			return m.readParams(dec)
		case "result":
			hasResult = true
		case "error":
			hasError = true
		}
		return skip(dec, MaxDepth)
	})
	if err != nil {
		return err
	}
	if _, err := dec.ReadToken(); err != io.EOF {
		return errors.New("text after the document")
	}
	switch {
	case version != "2.0":
		return refuse(`jsonrpc must be "2.0"`)
	case hasMethod && (hasResult || hasError), hasResult && hasError:
		return refuse("a message has either method, result or error")
	case hasMethod && m.Method == "":
		return refuse("method is empty")
	case hasMethod && hasID:
		m.Kind = KindRequest
	case hasMethod:
		m.Kind = KindNotification
	case (hasResult || hasError) && hasID:
		m.Kind = KindResponse
	default:
		return refuse("the message is no request, notification or response")
	}
	return nil
}

func (m *Message) readParams(dec *jsontext.Decoder) error {
	return readObject(dec, m.Body, &m.Params, knownParams, "params", func(name string) error {
		switch name {
		case "_meta":
			if err := want(dec, '{', "params._meta must be an object"); err != nil {
				return err
			}
			return readObject(dec, m.Body, &m.Meta, knownMeta, "params._meta", func(string) error {
				return skip(dec, MaxDepth)
			})
		case "arguments":
			if dec.PeekKind() != '{' {
				return skip(dec, MaxDepth) // for tools/call and prompts/get refused in setRule
			}
			start := int(dec.InputOffset())
			if err := m.readArguments(dec); err != nil {
				return err
			}
			end := int(dec.InputOffset())
			m.Arguments = bytes.TrimLeft(m.Body[start:end], ": \t\r\n")
			return nil
		case "ref":
			if dec.PeekKind() != '{' {
				return skip(dec, MaxDepth)
			}
			var ref Object
			return readObject(dec, m.Body, &ref, knownRef, "params.ref", func(string) error { return skip(dec, MaxDepth) })
		}
		return skip(dec, MaxDepth)
	})
}

// readArguments walks the arguments of a call. Two members of one object that fold to each other are refused at any
// depth; a member that folds to a declared property is for authz to find, which knows the properties.
func (m *Message) readArguments(dec *jsontext.Decoder) error {
	var stack []level
	for {
		tok, err := dec.ReadToken()
		if err != nil {
			return err
		}
		top := len(stack) - 1
		switch kind := tok.Kind(); kind {
		case '{', '[':
			if len(stack) == MaxDepth {
				return refuse("arguments are nested deeper than %d", MaxDepth)
			}
			stack = append(stack, level{object: kind == '{'})
			continue
		case '}', ']':
			stack = stack[:top]
			if len(stack) == 0 {
				return nil
			}
			continue
		case '"':
			if !stack[top].object {
				continue
			}
			if _, n := dec.StackIndex(dec.StackDepth()); n%2 == 0 {
				continue // a value, not a name
			}
			name := tok.String()
			if top == 0 {
				m.ArgumentNames = append(m.ArgumentNames, name)
			}
			if !stack[top].add(Fold(name)) {
				return refuse("two argument names differ only in case: %s", clip(name))
			}
		}
	}
}

// level is one open object or array of the arguments, with the folded names seen in it so far.
type level struct {
	object bool
	few    []string // up to 16, then all in many
	many   map[string]bool
}

// add notes a folded name and reports whether it is new.
func (l *level) add(f string) bool {
	if l.many == nil && len(l.few) < 16 {
		for _, other := range l.few {
			if other == f {
				return false
			}
		}
		l.few = append(l.few, f)
		return true
	}
	if l.many == nil {
		l.many = make(map[string]bool, 64)
		for _, other := range l.few {
			l.many[other] = true
		}
	}
	if l.many[f] {
		return false
	}
	l.many[f] = true
	return true
}

// readObject reads the object that comes next into o. value must consume the value of the member it is told. A name
// that is another spelling of one in known is refused (HV-14).
func readObject(dec *jsontext.Decoder, text []byte, o *Object, known map[string]string, place string, value func(name string) error) error {
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	o.Text, o.Start = text, int(dec.InputOffset())-1
	for dec.PeekKind() != '}' {
		tok, err := dec.ReadToken()
		if err != nil {
			return err
		}
		mem := Member{Name: tok.String()}
		mem.KeyStart = quoteStart(text, int(dec.InputOffset()))
		if k, wrong := misspelt(known, mem.Name); wrong {
			return refuse("%s has a member %s: did you mean %s?", place, clip(mem.Name), k)
		}
		dec.PeekKind() // moves no offset; the value begins after colon and blanks
		mem.Start = valueStart(text, int(dec.InputOffset()))
		if err := value(mem.Name); err != nil {
			return err
		}
		mem.End = int(dec.InputOffset())
		o.Members = append(o.Members, mem)
	}
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	o.End = int(dec.InputOffset())
	return nil
}

// quoteStart finds the opening quote of the JSON string that ends at end (exclusive).
func quoteStart(text []byte, end int) int {
	for i := end - 2; i >= 0; i-- {
		if text[i] != '"' {
			continue
		}
		slashes := 0
		for j := i - 1; j >= 0 && text[j] == '\\'; j-- {
			slashes++
		}
		if slashes%2 == 0 {
			return i
		}
	}
	return 0
}

// valueStart skips from the end of a name, or of the element before, to the value.
func valueStart(text []byte, at int) int {
	for at < len(text) {
		switch text[at] {
		case ' ', '\t', '\r', '\n', ':', ',':
			at++
		default:
			return at
		}
	}
	return at
}

func readValue(dec *jsontext.Decoder) (jsontext.Value, span, error) {
	v, err := dec.ReadValue()
	end := int(dec.InputOffset())
	return v, span{end - len(v), end}, err
}

func readString(dec *jsontext.Decoder, to *string, member string) error {
	if err := want(dec, '"', member+" must be a string"); err != nil {
		return err
	}
	tok, err := dec.ReadToken()
	if err == nil {
		*to = tok.String()
	}
	return err
}

// want refuses a next value of another kind; text that is no JSON at all gives the decoder's error.
func want(dec *jsontext.Decoder, kind jsontext.Kind, text string) error {
	switch dec.PeekKind() {
	case kind:
		return nil
	case jsontext.KindInvalid:
		if _, err := dec.ReadToken(); err != nil {
			return err
		}
		return io.ErrUnexpectedEOF
	}
	return refuse("%s", text)
}

// skip reads over one value, refusing one that is nested deeper than depth.
func skip(dec *jsontext.Decoder, depth int) error {
	base := dec.StackDepth()
	for {
		if _, err := dec.ReadToken(); err != nil {
			return err
		}
		switch d := dec.StackDepth() - base; {
		case d == 0:
			return nil
		case d > depth:
			return refuse("the message is nested deeper than %d", depth)
		}
	}
}

// validID: a string or an integer (HT-6). Fractions and exponents are no integers here, even where their value is.
func validID(v jsontext.Value) bool {
	switch v.Kind() {
	case '"':
		return len(v) <= 1<<10
	case '0':
		return len(v) <= 32 && !bytes.ContainsAny(v, ".eE")
	}
	return false
}

// clip shortens what a client wrote for an error text.
func clip(s string) string {
	const most = 128
	if len(s) <= most {
		return s
	}
	for most := most; most > 0; most-- {
		if utf8.RuneStart(s[most]) {
			return s[:most] + "…"
		}
	}
	return "…"
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

func mismatch(header, member string) *Error {
	return &Error{Status: 400, Code: CodeHeaderMismatch, Text: "header " + header + " and " + member + " of the body do not agree"}
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

// compareHeaders checks the mirrored headers of a 2026-07-28 request against its body (HV-1, HV-2).
// Mcp-Param-* need a tool's schema: the aggregator compares those.
func (m *Message) compareHeaders(r Request) *Error {
	method, err := single(r, "Mcp-Method")
	if err != nil {
		return err
	}
	if method != m.Method {
		return mismatch("Mcp-Method", "method")
	}
	name, err := single(r, "Mcp-Name")
	if err != nil {
		return err
	}
	switch m.Method {
	case "tools/call", "prompts/get", "resources/read":
		if decoded, ok := DecodeHeader(name); !ok || decoded != m.Name {
			return mismatch("Mcp-Name", "params."+m.Rule.Member)
		}
	}
	return nil
}

// DecodeHeader undoes the base64 form of a mirrored header value: =?base64?…?= around UTF-8, in exactly this spelling.
// Anything without both markers is literal. False for markers around what is no canonical base64 of UTF-8 (HV-2).
func DecodeHeader(v string) (string, bool) {
	const head, tail = "=?base64?", "?="
	if len(v) < len(head)+len(tail) || !strings.HasPrefix(v, head) || !strings.HasSuffix(v, tail) {
		return v, true
	}
	b, err := base64.StdEncoding.Strict().DecodeString(v[len(head) : len(v)-len(tail)])
	if err != nil || !utf8.Valid(b) {
		return "", false
	}
	return string(b), true
}

// EncodeHeader is the inverse: literal where that is allowed, else base64 (HV-2).
func EncodeHeader(v string) string {
	plain := v == strings.Trim(v, " ") && !(strings.HasPrefix(v, "=?") && strings.HasSuffix(v, "?="))
	for i := 0; plain && i < len(v); i++ {
		plain = 0x20 <= v[i] && v[i] < 0x7f
	}
	if plain {
		return v
	}
	return "=?base64?" + base64.StdEncoding.EncodeToString([]byte(v)) + "?="
}
