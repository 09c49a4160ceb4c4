package extauthz

import (
	"strings"
)

// preflight answers a browser that asks before it sends (Fetch, CORS-preflight). Of the headers that it names it may send
// ours; Mcp-Param-* differ by tool.
func preflight(r *request) *answer {
	allowed := "authorization, content-type, accept, mcp-protocol-version, mcp-session-id, mcp-method, mcp-name, last-event-id"
	for _, line := range r.header("Access-Control-Request-Headers") {
		for name := range strings.SplitSeq(line, ",") {
			name = strings.ToLower(strings.TrimSpace(name))
			if strings.HasPrefix(name, "mcp-param-") && len(allowed) < 4<<10 {
				allowed += ", " + name
			}
		}
	}
	return &answer{kind: service, status: 204, reason: "preflight", headers: []header{
		{"access-control-allow-methods", "GET, POST, DELETE, OPTIONS"},
		{"access-control-allow-headers", allowed},
		{"access-control-max-age", "7200"},
	}}
}

// cors are the response headers that let an allowed browser origin read the answer.
func cors(r *request) []header {
	if r.origin == "" {
		return nil
	}
	return []header{
		{"access-control-allow-origin", r.origin},
		{"access-control-expose-headers", "mcp-session-id, mcp-protocol-version, www-authenticate"},
		{"vary", "origin"},
	}
}
