package policy

import (
	"fmt"
	"strings"
	"testing"

	"vmcp/internal/gatewayconfig"
)

// guideLike is n policies as an organisation may have them: groups that may use backends or single tools, forbids on
// names, conditions on claims, hints, addresses and arguments.
func guideLike(n int) string {
	var b strings.Builder
	b.WriteString(`permit(principal in THVGroup::"developers", action, resource);
forbid(principal in THVGroup::"developers", action == Action::"call_tool", resource == Tool::"delete_namespace");
permit(principal in THVGroup::"platform", action, resource);
`)
	for i := 3; i < n; i++ {
		switch i % 8 {
		case 0, 1, 2:
			fmt.Fprintf(&b, "permit(principal in THVGroup::\"team%d\", action, resource in MCP::\"backend%d\");\n", i, i%20)
		case 3, 4:
			fmt.Fprintf(&b, "permit(principal in THVGroup::\"team%d\", action == Action::\"call_tool\", resource == Tool::\"tool%d\");\n", i%50, i)
		case 5:
			fmt.Fprintf(&b, "forbid(principal, action == Action::\"call_tool\", resource == Tool::\"tool%d\") unless { context.claim_level == \"%d\" };\n", i, i%5)
		case 6:
			fmt.Fprintf(&b, "permit(principal, action, resource) when { context has claim_department && context.claim_department == \"d%d\" };\n", i)
		case 7:
			fmt.Fprintf(&b, "forbid(principal in THVGroup::\"team%d\", action == Action::\"call_tool\", resource == Tool::\"tool%d\") when { context.arg_limit > 10 };\n", i%50, i)
		}
	}
	return b.String()
}

func benchmarkWorld(b *testing.B, policies string, tools int) (*Set, *Caller, []*Prepared) {
	b.Helper()
	var backends []string
	for i := range 20 {
		backends = append(backends, fmt.Sprintf("backend%d", i))
	}
	s, err := Load("vmcp", backends, gatewayconfig.Policies{Texts: []gatewayconfig.PolicyText{{File: "f", Line: 1, Text: policies}}})
	if err != nil {
		b.Fatal(err)
	}
	c, err := s.NewCaller([]byte(benchClaims))
	if err != nil {
		b.Fatal(err)
	}
	var items []*Prepared
	for i := range tools {
		items = append(items, s.Prepare(benchItem(i)))
	}
	return s, c, items
}

const benchClaims = `{"sub": "ann", "iss": "https://login.example.com/t/v2.0", "aud": ["api"], "groups": ["developers", "team7", "team15"],
	"department": "d", "level": "3", "email": "ann@example.com", "oid": "x", "tid": "y", "iat": 1, "exp": 2, "jti": "z"}`

func benchItem(i int) Item {
	name := fmt.Sprintf("tool%d", i)
	return Item{Kind: Tool, Backend: fmt.Sprintf("backend%d", i%20), Original: name, Advertised: fmt.Sprintf("backend%d_%s", i%20, name)}
}

func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{5, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s, c, items := benchmarkWorld(b, guideLike(n), 1000)
			args := []byte(`{"limit": 5, "query": "something to look for", "nested": {"a": [1, 2, 3]}}`)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				s.Decide(c, items[i%len(items)], args, Context{})
			}
		})
	}
	for _, cond := range []struct{ name, policy string }{
		{"item", `permit(principal, action, resource) when { resource.backend like "backend1*" };`},
		{"both", `permit(principal, action, resource) when { principal.claim_level == resource.backend };`},
		{"argument", `permit(principal, action, resource) when { context.arg_limit < 10 };`},
		{"args", `permit(principal, action, resource) when { context.args.nested.a.contains(3) };`},
		{"address", `permit(principal, action, resource) when { context has client_ip };`},
	} {
		b.Run(cond.name, func(b *testing.B) {
			s, c, items := benchmarkWorld(b, cond.policy, 1)
			args := []byte(`{"limit": 5, "query": "something to look for", "nested": {"a": [1, 2, 3]}}`)
			b.ReportAllocs()
			for b.Loop() {
				s.Decide(c, items[0], args, Context{})
			}
		})
	}
}

func BenchmarkPermitted1000(b *testing.B) {
	for _, n := range []int{5, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s, c, items := benchmarkWorld(b, guideLike(n), 1000)
			b.ReportAllocs()
			for b.Loop() {
				s.Permitted(c, items, Context{})
			}
		})
	}
	b.Run("both", func(b *testing.B) {
		s, c, items := benchmarkWorld(b, `permit(principal, action, resource) when { resource.backend like "*" && principal has claim_level };`, 1000)
		for b.Loop() {
			s.Permitted(c, items, Context{})
		}
	})
}

func BenchmarkFamily(b *testing.B) {
	s, c, _ := benchmarkWorld(b, guideLike(1000), 0)
	b.ReportAllocs()
	for b.Loop() {
		s.Family(c, "initialize", Context{})
	}
}

func BenchmarkNewCaller(b *testing.B) {
	for _, n := range []int{5, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s, _, _ := benchmarkWorld(b, guideLike(n), 0)
			for b.Loop() {
				s.NewCaller([]byte(benchClaims))
			}
		})
	}
}

func BenchmarkPrepare(b *testing.B) {
	for _, n := range []int{5, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s, _, _ := benchmarkWorld(b, guideLike(n), 0)
			for b.Loop() {
				s.Prepare(benchItem(7))
			}
		})
	}
}

func BenchmarkLoad1000(b *testing.B) {
	text := guideLike(1000)
	for b.Loop() {
		if _, err := Load("vmcp", nil, gatewayconfig.Policies{Texts: []gatewayconfig.PolicyText{{File: "f", Line: 1, Text: text}}}); err != nil {
			b.Fatal(err)
		}
	}
}
