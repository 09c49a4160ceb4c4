package mcptest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// hub is the state behind GitHub: one repository, the same at each start.
type hub struct {
	mu     sync.Mutex
	issues []issue
	pulls  []pull
	files  map[string]string
}

type issue struct {
	Number int      `json:"number"`
	Title  string   `json:"title"`
	State  string   `json:"state"`
	Body   string   `json:"body"`
	Labels []string `json:"labels"`
}

type pull struct {
	Number int    `json:"number"`
	Title  string `json:"title"`
	State  string `json:"state"`
	Head   string `json:"head"`
	Base   string `json:"base"`
}

type repo struct {
	Owner string `json:"owner" jsonschema:"owner of the repository"`
	Repo  string `json:"repo" jsonschema:"name of the repository"`
}

// GitHub is a small, deterministic stand-in for a GitHub MCP server: the repository acme/web with a few issues, pull
// requests and files, ten tools, one prompt and one resource.
func GitHub(versions []string) *mcp.Server {
	h := &hub{
		issues: []issue{
			{1, "Login page is blank on Safari", "open", "Seen on Safari 18.", []string{"bug"}},
			{2, "Add dark mode", "open", "The settings page needs a switch.", []string{"feature"}},
			{3, "Upgrade the TLS library", "closed", "Done in #12.", []string{"security"}},
		},
		pulls: []pull{
			{11, "Fix blank login page", "open", "fix/login", "main"},
			{12, "Upgrade the TLS library", "merged", "tls", "main"},
		},
		files: map[string]string{
			"README.md":   "# web\n\nThe shop front of acme.\n",
			"main.go":     "package main\n\nfunc main() { serve() }\n",
			"auth/jwt.go": "package auth\n\n// Verify checks a token.\nfunc Verify(token string) error { return nil }\n",
		},
	}
	s := mcp.NewServer(&mcp.Implementation{Name: "github-mcp", Title: "GitHub (demo)", Version: "1.0.0"},
		&mcp.ServerOptions{Instructions: "Issues, pull requests and code of acme/web.", SupportedProtocolVersions: versions})

	add(s, "list_issues", "List the issues of a repository.", reads, func(in struct {
		repo
		State string `json:"state,omitempty" jsonschema:"open, closed or all; open by default"`
	}) (any, error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		out := []issue{}
		for _, i := range h.issues {
			if in.State == "all" || i.State == in.State || in.State == "" && i.State == "open" {
				out = append(out, i)
			}
		}
		return out, nil
	})
	add(s, "get_issue", "Get one issue with its text.", reads, func(in struct {
		repo
		Number int `json:"issue_number" jsonschema:"number of the issue"`
	}) (any, error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, i := range h.issues {
			if i.Number == in.Number {
				return i, nil
			}
		}
		return nil, fmt.Errorf("no issue %d", in.Number)
	})
	add(s, "create_issue", "Open a new issue.", writes, func(in struct {
		repo
		Title  string   `json:"title" jsonschema:"title of the issue"`
		Body   string   `json:"body,omitempty" jsonschema:"text of the issue"`
		Labels []string `json:"labels,omitempty" jsonschema:"names of labels"`
	}) (any, error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		i := issue{100 + len(h.issues), in.Title, "open", in.Body, append([]string{}, in.Labels...)}
		h.issues = append(h.issues, i)
		return i, nil
	})
	add(s, "close_issue", "Close an issue.", writes, func(in struct {
		repo
		Number int `json:"issue_number" jsonschema:"number of the issue"`
	}) (any, error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		for n := range h.issues {
			if h.issues[n].Number == in.Number {
				h.issues[n].State = "closed"
				return h.issues[n], nil
			}
		}
		return nil, fmt.Errorf("no issue %d", in.Number)
	})
	add(s, "search_code", "Search the files of a repository for a word.", reads, func(in struct {
		Query string `json:"query" jsonschema:"word to look for"`
	}) (any, error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		out := []string{}
		for name, text := range h.files {
			if strings.Contains(text, in.Query) {
				out = append(out, name)
			}
		}
		slices.Sort(out)
		return out, nil
	})
	add(s, "get_file_contents", "Get the contents of a file.", reads, func(in struct {
		repo
		Path string `json:"path" jsonschema:"path of the file"`
	}) (any, error) {
		return h.file(in.Path)
	})
	add(s, "list_pull_requests", "List the pull requests of a repository.", reads, func(repo) (any, error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		return slices.Clone(h.pulls), nil
	})
	add(s, "create_pull_request", "Open a pull request.", writes, func(in struct {
		repo
		Title string `json:"title" jsonschema:"title of the pull request"`
		Head  string `json:"head" jsonschema:"branch with the changes"`
		Base  string `json:"base" jsonschema:"branch to merge into"`
	}) (any, error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		p := pull{100 + len(h.pulls), in.Title, "open", in.Head, in.Base}
		h.pulls = append(h.pulls, p)
		return p, nil
	})
	add(s, "merge_pull_request", "Merge a pull request.", destroys, func(in struct {
		repo
		Number int `json:"pull_number" jsonschema:"number of the pull request"`
	}) (any, error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		for n := range h.pulls {
			if h.pulls[n].Number == in.Number {
				h.pulls[n].State = "merged"
				return h.pulls[n], nil
			}
		}
		return nil, fmt.Errorf("no pull request %d", in.Number)
	})
	add(s, "delete_repository", "Delete a repository with everything in it.", destroys, func(in repo) (any, error) {
		return fmt.Sprintf("deleted %s/%s", in.Owner, in.Repo), nil
	})

	s.AddPrompt(&mcp.Prompt{Name: "review_pull_request", Description: "Review a pull request.",
		Arguments: []*mcp.PromptArgument{{Name: "pull_number", Description: "number of the pull request", Required: true}}},
		func(_ context.Context, req *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
			return promptResult("Review pull request " + req.Params.Arguments["pull_number"] + " of acme/web."), nil
		})
	s.AddResource(&mcp.Resource{URI: "repo://acme/web/README.md", Name: "README.md", MIMEType: "text/markdown"},
		func(_ context.Context, req *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
			text, err := h.file("README.md")
			return textResource(req.Params.URI, "text/markdown", text), err
		})
	return s
}

func (h *hub) file(path string) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	text, ok := h.files[path]
	if !ok {
		return "", fmt.Errorf("no file %s", path)
	}
	return text, nil
}

func promptResult(text string) *mcp.GetPromptResult {
	return &mcp.GetPromptResult{Messages: []*mcp.PromptMessage{{Role: "user", Content: &mcp.TextContent{Text: text}}}}
}

func textResource(uri, mimeType, text string) *mcp.ReadResourceResult {
	return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: uri, MIMEType: mimeType, Text: text}}}
}
