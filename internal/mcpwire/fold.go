package mcpwire

import (
	"unicode"
	"unicode/utf8"
)

// Fold maps s so that two strings have the same image exactly when they are equal under Unicode simple folding: the
// equality by which Go's encoding/json matches member names, and with it many backends (HV-14).
func Fold(s string) string {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c >= utf8.RuneSelf || 'a' <= c && c <= 'z' {
			return fold(s)
		}
	}
	return s
}

func fold(s string) string {
	b := make([]byte, 0, len(s))
	for _, r := range s {
		b = utf8.AppendRune(b, foldRune(r))
	}
	return string(b)
}

// foldRune returns the smallest rune of r's folding orbit; for an ASCII letter its upper case.
func foldRune(r rune) rune {
	if r < utf8.RuneSelf {
		if 'a' <= r && r <= 'z' {
			r -= 'a' - 'A'
		}
		return r
	}
	low := r
	for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
		low = min(low, f)
	}
	return low
}

// The member names that carry meaning for the gateway or a server, by place. Another spelling of one of these is
// refused, since a lenient backend would read it as the real one.
var (
	knownEnvelope = foldTable("jsonrpc", "id", "method", "params", "result", "error")
	knownParams   = foldTable("_meta", "name", "arguments", "uri", "ref", "argument", "context", "cursor",
		"protocolVersion", "capabilities", "clientInfo", "level", "requestId", "reason", "progressToken", "progress",
		"total", "message", "notifications", "inputResponses", "requestState", "task", "taskId")
	knownMeta = foldTable("progressToken", MetaProtocolVersion, MetaClientInfo, MetaClientCapabilities, MetaLogLevel,
		MetaServerInfo, MetaSubscriptionID, MetaPrefix+"related-task", "traceparent", "tracestate", "baggage")
	knownRef = foldTable("type", "name", "uri")
)

func foldTable(names ...string) map[string]string {
	t := make(map[string]string, len(names))
	for _, n := range names {
		t[Fold(n)] = n
	}
	return t
}

// misspelt returns the known name that name folds to without being it.
func misspelt(known map[string]string, name string) (string, bool) {
	if k, ok := known[Fold(name)]; ok && k != name {
		return k, true
	}
	return "", false
}
