// Package mcptest holds the MCP servers that tests, the demo and the benchmark put behind the gateway.
//
// Those of the official SDK (NewHTTP, GitHub, Kubernetes, Echo) behave as an author of MCP servers would write them;
// the hand-written one (NewRaw) answers byte for byte what it is told and misbehaves on demand. All of them record
// what they received, so that a test can say what a backend saw. It leaves to its users what the answers mean.
package mcptest

import (
	"net/http"
	"slices"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// Era is the part of the protocol that a server speaks.
type Era uint8

const (
	Dual   Era = iota // both, by the MCP-Protocol-Version header of each request
	Legacy            // 2025-11-25 and older: initialize and sessions
	Modern            // 2026-07-28: stateless
)

// Modern revision and the legacy ones we name in tests.
const (
	VersionModern = "2026-07-28"
	VersionLegacy = "2025-11-25"
	VersionOlder  = "2025-06-18"
)

// legacyVersions are the header values that go to the stateful handler; so does an absent header.
var legacyVersions = []string{"", "2024-11-05", "2025-03-26", VersionOlder, VersionLegacy}

// Handler serves one SDK server over Streamable HTTP in the given era. The SDK's own handler is of one era, so Dual
// has two of them and dispatches on the version header. newServer is called once for each era with its supported
// versions.
func Handler(era Era, json bool, newServer func(versions []string) *mcp.Server) http.Handler {
	var legacy, modern http.Handler
	if era != Modern {
		versions := []string{VersionLegacy, VersionOlder, "2025-03-26", "2024-11-05"}
		server := newServer(versions)
		legacy = mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server },
			&mcp.StreamableHTTPOptions{JSONResponse: json})
	}
	if era != Legacy {
		versions := []string{VersionModern}
		if era == Dual {
			versions = append(versions, VersionLegacy, VersionOlder)
		}
		server := newServer(versions)
		modern = mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server },
			&mcp.StreamableHTTPOptions{Stateless: true, JSONResponse: json, PropagateRequestCancellation: true})
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		isLegacy := slices.Contains(legacyVersions, r.Header.Get("Mcp-Protocol-Version"))
		switch {
		case era == Legacy, era == Dual && isLegacy:
			legacy.ServeHTTP(w, r)
		case era == Modern && isLegacy:
			// The SDK's stateless handler would serve a legacy call; a modern-only server must not.
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			w.Write([]byte(`{"jsonrpc":"2.0","error":{"code":-32022,"message":"unsupported protocol version","data":{"supported":["2026-07-28"],"requested":""}}}`))
		default:
			modern.ServeHTTP(w, r)
		}
	})
}
