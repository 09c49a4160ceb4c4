package main

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

const seed = "../../internal/gatewayconfig/testdata/seed/"

func TestCommands(t *testing.T) {
	secrets := t.TempDir()
	for _, name := range []string{"github-pat/token", "idp-client-secret/client-secret"} {
		name = filepath.Join(secrets, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte("hunter2"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const whole = `gateway               engineering-tools
endpoint              https://mcp.example.com/mcp
audience              https://mcp.example.com
issuer                https://mcp.example.com (this gateway)
sign-in               entra: https://login.microsoftonline.com/8a2f6d1c-3b47-4e0a-9c55-0d6f7e1b2a34/v2.0
policies              4 texts
tool names            prefix {workload}_
backends              2
  github-backend      MCPServer  stdio  ghcr.io/github/github-mcp-server:latest
  kubernetes-backend  MCPServer  stdio  ghcr.io/stackloklabs/yardstick/yardstick-server:1.1.1
`
	const wholeJSON = `{
  "valid": true,
  "problems": [],
  "notes": [],
  "warnings": [],
  "gateway": {
    "name": "engineering-tools",
    "endpoint": "https://mcp.example.com/mcp",
    "anonymous": false,
    "audience": "https://mcp.example.com",
    "issuer": "https://mcp.example.com",
    "own_issuer": true,
    "sign_in": [
      "https://login.microsoftonline.com/8a2f6d1c-3b47-4e0a-9c55-0d6f7e1b2a34/v2.0"
    ],
    "policies": 4,
    "tool_names": "prefix {workload}_",
    "backends": [
      {
        "name": "github-backend",
        "kind": "MCPServer",
        "transport": "stdio",
        "image": "ghcr.io/github/github-mcp-server:latest"
      },
      {
        "name": "kubernetes-backend",
        "kind": "MCPServer",
        "transport": "stdio",
        "image": "ghcr.io/stackloklabs/yardstick/yardstick-server:1.1.1"
      }
    ]
  }
}
`
	for _, c := range []struct {
		args   []string
		status int
		stdout string // whole
		stderr string // a part
	}{
		{[]string{"validate", "-f", seed + "engineering-tools.yaml", "--secrets", secrets}, 0, whole, ""},
		{[]string{"validate", seed + "engineering-tools.yaml", "--secrets", secrets, "--name", "engineering-tools"}, 0, whole, ""},
		{[]string{"validate", "-f", seed + "unfilled.yaml"}, 1, "", "8 problems\n"},
		{[]string{"validate", "-f", seed + "unfilled.yaml"}, 1, "", "error: " + seed + "unfilled.yaml:58: spec.authServerConfig.upstreamProviders[0].oidcConfig.clientId: placeholder <YOUR_CLIENT_ID> is still there"},
		{[]string{"validate", "-f", seed + "engineering-tools.yaml", "--name", "x"}, 1, "", "1 problem\n"},
		{[]string{"validate", "-f", seed + "nowhere.yaml"}, 1, "", "nowhere.yaml: reading: no such file or directory\n"},
		{[]string{"validate", "-f", seed}, 1, "", "a second VirtualMCPServer engineering-tools"},
		{[]string{"validate"}, 2, "", "no file given"},
		{[]string{"validate", "--nonsense"}, 2, "", "nonsense"},
		{[]string{"up"}, 2, "", "no file given"},
		{[]string{"up", "-f", seed + "unfilled.yaml"}, 1, "", "8 problems\n"},
		{[]string{"up", "-f", seed + "engineering-tools.yaml", "--secrets", secrets}, 1, "", "clients connect to http://localhost:4483 here"},
		{[]string{"valdate"}, 2, "", `unknown command "valdate", did you mean "validate"?`},
		{[]string{"validate", "-o", "xml"}, 2, "", "want text or json"},
		{[]string{"validate", "-o", "json", seed + "nowhere.yaml"}, 1, `{
  "valid": false,
  "problems": [
    {
      "file": "` + seed + `nowhere.yaml",
      "text": "reading: no such file or directory"
    }
  ],
  "notes": [],
  "warnings": []
}
`, ""},
		{[]string{"validate", "-o", "json", seed + "engineering-tools.yaml", "--secrets", secrets}, 0, wholeJSON, ""},
		{[]string{"status", "-state", secrets}, 1, "", "no gateway runs on the state directory " + secrets},
		{[]string{"status", "-f", seed + "nowhere.yaml"}, 1, "", "no such file"},
		{[]string{"version", "-o", "json"}, 0, "{\n  \"go\": \"" + runtime.Version() + "\",\n  \"version\": \"devel\"\n}\n", ""},
		{nil, 2, "", "validate"},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			status := dispatch(t.Context(), c.args, &stdout, &stderr)
			if status != c.status {
				t.Errorf("status %d, want %d", status, c.status)
			}
			if got := stdout.String(); got != c.stdout {
				t.Errorf("stdout:\n%s\nwant:\n%s", got, c.stdout)
			}
			if got := stderr.String(); !strings.Contains(got, c.stderr) || c.stderr == "" && got != "" {
				t.Errorf("stderr:\n%s\nwant in it:\n%s", got, c.stderr)
			}
		})
	}
}

// TestHelp: each command says how it is used, with an example, however it is asked.
func TestHelp(t *testing.T) {
	for _, c := range commands {
		for _, args := range [][]string{{"help", c.name}, {c.name, "-h"}, {c.name, "--help"}} {
			var stdout, stderr bytes.Buffer
			status := dispatch(t.Context(), args, &stdout, &stderr)
			if got := stdout.String(); status != 0 || stderr.Len() > 0 || !strings.HasPrefix(got, "usage: vmcp "+c.name) || !strings.Contains(got, "\nexample:\n  vmcp "+c.name) {
				t.Errorf("%v: status %d, stdout %q, stderr %q", args, status, got, &stderr)
			}
		}
	}
}
