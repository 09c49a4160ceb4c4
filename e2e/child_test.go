package e2e

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"vmcp/internal/await"
	"vmcp/internal/stack"
)

// stdioServer puts a stdio server of that image into the group.
func stdioServer(name, image string) edit {
	return func(docs string) string {
		return strings.NewReplacer("MCPServerEntry", "MCPServer", "NAME", name,
			"  transport: streamable-http\n  allowPrivateEndpoint: true\n  remoteUrl: URL", "  transport: stdio\n  image: "+image).
			Replace(entryDocument) + "\n---\n" + docs
	}
}

// TestGatewayFiles: a person who may use a file server of the gateway reaches the files that it was given, not the
// gateway's own: neither by roots that their client names, nor where the server was given the whole disk.
func TestGatewayFiles(t *testing.T) {
	dir := npm(t, "node")
	program := "=node " + filepath.Join(dir, "node_modules/@modelcontextprotocol/server-filesystem/dist/index.js") + " "
	project := t.TempDir()
	if err := os.WriteFile(filepath.Join(project, "notes.txt"), []byte("buy milk"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := startWith(t, guide, func(cfg *stack.Config) {
		cfg.Run = append(cfg.Run, "npm/files"+program+project, "npm/disk"+program+"/")
	}, stdioServer("files", "npm/files"), stdioServer("disk", "npm/disk"), policies("permit(principal, action, resource);"))
	token := w.token("ann", "mcp-developers")
	scout := &caller{w: w, token: token}
	for _, name := range []string{"files_read_text_file", "disk_read_text_file"} {
		await.That(t, name+" is listed", func() bool { return slices.Contains(scout.list(t, "tools"), name) })
	}

	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	asked := make(chan string, 100)
	client := mcp.NewClient(&mcp.Implementation{Name: "e2e-go", Version: "1.0.0"}, nil)
	client.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, r mcp.Request) (mcp.Result, error) {
			asked <- method
			return next(ctx, method, r)
		}
	})
	cs, err := client.Connect(ctx, &mcp.StreamableClientTransport{Endpoint: w.URL, HTTPClient: &http.Client{Transport: bearer{token}}},
		&mcp.ClientSessionOptions{ProtocolVersion: "2025-11-25"})
	if err != nil {
		t.Fatal(err)
	}
	defer cs.Close()
	call := func(tool, path string) string {
		t.Helper()
		r, err := cs.CallTool(ctx, &mcp.CallToolParams{Name: tool, Arguments: map[string]any{"path": path}})
		if err != nil {
			t.Fatal(err)
		}
		return r.Content[0].(*mcp.TextContent).Text
	}
	if got := call("files_read_text_file", filepath.Join(project, "notes.txt")); got != "buy milk" {
		t.Errorf("the project's file: %s", got)
	}
	//lint:ignore SA1019 deprecated, but in the protocol that the gateway carries
	client.AddRoots(&mcp.Root{URI: "file://" + w.State}) // the client tells that they changed

	keys, err := filepath.Glob(filepath.Join(w.State, "keys/*/*"))
	if err != nil || len(keys) < 3 {
		t.Fatalf("%q, %v", keys, err)
	}
	for _, server := range []string{"files", "disk"} {
		for _, path := range keys {
			key, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got := call(server+"_read_text_file", path); strings.Contains(got, string(key)) || !strings.Contains(got, "denied") {
				t.Errorf("%s reads %s: %q", server, path, got)
			}
		}
		for _, path := range []string{w.State, filepath.Dir(w.Socket("authz")), filepath.Dir(keys[0])} {
			if got := call(server+"_list_directory", path); !strings.Contains(got, "denied") {
				t.Errorf("%s lists %s: %q", server, path, got)
			}
		}
		if got := call(server+"_read_text_file", filepath.Join(project, "notes.txt")); got != "buy milk" {
			t.Errorf("%s, the project's file: %s", server, got)
		}
	}
	if got := call("files_list_allowed_directories", ""); strings.Contains(got, w.State) || !strings.Contains(got, project) {
		t.Errorf("the server's directories: %s", got)
	}
	for len(asked) > 0 {
		if method := <-asked; method == "roots/list" {
			t.Error("the client was asked for its roots")
		}
	}
}
