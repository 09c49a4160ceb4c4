package permit

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"vmcp/internal/decision"
	"vmcp/internal/gatewayconfig"
	"vmcp/internal/keyring"
	"vmcp/internal/keyring/keyringtest"
	"vmcp/internal/mcpwire"
	"vmcp/internal/policy"
	gatewayv1 "vmcp/proto/gateway/v1"
	"vmcp/services/authz/internal/engine"
)

const policies = `
permit(principal in THVGroup::"dev", action, resource);
forbid(principal, action, resource == Tool::"a_secret");
permit(principal in THVGroup::"loopback", action, resource) when { context has client_ip && context.client_ip.isLoopback() };
permit(principal in THVGroup::"few", action == Action::"call_tool", resource) when { context has arg_n && context.arg_n < 3 };
`

func newSet(t testing.TB, text string) *policy.Set {
	t.Helper()
	set, err := policy.Load("team", []string{"a"}, gatewayconfig.Policies{EntitiesJSON: "[]",
		Texts: []gatewayconfig.PolicyText{{File: "p", Line: 1, Text: text}}})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func tools(digest string, names ...string) *engine.Catalog {
	b := &gatewayv1.BackendCatalog{Name: "a"}
	for _, n := range names {
		b.Tools = append(b.Tools, &gatewayv1.Item{Name: n, Original: strings.TrimPrefix(n, "a_")})
	}
	return &engine.Catalog{Digest: digest, Backends: []*gatewayv1.BackendCatalog{b}}
}

func newServer(t testing.TB, catalog *engine.Catalog) *Server {
	t.Helper()
	e := engine.New(func(mcpwire.ItemKind, string) {}, func([]string) {}, func(engine.ChangedTool) {})
	e.SetPolicies(newSet(t, policies))
	if catalog != nil {
		e.SetReplica("r", catalog)
	}
	return &Server{Engine: e, Keys: keyringtest.New(t), VirtualServer: "team"}
}

func seal(t testing.TB, keys *keyring.Ring, d *gatewayv1.Decision) string {
	t.Helper()
	s, err := decision.Seal(keys, d)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func claims(groups ...string) []byte {
	return fmt.Appendf(nil, `{"sub":"ann","groups":["%s"]}`, strings.Join(groups, `","`))
}

func TestSeal(t *testing.T) {
	s := newServer(t, tools("1", "a_x"))
	now := time.Now().Unix()
	good := func() *gatewayv1.Decision {
		// Long ago: the seal's age does not matter.
		return &gatewayv1.Decision{VirtualServer: "team", IssuedAtMs: 1, ExpiresAt: now + 60, TokenPayload: claims("dev")}
	}
	expired, other := good(), good()
	expired.ExpiresAt = now
	other.VirtualServer = "other"
	for name, tt := range map[string]struct {
		seal string
		want codes.Code
	}{
		"good":                   {seal(t, s.Keys, good()), codes.OK},
		"none":                   {"", codes.Unauthenticated},
		"forged":                 {seal(t, keyringtest.New(t), good()), codes.Unauthenticated},
		"cut":                    {seal(t, s.Keys, good())[:100], codes.Unauthenticated},
		"expired":                {seal(t, s.Keys, expired), codes.Unauthenticated},
		"another virtual server": {seal(t, s.Keys, other), codes.Unauthenticated},
	} {
		for _, req := range []*gatewayv1.PermittedRequest{
			{Seal: tt.seal, Kind: gatewayv1.ItemKind_ITEM_KIND_TOOL, CatalogDigest: "1"},
			{Seal: tt.seal, Kind: gatewayv1.ItemKind_ITEM_KIND_TOKEN},
		} {
			resp, err := s.Permitted(t.Context(), req)
			if status.Code(err) != tt.want || tt.want == codes.OK && resp.PolicyRevision != s.Engine.Snapshot().Policies.Revision() {
				t.Errorf("%s, %v: %v, %v, want %v", name, req.Kind, resp, err, tt.want)
			}
		}
	}
}

func TestPermitted(t *testing.T) {
	s := newServer(t, tools("1", "a_b", "a_secret", "a_x"))
	for _, tt := range []struct {
		name  string
		d     *gatewayv1.Decision
		kind  gatewayv1.ItemKind
		names []string
		want  []uint32
		code  codes.Code
	}{
		{"all", &gatewayv1.Decision{TokenPayload: claims("dev")}, gatewayv1.ItemKind_ITEM_KIND_TOOL, nil, []uint32{0, 2}, codes.OK},
		{"no role", &gatewayv1.Decision{TokenPayload: claims("x")}, gatewayv1.ItemKind_ITEM_KIND_TOOL, nil, nil, codes.OK},
		{"anonymous", &gatewayv1.Decision{}, gatewayv1.ItemKind_ITEM_KIND_TOOL, nil, nil, codes.OK},
		{"names, as asked", &gatewayv1.Decision{TokenPayload: claims("dev")}, gatewayv1.ItemKind_ITEM_KIND_TOOL,
			[]string{"a_x", "nope", "a_secret", "a_b", "x"}, []uint32{0, 3}, codes.OK},
		{"arguments may be anything", &gatewayv1.Decision{TokenPayload: claims("few")}, gatewayv1.ItemKind_ITEM_KIND_TOOL, nil, []uint32{0, 2}, codes.OK},
		{"by address", &gatewayv1.Decision{TokenPayload: claims("loopback"), ClientIp: "127.0.0.1"}, gatewayv1.ItemKind_ITEM_KIND_TOOL, []string{"a_x"}, []uint32{0}, codes.OK},
		{"by another address", &gatewayv1.Decision{TokenPayload: claims("loopback"), ClientIp: "192.0.2.1"}, gatewayv1.ItemKind_ITEM_KIND_TOOL, []string{"a_x"}, nil, codes.OK},
		{"an empty list", &gatewayv1.Decision{TokenPayload: claims("dev")}, gatewayv1.ItemKind_ITEM_KIND_PROMPT, nil, nil, codes.OK},
		{"no kind", &gatewayv1.Decision{TokenPayload: claims("dev")}, gatewayv1.ItemKind_ITEM_KIND_UNSPECIFIED, nil, nil, codes.InvalidArgument},
		{"unheard of kind", &gatewayv1.Decision{TokenPayload: claims("dev")}, 77, nil, nil, codes.InvalidArgument},
		{"unreadable groups", &gatewayv1.Decision{TokenPayload: []byte(`{"sub":"ann","groups":5}`)}, gatewayv1.ItemKind_ITEM_KIND_TOOL, nil, nil, codes.Unavailable},
	} {
		tt.d.VirtualServer, tt.d.Era = "team", uint32(mcpwire.EraLegacy)
		resp, err := s.Permitted(t.Context(), &gatewayv1.PermittedRequest{Seal: seal(t, s.Keys, tt.d), Kind: tt.kind, CatalogDigest: "1", Names: tt.names})
		if status.Code(err) != tt.code {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.code)
			continue
		}
		if diff := cmp.Diff(tt.want, resp.GetIndexes()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
		if err == nil && (resp.PolicyRevision != s.Engine.Snapshot().Policies.Revision() || len(resp.View) != 22) {
			t.Errorf("%s: revision %q, view %q", tt.name, resp.PolicyRevision, resp.View)
		}
	}
}

// TestDigest: one that is not known is waited for, and given up.
func TestDigest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, nil)
		req := &gatewayv1.PermittedRequest{Kind: gatewayv1.ItemKind_ITEM_KIND_TOOL, CatalogDigest: "2",
			Seal: seal(t, s.Keys, &gatewayv1.Decision{VirtualServer: "team", TokenPayload: claims("dev")})}

		token := &gatewayv1.PermittedRequest{Kind: gatewayv1.ItemKind_ITEM_KIND_TOKEN, Seal: req.Seal}
		if _, err := s.Permitted(t.Context(), token); status.Code(err) != codes.Unavailable {
			t.Errorf("the token, without a catalog: %v, want Unavailable", err)
		}
		start := time.Now()
		if _, err := s.Permitted(t.Context(), req); status.Code(err) != codes.Unavailable {
			t.Errorf("no catalog: %v, want Unavailable", err)
		}
		if waited := time.Since(start); waited < catalogWait || waited > catalogWait+10*time.Millisecond {
			t.Errorf("waited %v, want %v", waited, catalogWait)
		}

		time.AfterFunc(catalogWait/2, func() { s.Engine.SetReplica("r", tools("1", "a_x")) })
		time.AfterFunc(catalogWait*3/4, func() { s.Engine.SetReplica("r", tools("2", "a_x", "a_y")) })
		resp, err := s.Permitted(t.Context(), req)
		if err != nil || len(resp.Indexes) != 2 {
			t.Errorf("%v, %v, want the items of the catalog that came", resp, err)
		}

		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		req.CatalogDigest = "3"
		if _, err := s.Permitted(ctx, req); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("the caller gave up: %v, want DeadlineExceeded", err)
		}
	})
}

// TestPermittedIsDecide: an item without conditions on arguments is listed exactly if calling it is allowed.
func TestPermittedIsDecide(t *testing.T) {
	groups := []string{"dev", "few", "loopback", "x"}
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var text strings.Builder
		for range 1 + rng.IntN(6) {
			effect := []string{"permit", "permit", "forbid"}[rng.IntN(3)]
			resource := []string{"resource", `resource == Tool::"n1"`, `resource == Tool::"a_n2"`, `resource in MCP::"a"`, `resource in MCP::"b"`}[rng.IntN(5)]
			condition := []string{"", ` when { resource has name && resource.name like "*1" }`, ` unless { resource.backend == "a" }`,
				` when { resource.openWorldHint }`, ` when { context.protocol_era == "modern" }`}[rng.IntN(5)]
			fmt.Fprintf(&text, "%s(principal in THVGroup::\"%s\", action, %s)%s;\n", effect, groups[rng.IntN(4)], resource, condition)
		}
		s := newServer(t, nil)
		s.Engine.SetPolicies(newSet(t, text.String()))
		var names []string
		for i := range 1 + rng.IntN(6) {
			names = append(names, fmt.Sprintf("a_n%d", i))
		}
		s.Engine.SetReplica("r", tools("1", names...))
		d := &gatewayv1.Decision{VirtualServer: "team", TokenPayload: claims(groups[rng.IntN(4)], groups[rng.IntN(4)]), Era: uint32(1 + rng.IntN(2))}
		asked := slices.Clone(names)
		rng.Shuffle(len(asked), func(i, j int) { asked[i], asked[j] = asked[j], asked[i] })
		asked = append(asked, "nope")

		snap := s.Engine.Snapshot()
		caller, err := snap.Caller(d.TokenPayload)
		if err != nil {
			t.Fatal(err)
		}
		for _, subset := range [][]string{nil, asked} {
			resp, err := s.Permitted(t.Context(), &gatewayv1.PermittedRequest{Seal: seal(t, s.Keys, d), Kind: gatewayv1.ItemKind_ITEM_KIND_TOOL, CatalogDigest: "1", Names: subset})
			if err != nil {
				t.Fatal(err)
			}
			all := subset
			if all == nil {
				all = names
			}
			for i, name := range all {
				entry, _ := snap.Resolve(mcpwire.ItemTool, name)
				want := entry != nil && snap.Policies.Decide(caller.Caller, entry.Prepared, nil, engine.Context("", mcpwire.Era(d.Era))).Allow
				if got := slices.Contains(resp.Indexes, uint32(i)); got != want {
					t.Errorf("seed %d: %s: listed %v, allowed %v\n%s", seed, name, got, want, text.String())
				}
			}
		}
	}
}
