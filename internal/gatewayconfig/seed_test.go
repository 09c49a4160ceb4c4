package gatewayconfig

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vmcp/internal/secret"
)

const seed = "testdata/seed/engineering-tools.yaml"

// The guide's documents load as they are once the user's values are in.
func TestSeed(t *testing.T) {
	got, err := Load(Source{Paths: []string{seed}})
	if err != nil {
		t.Fatal(err)
	}
	policy := func(line int, text ...string) PolicyText {
		return PolicyText{File: seed, Line: line, Text: strings.Join(text, "\n") + "\n"}
	}
	backend := func(name, image string) Backend {
		return Backend{Name: name, Timeout: 30 * time.Second, HealthTimeout: 30 * time.Second, Kind: "MCPServer", Transport: TransportStdio, Image: image,
			Env: map[string]secret.Value{}, Headers: map[string]secret.Value{}}
	}
	const all = "  action,\n  resource\n);"
	want := &Gateway{
		Name: "engineering-tools",
		Endpoint: Endpoint{
			URL: "https://mcp.example.com/mcp", Path: "/mcp", ResourceURL: "https://mcp.example.com",
			Audience: "https://mcp.example.com", Scopes: []string{"openid"},
		},
		Authz: Authz{
			Issuer: Issuer{URL: "https://mcp.example.com", AllowHTTP: true, AllowPrivateIP: true, Own: true},
			Policies: Policies{
				Texts: []PolicyText{
					policy(81, "permit(", `  principal in THVGroup::"mcp-developers",`, all),
					policy(87, "forbid(", `  principal in THVGroup::"mcp-developers",`, `  action == Action::"call_tool",`,
						`  resource == Tool::"delete_namespace"`, ");"),
					policy(93, "permit(", `  principal in THVGroup::"mcp-platform",`, all),
					policy(99, "permit(", `  principal in THVGroup::"mcp-admin",`, all),
				},
				EntitiesJSON: "[]", GroupEntityType: "THVGroup",
			},
			Backends: []string{"github-backend", "kubernetes-backend"},
		},
		Aggregator: Aggregator{
			Backends: []Backend{
				backend("github-backend", "ghcr.io/github/github-mcp-server:latest"),
				backend("kubernetes-backend", "ghcr.io/stackloklabs/yardstick/yardstick-server:1.1.1"),
			},
			ConflictResolution: "prefix", PrefixFormat: "{workload}_", Tools: map[string]WorkloadTools{},
			HealthInterval: 30 * time.Second, UnhealthyThreshold: 3,
		},
		AuthServer: &AuthServer{
			Issuer: "https://mcp.example.com", AuthorizeOrigin: "https://mcp.example.com",
			AccessToken: 15 * time.Minute, RefreshToken: 7 * 24 * time.Hour, AuthCode: time.Minute, Registration: true, RevocationSilence: time.Minute,
			Upstreams: []Upstream{{
				Name: "entra", ClientID: "5c1e9f70-64d2-4b8b-a1f3-2e7d90c4b6a8",
				IssuerURL:   "https://login.microsoftonline.com/8a2f6d1c-3b47-4e0a-9c55-0d6f7e1b2a34/v2.0",
				RedirectURI: "https://mcp.example.com/oauth/callback",
				Scopes:      []string{"api://5c1e9f70-64d2-4b8b-a1f3-2e7d90c4b6a8/mcp.access", "openid", "profile", "email", "offline_access"},
			}},
		},
		Notes: []Note{{File: seed, Line: 43, Text: "secrets were not checked: there is neither a Secret document nor a secrets directory"}},
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("gateway (-got +want):\n%s", diff)
	}
}

// Each service gets the secrets of its own part.
func TestSeedSecrets(t *testing.T) {
	secrets := t.TempDir()
	for name, value := range map[string]string{"github-pat/token": "pat-value\n", "idp-client-secret/client-secret": "idp-value"} {
		name = filepath.Join(secrets, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		parts    Part
		pat, idp string
	}{
		{0, "", ""},
		{PartAuthz, "", ""},
		{PartAggregator, "pat-value", ""},
		{PartAuthServer, "", "idp-value"},
		{PartAll, "pat-value", "idp-value"},
	} {
		gateway, err := Load(Source{Paths: []string{seed}, Secrets: secrets, Parts: c.parts})
		if err != nil {
			t.Fatalf("parts %b: %v", c.parts, err)
		}
		pat := gateway.Aggregator.Backends[0].Env["GITHUB_PERSONAL_ACCESS_TOKEN"]
		idp := gateway.AuthServer.Upstreams[0].ClientSecret
		if string(pat) != c.pat || string(idp) != c.idp {
			t.Errorf("parts %b: got %q and %q, want %q and %q", c.parts, string(pat), string(idp), c.pat, c.idp)
		}
		if len(gateway.Notes) > 0 {
			t.Errorf("parts %b: got notes %v, want none", c.parts, gateway.Notes)
		}
	}
	// A service's own directory has nothing of another's, and that is no problem of it.
	if err := os.RemoveAll(filepath.Join(secrets, "github-pat")); err != nil {
		t.Fatal(err)
	}
	for parts, ok := range map[Part]bool{PartAuthServer: true, PartAuthz: true, PartAggregator: false, PartAll: false, 0: false} {
		if _, err := Load(Source{Paths: []string{seed}, Secrets: secrets, Parts: parts}); (err == nil) != ok {
			t.Errorf("parts %b without github-pat: got %v, want success %t", parts, err, ok)
		}
	}
}

// As copied from the guide, the documents have exactly the problems that the user's values solve.
func TestSeedPlaceholders(t *testing.T) {
	_, err := Load(Source{Paths: []string{"testdata/seed/unfilled.yaml"}})
	const (
		server   = "spec.authServerConfig."
		upstream = server + "upstreamProviders[0].oidcConfig."
		host     = " is still there: put in the gateway's public host name, such as mcp.example.com"
		vmcp     = "placeholder <your-vmcp-endpoint>" + host
		mcp      = "placeholder <your-mcp-endpoint>" + host + " (the same as <your-vmcp-endpoint>)"
		id       = " is still there: put in the Application (client) ID, a GUID (Entra ID > App registrations > your app > Overview)"
		tenant   = "placeholder <TENANT_ID> is still there: put in the Directory (tenant) ID, a GUID (Entra ID > App registrations > your app > Overview)"
		file     = "testdata/seed/unfilled.yaml"
	)
	want := Problems{
		{file, 39, "spec.inline.issuer", vmcp},
		{file, 52, server + "issuer", vmcp},
		{file, 57, upstream + "issuerUrl", tenant},
		{file, 58, upstream + "clientId", "placeholder <YOUR_CLIENT_ID>" + id},
		{file, 62, upstream + "redirectUri", vmcp},
		{file, 64, upstream + "scopes[0]", "placeholder <client-id>" + id},
		{file, 74, "spec.incomingAuth.oidcConfigRef.audience", mcp},
		{file, 75, "spec.incomingAuth.oidcConfigRef.resourceUrl", mcp},
	}
	if diff := cmp.Diff(err, error(want)); diff != "" {
		t.Errorf("problems (-got +want):\n%s", diff)
	}
}
