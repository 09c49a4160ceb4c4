package mcptest

import (
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// TestClient: the SDK's client talks to each server in each era; no other test should fail because of a broken double.
func TestClient(t *testing.T) {
	for _, era := range []Era{Dual, Legacy, Modern} {
		for name, server := range map[string]func([]string) *mcp.Server{"probe": nil, "github": GitHub, "kubernetes": Kubernetes} {
			h := NewHTTP(t, Options{Era: era, Server: server})
			client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
			s, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: h.URL, DisableStandaloneSSE: true}, nil)
			if err != nil {
				t.Fatalf("%s, era %d: %v", name, era, err)
			}
			list, err := s.ListTools(t.Context(), nil)
			if err != nil || len(list.Tools) == 0 {
				t.Fatalf("%s, era %d: %v", name, era, err)
			}
			if server != nil && len(list.Tools) != 10 {
				t.Errorf("%s has %d tools", name, len(list.Tools))
			}
			call := &mcp.CallToolParams{Name: list.Tools[0].Name, Arguments: map[string]any{
				"text": "hi", "namespace": "shop", "manifest": "x", "owner": "acme", "repo": "web", "issue_number": 1}}
			for name := range call.Arguments.(map[string]any) {
				properties := list.Tools[0].InputSchema.(map[string]any)["properties"].(map[string]any)
				if _, ok := properties[name]; !ok {
					delete(call.Arguments.(map[string]any), name)
				}
			}
			if result, err := s.CallTool(t.Context(), call); err != nil || result.IsError {
				t.Errorf("%s, era %d: %+v, %v", name, era, result, err)
			}
			if !h.Saw(call.Name) {
				t.Errorf("%s was not recorded", call.Name)
			}
			s.Close()
		}
	}
}
