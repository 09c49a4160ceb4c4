package gatewayconfig

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestEntraPage: the documents that docs/entra.md shows load once the placeholders have values. What they leave out is
// the group and its servers, and the policies.
func TestEntraPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/entra.md")
	if err != nil {
		t.Fatal(err)
	}
	_, docs, _ := strings.Cut(string(page), "```yaml\n")
	docs, _, _ = strings.Cut(docs, "```")
	docs = strings.NewReplacer("<TENANT_ID>", "7e4a0000-0000-4000-8000-000000000001", "<YOUR_CLIENT_ID>", "c11e4700-0000-4000-8000-000000000001").Replace(docs)
	docs += `
    authzConfig:
      type: inline
      inline:
        policies: ['permit(principal in THVGroup::"mcp-developers", action, resource);']
---
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPGroup
metadata:
  name: engineering-tools
---
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServerEntry
metadata:
  name: one
spec:
  groupRef:
    name: engineering-tools
  remoteUrl: https://one.example.com/mcp
  transport: streamable-http
`
	file := filepath.Join(t.TempDir(), "gateway.yaml")
	if err := os.WriteFile(file, []byte(docs), 0o600); err != nil {
		t.Fatal(err)
	}
	gw, err := Load(Source{Paths: []string{file}})
	if err != nil {
		t.Fatal(err)
	}
	if gw.Endpoint.URL != "https://mcp.example.com/mcp" || gw.AuthServer == nil || len(gw.AuthServer.Upstreams) != 1 {
		t.Errorf("endpoint %s, authserver %+v", gw.Endpoint.URL, gw.AuthServer)
	}
}
