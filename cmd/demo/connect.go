package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"vmcp/internal/stack"
)

// connect says how a client connects and who can sign in.
func (d *demo) connect(s *stack.Stack) error {
	var accounts strings.Builder
	for _, p := range people {
		fmt.Fprintf(&accounts, "    %-26s %s\n", p.account(), p.title())
	}
	fmt.Fprintf(&accounts, "    %-26s %s\n", "outsider@contoso.example", "(not assigned to the application)")
	if err := d.writeVSCode(s.URL); err != nil {
		return err
	}
	fmt.Fprintf(d.out, `
The gateway stays up until Ctrl-C:  %[1]s

  A client needs the URL only. It opens your browser; there you allow the client, and pick an account
  of the simulated tenant, which asks for no password:
%[2]s
  Claude Code
    claude mcp add --transport http engineering-tools %[1]s
    then /mcp in a session, to sign in
  VS Code
    mkdir -p .vscode && cp %[3]s/vscode-mcp.json .vscode/mcp.json
  MCP Inspector (Node 22)
    npx @modelcontextprotocol/inspector@2
    then transport Streamable HTTP, URL %[1]s

  Policies    %[3]s/gateway.yaml        save a change, and it is in force within two seconds
  Audit trail %[3]s/state/audit.jsonl   who called what, and which policy decided
  Access log  %[3]s/state/access.jsonl  what Envoy saw
  Logs        %[3]s/state/*.log

`, s.URL, accounts.String(), relative(d.dir))
	return nil
}

// writeVSCode writes a workspace's mcp.json.
func (d *demo) writeVSCode(url string) error {
	text, err := json.MarshalIndent(map[string]any{"servers": map[string]any{"engineering-tools": map[string]any{
		"type": "http", "url": url,
	}}}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(d.file("vscode-mcp.json"), append(text, '\n'), 0o600)
}
