package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"vmcp/internal/stack"
)

// connect writes the tokens down and says how a client uses them.
func (d *demo) connect(s *stack.Stack) error {
	if err := os.MkdirAll(d.file("tokens"), 0o700); err != nil {
		return err
	}
	var accounts strings.Builder
	for _, p := range people {
		path := filepath.Join(d.file("tokens"), p.name)
		if err := os.WriteFile(path, []byte(d.token(p)), 0o600); err != nil {
			return fmt.Errorf("writing tokens: %w", err)
		}
		fmt.Fprintf(&accounts, "    %-6s %-15s %s\n", p.name, p.title(), relative(path))
	}
	if err := d.writeVSCode(s.URL); err != nil {
		return err
	}
	dir := relative(d.dir)
	fmt.Fprintf(d.out, `
The gateway stays up until Ctrl-C:  %[1]s

  Accounts, each with a token good for %.0[2]f hours in a file (a test issuer of the demo gives them;
  signing in with Entra is not there yet):
%[3]s
  Claude Code
    claude mcp add --transport http engineering-tools %[1]s \
      --header "Authorization: Bearer $(cat %[4]s/tokens/ann)"
  VS Code, with ann's token
    mkdir -p .vscode && cp %[4]s/vscode-mcp.json .vscode/mcp.json
  MCP Inspector (Node 22)
    npx @modelcontextprotocol/inspector@2 --cli %[1]s --transport http \
      --method tools/list --header "Authorization: Bearer $(cat %[4]s/tokens/ann)"

  Policies    %[4]s/gateway.yaml    save a change, and it is in force within two seconds
  Audit trail %[4]s/audit.jsonl     who called what, and which policy decided
  Access log  %[4]s/access.jsonl    what Envoy saw
  Logs        %[4]s/*.log

`, s.URL, tokenLife.Hours(), accounts.String(), dir)
	return nil
}

// writeVSCode writes a workspace's mcp.json for ann.
func (d *demo) writeVSCode(url string) error {
	text, err := json.MarshalIndent(map[string]any{"servers": map[string]any{"engineering-tools": map[string]any{
		"type": "http", "url": url, "headers": map[string]string{"Authorization": "Bearer " + d.token(people[0])},
	}}}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(d.file("vscode-mcp.json"), append(text, '\n'), 0o600)
}
