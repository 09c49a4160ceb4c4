package mcpwire

import (
	"errors"
	"io"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// Reply is a shallow view of one JSON-RPC message from a backend. Backends are not trusted, but what they send is
// passed on and not decided upon, so only the envelope is read strictly.
type Reply struct {
	Kind   Kind // request, notification or response
	ID     RawID
	Method string
	Body   Object // the envelope

	IDSpan, ResultSpan, ErrorSpan, ParamsSpan Span
}

// Span is a part of Reply.Body.Text. The zero Span is absent.
type Span struct{ Start, End int }

// Exists reports whether the part is there.
func (s Span) Exists() bool { return s.End > 0 }

// ParseReply reads one message from a backend: one document, an object, a valid JSON-RPC 2.0 message.
func ParseReply(msg []byte) (Reply, error) {
	var r Reply
	o, err := parseObject(msg, 0, len(msg), true)
	if err != nil {
		return r, err
	}
	r.Body = o
	var hasMethod, hasVersion bool
	for _, m := range o.Members {
		s := Span{m.Start, m.End}
		switch m.Name {
		case "jsonrpc":
			hasVersion = string(msg[m.Start:m.End]) == `"2.0"`
		case "id":
			if !validID(jsontext.Value(msg[m.Start:m.End])) {
				if string(msg[m.Start:m.End]) == "null" { // an error without a request to belong to
					continue
				}
				return r, errors.New("id is neither string nor integer")
			}
			r.ID, r.IDSpan = RawID(msg[m.Start:m.End]), s
		case "method":
			r.Method, hasMethod = Unquote(msg[m.Start:m.End])
			if !hasMethod {
				return r, errors.New("method is no string")
			}
		case "params":
			r.ParamsSpan = s
		case "result":
			r.ResultSpan = s
		case "error":
			r.ErrorSpan = s
		}
	}
	answers := r.ResultSpan.Exists() || r.ErrorSpan.Exists()
	switch {
	case !hasVersion:
		return r, errors.New(`jsonrpc is not "2.0"`)
	case hasMethod && answers, r.ResultSpan.Exists() && r.ErrorSpan.Exists():
		return r, errors.New("the message has more than one of method, result and error")
	case hasMethod && r.ID != nil:
		r.Kind = KindRequest
	case hasMethod:
		r.Kind = KindNotification
	case answers:
		r.Kind = KindResponse
	default:
		return r, errors.New("the message has none of method, result and error")
	}
	return r, nil
}

// Result is the view of result where it is an object.
func (r *Reply) Result() (Object, bool) { return r.part(r.ResultSpan) }

// Params is the view of params where it is an object.
func (r *Reply) Params() (Object, bool) { return r.part(r.ParamsSpan) }

// Error is the view of error where it is an object.
func (r *Reply) Error() (Object, bool) { return r.part(r.ErrorSpan) }

// ErrorCode is error.code, 0 where there is none.
func (r *Reply) ErrorCode() int {
	o, ok := r.Error()
	if !ok {
		return 0
	}
	n, _ := strconv.Atoi(string(o.Raw("code")))
	return n
}

func (r *Reply) part(s Span) (Object, bool) {
	if !s.Exists() || r.Body.Text[s.Start] != '{' {
		return Object{}, false
	}
	o, err := ParseObject(r.Body.Text, s.Start, s.End)
	return o, err == nil
}

// ParseObject views the object that is text[start:end]. Names must be unique in it; nothing is asked of what its
// members hold beyond being JSON.
func ParseObject(text []byte, start, end int) (Object, error) {
	return parseObject(text, start, end, false)
}

func parseObject(text []byte, start, end int, alone bool) (Object, error) {
	type result struct {
		o   Object
		err error
	}
	r := withDecoder(text[start:end], func(dec *jsontext.Decoder) result {
		var o Object
		if dec.PeekKind() != '{' {
			return result{err: errors.New("not a JSON object")}
		}
		err := readObject(dec, text[start:end], &o, nil, "", func(string) error { return dec.SkipValue() })
		if err == nil && alone {
			if _, after := dec.ReadToken(); after != io.EOF {
				err = errors.New("text after the document")
			}
		}
		return result{o, err}
	}, jsontext.AllowDuplicateNames(true))
	if r.err != nil {
		return Object{}, r.err
	}
	o := r.o
	if o.twice() {
		return Object{}, errors.New("a member name occurs twice")
	}
	if start > 0 { // offsets into the whole text
		o.Text = text
		o.Start += start
		o.End += start
		for i := range o.Members {
			m := &o.Members[i]
			m.KeyStart += start
			m.Start += start
			m.End += start
		}
	}
	return o, nil
}
