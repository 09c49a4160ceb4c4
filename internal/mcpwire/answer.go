package mcpwire

import "strconv"

// AppendError appends a JSON-RPC error response. A nil id is left out: the request could not be read that far (HT-6).
// data is JSON or nil.
func AppendError(b []byte, id RawID, code int, text string, data []byte) []byte {
	b = append(b, `{"jsonrpc":"2.0",`...)
	if id != nil {
		b = append(b, `"id":`...)
		b = append(b, id...)
		b = append(b, ',')
	}
	b = append(b, `"error":{"code":`...)
	b = strconv.AppendInt(b, int64(code), 10)
	b = append(b, `,"message":`...)
	b = append(b, Quote(text)...)
	if data != nil {
		b = append(b, `,"data":`...)
		b = append(b, data...)
	}
	return append(b, "}}"...)
}

// AppendResult appends a JSON-RPC response with a result, which is JSON.
func AppendResult(b []byte, id RawID, result []byte) []byte {
	b = append(b, `{"jsonrpc":"2.0","id":`...)
	b = append(b, id...)
	b = append(b, `,"result":`...)
	b = append(b, result...)
	return append(b, '}')
}

// UnknownItem is the one answer for what does not exist and what is not permitted, so that neither can be told from
// the other (docs/decisions/0002-denied-looks-unknown.md).
func UnknownItem(kind ItemKind, name string) string {
	return "unknown " + kind.String() + ", or not permitted: " + clip(name)
}
