package backend

import (
	"bytes"
	"slices"
	"strconv"

	"vmcp/internal/mcpwire"
)

// Servers write what the one parser refuses. It stays strict, and what such a message plainly means is written into it
// before it is parsed once more. Nothing is decided upon what a backend sends, so no more depends on this than that the
// client can read the answer.

// parse reads one message of the backend.
func parse(msg []byte) (mcpwire.Reply, error) {
	r, err := mcpwire.ParseReply(msg)
	if err == nil && !(r.ResultSpan.Exists() && msg[r.ResultSpan.Start] == '[') {
		return r, nil
	}
	fixed := mend(msg)
	if bytes.Equal(fixed, msg) {
		return r, err
	}
	return mcpwire.ParseReply(fixed)
}

// split takes a JSON-RPC batch apart, which 2025-03-26 allowed and some servers answer with at any time. What is none is
// one message.
func split(text []byte) [][]byte {
	if start := bytes.TrimLeft(bytes.TrimPrefix(text, byteOrderMark), " \t\r\n"); len(start) == 0 || start[0] != '[' {
		return [][]byte{text}
	}
	parts, err := elements(bytes.TrimPrefix(text, byteOrderMark))
	if err != nil {
		return [][]byte{text}
	}
	return parts
}

var byteOrderMark = []byte("\xef\xbb\xbf")

// isNoise says of text that no message was found in that it was not meant as one: a line of a log, a sign of life.
func isNoise(text []byte) bool { return !bytes.Contains(text, []byte(`"jsonrpc"`)) }

// mend takes away a byte order mark and members that are null and stand for none, makes an integer of an id like 7.0 and
// an object of a result that is PHP's word for an empty one, and marks what is no Unicode.
func mend(msg []byte) []byte {
	msg = marked(bytes.TrimPrefix(msg, byteOrderMark))
	o, err := mcpwire.ParseObject(msg, 0, len(msg))
	if err != nil {
		return msg
	}
	null := func(name string) bool { return string(o.Raw(name)) == "null" }
	_, result := o.Find("result")
	_, failed := o.Find("error")
	drop := func(name string) bool {
		switch name {
		case "error":
			return null(name) && result
		case "result":
			return null(name) && failed && !null("error")
		case "method":
			return null(name)
		}
		return false
	}
	var set []mcpwire.Field
	if raw := o.Raw("id"); len(raw) > 0 && raw[0] != '"' {
		if f, err := strconv.ParseFloat(string(raw), 64); err == nil && f == float64(int64(f)) {
			set = append(set, mcpwire.Field{Name: "id", Value: strconv.AppendInt(nil, int64(f), 10)})
		}
	}
	if raw := o.Raw("result"); len(raw) > 1 && raw[0] == '[' && len(bytes.TrimSpace(raw[1:len(raw)-1])) == 0 {
		set = append(set, mcpwire.Field{Name: "result", Value: []byte("{}")})
	}
	edits := o.Change(drop, set...)
	if len(edits) == 0 {
		return msg
	}
	return mcpwire.Splice(msg, edits...)
}

// marked puts U+FFFD in the place of bytes that are no UTF-8, and of escapes that are half a surrogate pair: what a
// server writes that cuts a text in the middle of a character.
func marked(msg []byte) []byte {
	msg = bytes.ToValidUTF8(msg, []byte("\uFFFD"))
	out := msg
	for i := 0; i+6 <= len(msg); i++ {
		if msg[i] != '\\' {
			continue
		}
		if msg[i+1] != 'u' {
			i++
			continue
		}
		switch half := surrogate(msg[i:]); {
		case half == 0:
			i += 5
		case half == 'h' && surrogate(msg[i+6:]) == 'l':
			i += 11
		default:
			if &out[0] == &msg[0] {
				out = slices.Clone(msg)
			}
			copy(out[i+2:], "fffd")
			i += 5
		}
	}
	return out
}

// surrogate says which half of a pair the escape is that text begins with, h or l; 0: none.
func surrogate(text []byte) byte {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0
	}
	switch n, err := strconv.ParseUint(string(text[2:6]), 16, 16); {
	case err != nil:
		return 0
	case n >= 0xd800 && n < 0xdc00:
		return 'h'
	case n >= 0xdc00 && n < 0xe000:
		return 'l'
	}
	return 0
}

// isID says whether an id or a token that came back is the one we sent, a number; some servers make a string of it.
func isID(got []byte, ours string) bool {
	if s, ok := mcpwire.Unquote(got); ok {
		return s == ours
	}
	return string(got) == ours
}
