package mcpwire

import (
	"bytes"
	"errors"
	"io"

	"github.com/go-json-experiment/json/jsontext"
)

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
			return io.ErrUnexpectedEOF
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
