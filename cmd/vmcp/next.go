package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"vmcp/internal/gatewayconfig"
	"vmcp/internal/stack"
)

// sayNext says what a person can do with a gateway that is ready.
func sayNext(w io.Writer, gw *gatewayconfig.Gateway, s *stack.Stack) {
	who := "Clients open a browser, where people sign in."
	switch {
	case gw.Authz.Anonymous:
		who = "Nobody signs in: whoever reaches this address may use what the policies permit."
	case gw.AuthServer == nil:
		who = "Clients need an access token of " + gw.Authz.Issuer.URL + "."
	}
	vscode, _ := json.Marshal(map[string]any{"servers": map[string]any{gw.Name: map[string]string{"type": "http", "url": s.URL}}})
	fmt.Fprintf(w, `
%[1]s is up. %[2]s

  Claude Code   claude mcp add --transport http %[1]s %[3]s
  VS Code       in .vscode/mcp.json: %[4]s
  Inspector     npx @modelcontextprotocol/inspector@2
                then transport Streamable HTTP, URL %[3]s
  Audit trail   %[5]s
  Logs          %[6]s
  To stop       Ctrl-C, or kill %[7]d

`, gw.Name, who, s.URL, vscode, homely(filepath.Join(s.State, "audit.jsonl")), homely(filepath.Join(s.State, "*.log")), os.Getpid())
}

// homely is a path as a shell takes it, shorter below the home directory.
func homely(path string) string {
	home, err := os.UserHomeDir()
	if rest, ok := strings.CutPrefix(path, home+"/"); err == nil && ok {
		return "~/" + rest
	}
	return path
}
