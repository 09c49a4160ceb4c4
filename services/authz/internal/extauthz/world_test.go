package extauthz

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"go.uber.org/zap"
	"golang.org/x/tools/txtar"
	"google.golang.org/protobuf/encoding/protojson"

	"vmcp/internal/gatewayconfig"
	"vmcp/internal/keyring"
	"vmcp/internal/keyring/keyringtest"
	"vmcp/internal/mcpwire"
	"vmcp/internal/policy"
	"vmcp/internal/token"
	"vmcp/internal/token/tokentest"
	gatewayv1 "vmcp/proto/gateway/v1"
	"vmcp/services/authz/internal/audit"
	"vmcp/services/authz/internal/engine"
)

// world is a Server with everything around it.
type world struct {
	server  *Server
	issuer  *tokentest.Issuer
	keys    *keyring.Ring
	policy  *policy.Set
	engine  *engine.Engine
	audit   bytes.Buffer
	callers map[string]map[string]any
	tokens  map[string]string
}

// settings are what config.json of an archive may say.
type settings struct {
	ResourceURL                              string
	Loopback                                 int
	Origins                                  []string
	Anonymous, NoPolicies, NoCatalog, NoKeys bool
}

const (
	authServer = "https://login.example/tenant" // what the metadata names; tokens are the test issuer's
	audience   = "https://gateway.example"
)

func startIssuer(t testing.TB) *tokentest.Issuer {
	t.Helper()
	issuer, err := tokentest.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issuer.Close)
	return issuer
}

func newWorld(t testing.TB, issuer *tokentest.Issuer, archives ...*txtar.Archive) *world {
	t.Helper()
	base, err := txtar.ParseFile("testdata/world.txtar")
	if err != nil {
		t.Fatal(err)
	}
	part := map[string][]byte{}
	for _, ar := range append([]*txtar.Archive{base}, archives...) {
		for _, f := range ar.Files {
			part[f.Name] = f.Data
		}
	}
	decode := func(name string, into any) {
		if err := json.Unmarshal(part[name], into); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	w := &world{issuer: issuer, tokens: map[string]string{}}
	var set settings
	decode("config.json", &set)
	decode("callers.json", &w.callers)

	w.policy, err = policy.Load("team", []string{"github", "k8s", "docs", "late"}, gatewayconfig.Policies{
		EntitiesJSON: "[]", Texts: []gatewayconfig.PolicyText{{File: "p", Line: 1, Text: string(part["policies.cedar"])}}})
	if err != nil {
		t.Fatal(err)
	}
	w.engine = engine.New(func(mcpwire.ItemKind, string) {}, func([]string) {}, func(engine.ChangedTool) {})
	if !set.NoPolicies {
		w.engine.SetPolicies(w.policy)
	}
	for name, data := range part {
		if strings.HasPrefix(name, "catalog") && !set.NoCatalog {
			c := &engine.Catalog{Digest: name}
			var raw []json.RawMessage
			if err := json.Unmarshal(data, &raw); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			for _, r := range raw {
				b := new(gatewayv1.BackendCatalog)
				if err := protojson.Unmarshal(r, b); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				c.Backends = append(c.Backends, b)
			}
			w.engine.SetReplica(name, c)
		}
	}

	w.keys = keyringtest.New(t)
	endpoint := gatewayconfig.Endpoint{URL: "https://gateway.example/mcp", Path: "/mcp", ResourceURL: "https://gateway.example",
		Audience: audience, Scopes: []string{"openid", "mcp"}, Origins: set.Origins}
	if set.ResourceURL != "" {
		endpoint.URL, endpoint.ResourceURL = set.ResourceURL, set.ResourceURL
		endpoint.Path = strings.TrimPrefix(set.ResourceURL, "https://gateway.example")
	}
	cfg := Config{VirtualServer: "team", Endpoint: endpoint, Issuer: authServer, Loopback: set.Loopback,
		Engine: w.engine, Keys: w.keys, Log: zap.NewNop(), Audit: audit.New(&w.audit, func(err error) { t.Error(err) })}
	if set.Anonymous {
		cfg.Issuer = ""
	} else {
		cfg.Verifier, err = token.New(token.Config{Audience: audience, Log: zap.NewNop(),
			Issuer: gatewayconfig.Issuer{URL: issuer.URL, AllowHTTP: true, AllowPrivateIP: true}}, NewCaller)
		if err != nil {
			t.Fatal(err)
		}
		if !set.NoKeys {
			if err := cfg.Verifier.SetKeys(issuer.JWKS()); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.server = New(cfg)
	return w
}

// token mints the caller's token, once.
func (w *world) token(t testing.TB, caller string) string {
	t.Helper()
	if w.tokens[caller] == "" {
		claims := w.callers[caller]
		if claims == nil {
			t.Fatalf("no caller %s", caller)
		}
		all := map[string]any{"sub": caller, "aud": audience, "client_id": "cli", "jti": "jti-" + caller}
		for k, v := range claims {
			all[k] = v
		}
		w.tokens[caller] = w.issuer.Mint(all)
	}
	return w.tokens[caller]
}
