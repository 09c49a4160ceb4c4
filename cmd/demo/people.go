package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"vmcp/internal/browser"
)

// person is one account of the simulated tenant.
type person struct {
	name string // before @contoso.example
	role string // app role; empty: none assigned
}

var people = []person{{"dev", "mcp-developers"}, {"platform", "mcp-platform"}, {"admin", "mcp-admin"}, {"norole", ""}}

func (p person) account() string { return p.name + "@contoso.example" }

func (p person) title() string {
	if p.role == "" {
		return "(no role)"
	}
	return p.role
}

// tool is one tool of the demo's servers by its advertised name, with arguments that work.
type tool struct{ name, arguments string }

const (
	repo  = `"owner":"acme","repo":"web"`
	inEnv = `"namespace":"staging"`
	web   = inEnv + `,"name":"web"`
)

// tools are called in this order: what deletes comes last.
var tools = []tool{
	{"github-backend_list_issues", `{` + repo + `}`},
	{"github-backend_get_issue", `{` + repo + `,"issue_number":1}`},
	{"github-backend_search_code", `{"query":"token"}`},
	{"github-backend_get_file_contents", `{` + repo + `,"path":"README.md"}`},
	{"github-backend_list_pull_requests", `{` + repo + `}`},
	{"github-backend_create_issue", `{` + repo + `,"title":"From the demo"}`},
	{"github-backend_close_issue", `{` + repo + `,"issue_number":2}`},
	{"github-backend_create_pull_request", `{` + repo + `,"title":"From the demo","head":"demo","base":"main"}`},
	{"github-backend_merge_pull_request", `{` + repo + `,"pull_number":11}`},
	{"github-backend_delete_repository", `{` + repo + `}`},
	{"kubernetes-backend_list_namespaces", `{}`},
	{"kubernetes-backend_get_pods", `{` + inEnv + `}`},
	{"kubernetes-backend_get_pod_logs", `{` + inEnv + `,"name":"web-5f44-1"}`},
	{"kubernetes-backend_describe_deployment", `{` + web + `}`},
	{"kubernetes-backend_get_events", `{` + inEnv + `}`},
	{"kubernetes-backend_scale_deployment", `{` + web + `,"replicas":2}`},
	{"kubernetes-backend_apply_manifest", `{` + inEnv + `,"manifest":"kind: ConfigMap"}`},
	{"kubernetes-backend_restart_deployment", `{` + web + `}`},
	{"kubernetes-backend_delete_pod", `{` + inEnv + `,"name":"web-5f44-1"}`},
	{deleteNamespace, `{` + inEnv + `}`},
}

const deleteNamespace = "kubernetes-backend_delete_namespace"

// cell is what happened to one person with one tool.
type cell struct {
	listed bool
	call   string // ok, denied, an HTTP status, or what else came
}

func (c cell) String() string {
	if c.listed {
		return "yes  " + c.call
	}
	return "no   " + c.call
}

// words is the cell in a sentence.
func (c cell) words() string {
	if c.listed {
		return "listed, a call gives " + c.call
	}
	return "not listed, a call gives " + c.call
}

// guideSays is what the guide's policies promise: everything to the three roles but delete_namespace to developers, and
// nothing to who has no role: that person's sign-in ends on a page that says so, without a token.
func guideSays(p person, tool string) cell {
	switch {
	case p.role == "":
		return cell{false, "401"}
	case p.role == "mcp-developers" && tool == deleteNamespace:
		return cell{false, "denied"}
	}
	return cell{true, "ok"}
}

// signIn goes through discovery, registration, consent and Entra's pages as the person. A person without a role ends on
// a page that says so, and gets no token.
func signIn(ctx context.Context, url string, p person) (token string, err error) {
	app, err := browser.NewApplication(ctx, url, "vMCP demo")
	if err != nil {
		return "", err
	}
	tokens, err := app.SignIn(ctx, browser.New(), p.account())
	page, ended := errors.AsType[*browser.ErrPage](err)
	switch {
	case ended && p.role == "" && page.Page.Status == http.StatusForbidden && strings.Contains(page.Page.Text, "role"):
		return "", nil
	case err == nil && p.role == "":
		return "", errors.New("the sign-in gave a token, although no role is assigned")
	}
	return tokens.Access, err
}

// visit lets a person list and call every tool.
func visit(ctx context.Context, url string, p person) (map[string]cell, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	token, err := signIn(ctx, url, p)
	if err != nil {
		return nil, fmt.Errorf("%s signs in: %w", p.name, err)
	}
	carrier := &bearer{token: token}
	client := &http.Client{Transport: carrier}
	cells := map[string]cell{}
	session, err := mcp.NewClient(&mcp.Implementation{Name: "demo", Version: "1"}, nil).Connect(ctx,
		&mcp.StreamableClientTransport{Endpoint: url, HTTPClient: client, MaxRetries: -1}, nil)
	if err != nil {
		if carrier.status.Load() != http.StatusUnauthorized || token != "" {
			return nil, fmt.Errorf("%s connects: %w", p.name, err)
		}
		for _, t := range tools { // a client gives up here; whoever calls all the same gets no further
			status, err := post(ctx, client, url, t)
			if err != nil {
				return nil, fmt.Errorf("%s calls %s: %w", p.name, t.name, err)
			}
			cells[t.name] = cell{false, strconv.Itoa(status)}
		}
		return cells, nil
	}
	defer session.Close()
	for t, err := range session.Tools(ctx, nil) {
		if err != nil {
			return nil, fmt.Errorf("%s lists tools: %w", p.name, err)
		}
		cells[t.Name] = cell{true, "not called"}
	}
	for _, t := range tools {
		c := cells[t.name]
		c.call = call(ctx, session, t)
		cells[t.name] = c
	}
	return cells, nil
}

// call runs a tool and says in a word what came.
func call(ctx context.Context, session *mcp.ClientSession, t tool) string {
	result, err := session.CallTool(ctx, &mcp.CallToolParams{Name: t.name, Arguments: json.RawMessage(t.arguments)})
	refusal, ok := errors.AsType[*jsonrpc.Error](err)
	switch {
	case ok && refusal.Code == jsonrpc.CodeInvalidParams && strings.Contains(refusal.Message, "not permitted"):
		return "denied"
	case err != nil:
		return err.Error()
	case result.IsError:
		return "tool error"
	}
	return "ok"
}

// post calls a tool without any MCP client and returns the HTTP status.
func post(ctx context.Context, client *http.Client, url string, t tool) (int, error) {
	params := `{"name":"` + t.name + `","arguments":` + t.arguments + `}`
	body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":` + params + `}`
	req, err := http.NewRequestWithContext(ctx, "POST", url, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	resp.Body.Close()
	return resp.StatusCode, nil
}

// bearer sends a token with every request, none where it is empty, and remembers the last status.
type bearer struct {
	token  string
	status atomic.Int32
}

func (b *bearer) RoundTrip(req *http.Request) (*http.Response, error) {
	if b.token != "" {
		req = req.Clone(req.Context())
		req.Header.Set("Authorization", "Bearer "+b.token)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err == nil {
		b.status.Store(int32(resp.StatusCode))
	}
	return resp, err
}
