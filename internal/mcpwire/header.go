package mcpwire

import (
	"encoding/base64"
	"strings"
	"unicode/utf8"
)

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

func mismatch(header, member string) *Error {
	return &Error{Status: 400, Code: CodeHeaderMismatch, Text: "header " + header + " and " + member + " of the body do not agree"}
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
