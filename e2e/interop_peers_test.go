package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"vmcp/internal/await"
)

// foreign runs a client that is another program.
func foreign(t *testing.T, w *world, token string, plan map[string]any, packages string, command ...string) (g got) {
	t.Helper()
	text, err := json.Marshal(plan)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "URL="+w.URL, "TOKEN="+token, "PLAN="+string(text), "PACKAGES="+packages, "NO_PROXY=localhost,127.0.0.1")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &g)
	}
	if err != nil {
		t.Errorf("%s: %v\n%s\n%.4000s", command, err, &errs, out)
	}
	return g
}

// goTries is the Go SDK's.
func goTries(t *testing.T, w *world, token string, tries []trial) (g got) {
	var asked []string
	var progressed atomic.Int64
	client := mcp.NewClient(&mcp.Implementation{Name: "interop-go", Version: "1"}, &mcp.ClientOptions{
		ElicitationHandler: func(_ context.Context, r *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			asked = append(asked, r.Params.Message)
			return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"value": "Ann"}}, nil
		},
		//lint:ignore SA1019 deprecated, but in the protocol that the gateway carries
		CreateMessageHandler: func(context.Context, *mcp.CreateMessageRequest) (*mcp.CreateMessageResult, error) {
			//lint:ignore SA1019 as above
			return &mcp.CreateMessageResult{Role: "assistant", Model: "m", Content: &mcp.TextContent{Text: "hello"}}, nil
		},
		ProgressNotificationHandler: func(context.Context, *mcp.ProgressNotificationClientRequest) { progressed.Add(1) },
	})
	ctx, cancel := context.WithTimeout(t.Context(), await.Limit)
	defer cancel()
	s, err := client.Connect(ctx, &mcp.StreamableClientTransport{Endpoint: w.URL, HTTPClient: &http.Client{Transport: bearer{token}}}, nil)
	if err != nil {
		t.Errorf("go client: %v", err)
		return g
	}
	defer s.Close()
	g.Version = s.InitializeResult().ProtocolVersion
	for tool, err := range s.Tools(ctx, nil) {
		if err != nil {
			t.Error(err)
			break
		}
		g.Tools = append(g.Tools, tool.Name)
	}
	say := func(v any, err error) string {
		text, _ := json.Marshal(v)
		if err != nil {
			text = []byte("error: " + err.Error())
		}
		said := fmt.Sprintf("%s progress=%d asked=%s", text, progressed.Swap(0), strings.Join(asked, "; "))
		asked = nil
		return said
	}
	for i, try := range tries {
		switch {
		case try.call != "":
			p := &mcp.CallToolParams{Name: try.call, Arguments: try.arguments}
			p.SetProgressToken(i)
			result, err := s.CallTool(ctx, p)
			if try.what == "progress" { // the SDK hands it on by itself
				await.That(t, "progress is told", func() bool { return progressed.Load() > 0 })
			}
			g.Calls = append(g.Calls, say(result, err))
		case try.prompt != "":
			arguments := map[string]string{}
			for name, v := range try.arguments {
				arguments[name] = fmt.Sprint(v)
			}
			g.Prompts = append(g.Prompts, say(s.GetPrompt(ctx, &mcp.GetPromptParams{Name: try.prompt, Arguments: arguments})))
		case try.read != "":
			g.Reads = append(g.Reads, say(s.ReadResource(ctx, &mcp.ReadResourceParams{URI: try.read})))
		}
	}
	return g
}

// inspector runs the Inspector's command line, a session for each request: lists, and the plain calls.
func inspector(t *testing.T, w *world, token string, tries []trial, cli string) (g got) {
	ask := func(args ...string) string {
		cmd := exec.CommandContext(t.Context(), "node", append([]string{cli, w.URL, "--transport", "http", "--header", "Authorization: Bearer " + token}, args...)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return "error: " + string(out)
		}
		return string(out)
	}
	for _, m := range regexp.MustCompile(`"name": "([^"]+)"`).FindAllStringSubmatch(ask("--method", "tools/list"), -1) {
		g.Tools = append(g.Tools, m[1])
	}
	for _, try := range tries {
		switch {
		case try.call != "" && !slices.Contains([]string{"a call", "structured content", "an image", "a tool that fails"}, try.what):
			g.Calls = append(g.Calls, "") // it asks nobody and shows no progress
		case try.call != "":
			args := []string{"--method", "tools/call", "--tool-name", try.call}
			for name, v := range try.arguments {
				args = append(args, "--tool-arg", fmt.Sprintf("%s=%v", name, v))
			}
			g.Calls = append(g.Calls, ask(args...))
		case try.prompt != "":
			args := []string{"--method", "prompts/get", "--prompt-name", try.prompt}
			for name, v := range try.arguments {
				args = append(args, "--prompt-args", fmt.Sprintf("%s=%v", name, v))
			}
			g.Prompts = append(g.Prompts, ask(args...))
		case try.read != "":
			g.Reads = append(g.Reads, ask("--method", "resources/read", "--uri", try.read))
		}
	}
	return g
}

// program puts a stdio server into the group that is a program here.
func program(name, command string) edit {
	return func(docs string) string {
		return `apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServer
metadata:
  name: ` + name + `
  annotations:
    vmcp/command: ` + quoted(command) + `
    vmcp/client-features: sampling
spec:
  groupRef: {name: engineering-tools}
  image: interop/` + name + `
  transport: stdio
---
` + docs
	}
}

// overSSE has the server of that name spoken to by that transport.
func overSSE(name string) edit {
	return func(docs string) string {
		head, rest, ok := strings.Cut(docs, "  name: "+name+"\n")
		if !ok {
			panic("no server " + name)
		}
		return head + "  name: " + name + "\n" + strings.Replace(rest, "transport: streamable-http", "transport: sse", 1)
	}
}

// venv makes the Python environment of interop/requirements.txt once, and returns its interpreter.
func venv(t *testing.T) string {
	t.Helper()
	requirements, err := os.ReadFile("interop/requirements.txt")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, ".tools", "interop-python")
	python, done := filepath.Join(dir, "bin", "python"), filepath.Join(dir, "requirements.txt")
	if installed, err := os.ReadFile(done); err == nil && bytes.Equal(installed, requirements) {
		return python
	}
	for _, args := range [][]string{{"python3", "-m", "venv", "--clear", dir}, {python, "-m", "pip", "install", "--quiet", "-r", "interop/requirements.txt"}} {
		if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	if err := os.WriteFile(done, requirements, 0o644); err != nil {
		t.Fatal(err)
	}
	return python
}

// gitRepository is a directory with a file that is committed.
func gitRepository(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "README"), []byte("here\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"init", "-q"}, {"add", "README"}, {"-c", "user.name=e2e", "-c", "user.email=e2e@localhost", "commit", "-q", "-m", "one"}} {
		if out, err := exec.Command("git", append([]string{"-C", dir}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v\n%s", args, err, out)
		}
	}
	return dir
}

// site is a page to be fetched.
func site(t *testing.T) string {
	t.Helper()
	addr := freeAddress(t)
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<html><body><p>This is the page that is fetched.</p></body></html>")
	})}
	go s.Serve(l) // until Close
	t.Cleanup(func() { s.Close() })
	return "http://" + addr + "/"
}

// kubeconfigText names a cluster that does not answer.
const kubeconfigText = `apiVersion: v1
kind: Config
clusters: [{name: none, cluster: {server: 'http://127.0.0.1:9'}}]
contexts: [{name: none, context: {cluster: none, user: none}}]
current-context: none
users: [{name: none, user: {}}]
`
