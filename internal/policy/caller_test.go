package policy

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmcp/internal/gatewayconfig"
)

func TestGroups(t *testing.T) {
	for _, tt := range []struct {
		group, role, claims string
		want                string // groups, or ! and a part of the error
	}{
		{"", "", `{"groups": ["b", "a", "a"], "roles": ["r"]}`, "a b"},
		{"", "", `{"groups": [], "roles": ["r"]}`, ""},
		{"", "", `{"groups": null, "roles": ["r"]}`, "r"},
		{"", "", `{"roles": "r", "cognito:groups": ["c"]}`, "r"},
		{"", "", `{"cognito:groups": ["c"]}`, "c"},
		{"", "roles", `{"groups": ["g"], "roles": ["r"]}`, "g r"},
		{"realm.roles", "", `{"realm": {"roles": ["x"], "else": null}, "groups": ["g"]}`, "x"},
		{"realm.roles", "", `{"realm.roles": ["exact"], "realm": {"roles": ["x"]}}`, "exact"},
		{"a.b.c", "", `{"a": {"b.c": ["y"]}}`, "y"},
		{"a.b.c", "", `{"a": "b"}`, ""},
		{"roles", "", `{"groups": ["ours"]}`, "ours"},
		{"roles", "", `{"roles": null, "groups": ["ours"]}`, "ours"},
		{"roles", "", `{"roles": [], "groups": ["g"]}`, ""},
		{"realm.roles", "", `{"realm": {"roles": ["x"]}, "_claim_names": {"groups": "s"}}`, "x"},
		{"", "", `{"_claim_names": {"groups": "s"}, "roles": ["r"]}`, "!overage"},
		{"", "", `{"hasgroups": true, "roles": ["r"]}`, "!overage"},
		{"", "", `{"hasgroups": false, "_claim_names": {"email": "s"}, "roles": ["r"]}`, "r"},
		{"", "", `{"hasgroups": true, "groups": ["g"]}`, "g"},
		{"roles", "", `{"_claim_names": {"roles": "s"}, "groups": ["g"]}`, "!overage"},
		{"", "more", `{"groups": ["g"], "_claim_names": {"more": "s"}}`, "!overage"},
		{"https://example.com/groups", "", `{"https://example.com/groups": ["u"]}`, "u"},
		{"", "", `{"groups": [1]}`, "!groups"},
		{"", "", `{"groups": {"a": 1}}`, "!groups"},
		{"", "roles", `{"groups": [], "roles": true}`, "!roles"},
	} {
		s, err := Load("v", nil, gatewayconfig.Policies{GroupClaimName: tt.group, RoleClaimName: tt.role})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		c, err := s.NewCaller([]byte(`{"sub": "s", ` + tt.claims[1:]))
		if err != nil {
			got = err.Error()
		} else {
			got = strings.Join(c.Groups(), " ")
		}
		want, fails := strings.CutPrefix(tt.want, "!")
		if fails != (err != nil) || fails && !strings.Contains(got, want) || !fails && got != want {
			t.Errorf("%q %q %s: got %q, want %q", tt.group, tt.role, tt.claims, got, tt.want)
		}
	}
}

func TestClaimsThatAreNoCaller(t *testing.T) {
	s := &Set{}
	for _, claims := range []string{
		``, `null`, `[]`, `{}`, `{"sub": ""}`, `{"sub": 1}`, `{"sub": null}`, `{"sub": "a", "sub": "b"}`, `{"sub": "a"} {}`,
		"{\"sub\": \"\xff\"}",
	} {
		if c, err := s.NewCaller([]byte(claims)); err == nil {
			t.Errorf("%q is Client %q", claims, c.entity.UID)
		}
	}
}

// TestClaimValues: what a claim is in Cedar, seen through a condition.
func TestClaimValues(t *testing.T) {
	const claims = `{"sub": "ann", "email": "ann@example.com", "s": "x", "b": true, "i": 9007199254740993, "d": 1.5, "dd": 1.23456,
		"big": 1e30, "n": null, "arr": ["a", 1], "o": {"p": {"q": "r"}}, "cognito:x": "y", "mixed": {"null": null}}`
	for _, cond := range []string{
		`context.claim_s == "x" && principal.claim_s == "x"`, `context.claim_b`, `context.claim_i == 9007199254740993`,
		`context.claim_d == decimal("1.5")`, `!(context has claim_n)`,
		`context.claim_arr.containsAll(["a", 1])`, `context.claim_o.p.q == "r"`, `context["claim_cognito:x"] == "y"`,
		`context.claim_mixed == {}`, `principal.sub == "ann" && principal.email == "ann@example.com"`, `!(principal has oid)`,
		`!(context has email)`, `principal == Client::"ann"`, `context has claim_sub`,
	} {
		s, err := Load("v", nil, gatewayconfig.Policies{Texts: []gatewayconfig.PolicyText{
			{File: "f", Line: 1, Text: `permit(principal, action, resource) when { ` + cond + ` };`},
		}})
		if err != nil {
			t.Fatal(err)
		}
		c, err := s.NewCaller([]byte(claims))
		if err != nil {
			t.Fatal(err)
		}
		if d := s.Decide(c, s.Prepare(Item{Kind: Tool, Original: "t", Advertised: "t"}), nil, Context{}); !d.Allow {
			t.Errorf("%s: %+v", cond, d)
		}
	}
}

func TestClientIP(t *testing.T) {
	for _, tt := range []struct{ ip, cond string }{
		{"10.0.0.1", `context.client_ip == ip("10.0.0.1") && context.client_ip_string == "10.0.0.1"`},
		{"::ffff:10.0.0.1", `context.client_ip.isIpv4() && context.client_ip_string == "10.0.0.1"`},
		{"fe80::1%eth0", `context.client_ip.isIpv6() && context.client_ip_string == "fe80::1"`},
		{"", `!(context has client_ip) && !(context has client_ip_string)`},
	} {
		s := world{entities: "[]"}.load(t, `permit(principal, action, resource) when { `+tt.cond+` };`)
		ctx := Context{}
		if tt.ip != "" {
			ctx.ClientIP = netip.MustParseAddr(tt.ip)
		}
		if d := s.Decide(s.Anonymous(), s.Prepare(Item{Kind: Tool}), nil, ctx); !d.Allow {
			t.Errorf("%s: %+v", tt.ip, d)
		}
	}
}

func TestNumbers(t *testing.T) {
	for _, tt := range []struct {
		text string
		n    number
		want string // Cedar text; empty: not exact
	}{
		{"5", byValue, "5"}, {"5.0", byValue, "5"}, {"50e-1", byValue, "5"}, {"-0.0", byValue, "0"}, {"0e99999999999", byValue, "0"},
		{"9007199254740993", byValue, "9007199254740993"}, {"9223372036854775807", byValue, "9223372036854775807"},
		{"-9223372036854775808", byValue, "-9223372036854775808"}, {"9223372036854775808", byValue, ""}, {"1e19", byValue, ""},
		{"1.5", byValue, `decimal("1.5")`}, {"1.2345", byValue, `decimal("1.2345")`}, {"1.23456", byValue, ""},
		{"1.50000000000000000000", byValue, `decimal("1.5")`}, {"-1e-4", byValue, `decimal("-0.0001")`}, {"1e-5", byValue, ""},
		{"1e999999999999999999999", byValue, ""}, {"1e-999999999999999999999", byValue, ""},
		{"5", asLong, "5"}, {"5.5", asLong, ""},
		{"5", asDecimal, `decimal("5.0")`}, {"922337203685477.5807", asDecimal, `decimal("922337203685477.5807")`},
		{"-922337203685477.5808", asDecimal, `decimal("-922337203685477.5808")`}, {"922337203685477.5808", asDecimal, ""},
		{"1000000000000000", asDecimal, ""},
	} {
		got := ""
		if v, err := (&converter{}).value([]byte(tt.text), tt.n); err == nil {
			got = string(v.MarshalCedar())
		}
		if got != tt.want {
			t.Errorf("%s as %d: got %s, want %s", tt.text, tt.n, got, tt.want)
		}
	}
}

func TestBounds(t *testing.T) {
	s := world{entities: "[]"}.load(t, `permit(principal, action, resource) when { context.args == context.args };`)
	item, c := s.Prepare(Item{Kind: Tool}), s.Anonymous()
	for _, tt := range []struct {
		args string
		want bool
	}{
		{`{"a": ` + strings.Repeat("[", 17) + strings.Repeat("]", 17) + `}`, true},
		{`{"a": ` + strings.Repeat("[", 18) + strings.Repeat("]", 18) + `}`, false},
		{`{"a": [` + strings.Repeat("1,", 999) + `1]}`, true},
		{`{"a": [` + strings.Repeat("1,", 1000) + `1]}`, false},
		{`{"a": ` + strings.Repeat(`[`, 100_000) + `}`, false},
		{`{"a": 1, "a": 2}`, false},
		{`{"a": 1}x`, false},
		{`{"a": 1`, false},
	} {
		if d := s.Decide(c, item, []byte(tt.args), Context{}); d.Allow != tt.want {
			t.Errorf("%.40s: %+v", tt.args, d)
		}
	}
}

func TestForeign(t *testing.T) {
	w := world{entities: "[]"}
	s1, s2 := w.load(t, `permit(principal, action, resource);`), w.load(t, `permit(principal, action, resource);`)
	i1, c1, i2, c2 := s1.Prepare(Item{Kind: Tool}), s1.Anonymous(), s2.Prepare(Item{Kind: Tool}), s2.Anonymous()
	for _, d := range []Decision{
		{}, s1.Decide(c2, i1, nil, Context{}), s1.Decide(c1, i2, nil, Context{}), s1.Decide(nil, i1, nil, Context{}),
		s1.Decide(c1, nil, nil, Context{}), s1.Family(c2, "ping", Context{}), s1.Family(nil, "ping", Context{}),
		s1.Decide(c1, s1.Prepare(Item{}), nil, Context{}), s1.Decide(c1, s1.Prepare(Item{Kind: 9}), nil, Context{}), s1.Decide(c1, s1.Prepare(Item{Kind: numKinds}), nil, Context{}),
	} {
		if d.Allow {
			t.Errorf("allowed: %+v", d)
		}
	}
	if got := s1.Permitted(c1, []*Prepared{i2, nil, i1}, Context{}); !cmp.Equal(got, []uint32{2}) {
		t.Errorf("permitted: %v", got)
	}
	if got := s1.Permitted(c2, []*Prepared{i1}, Context{}); got != nil {
		t.Errorf("permitted to a foreign caller: %v", got)
	}
}

func TestEmptySetDenies(t *testing.T) {
	s, err := Load("v", []string{"b"}, gatewayconfig.Policies{})
	if err != nil {
		t.Fatal(err)
	}
	if d := s.Decide(s.Anonymous(), s.Prepare(Item{Kind: Tool, Backend: "b"}), nil, Context{}); d.Allow || d.Reason != NoPermit {
		t.Errorf("%+v", d)
	}
	if d := s.Family(s.Anonymous(), "initialize", Context{}); !d.Allow {
		t.Errorf("%+v", d)
	}
}

func TestLoadErrors(t *testing.T) {
	for _, tt := range []struct {
		want string
		src  gatewayconfig.Policies
	}{
		{"entitiesJson", gatewayconfig.Policies{EntitiesJSON: `{`}},
		{"entitiesJson", gatewayconfig.Policies{EntitiesJSON: `[{"uid": {"type": "A", "id": "b"}}]`}},
		{"entitiesJson", gatewayconfig.Policies{EntitiesJSON: `[{"uid": {"type": "A", "id": "b"}, "attrs": {"k": {"x": null}}, "parents": []}]`}},
		{"entitiesJson", gatewayconfig.Policies{EntitiesJSON: `[{"uid": {"type": "A", "id": "b"}, "attrs": {}, "tags": {"k": [1.5]}, "parents": []}]`}},
		{"has no members", gatewayconfig.Policies{EntitiesJSON: `[{"uid": {"type": "A", "id": "b"}, "attrs": {}, "parents": [{"type": "Tool", "id": "x"}]}]`}},
		{"groupEntityType", gatewayconfig.Policies{GroupEntityType: "a b"}},
		{"groupEntityType", gatewayconfig.Policies{GroupEntityType: "Client"}},
	} {
		if _, err := Load("v", []string{"b"}, tt.src); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want %q", err, tt.want)
		}
	}
	if _, err := Load("v", []string{"b", "v"}, gatewayconfig.Policies{}); err == nil {
		t.Error("a backend may have the name of the virtual server")
	}
}

func TestRevision(t *testing.T) {
	base := gatewayconfig.Policies{Texts: []gatewayconfig.PolicyText{{File: "f", Line: 3, Text: "permit(principal, action, resource);"}}}
	seen := map[string]int{}
	for i, change := range []func(p *gatewayconfig.Policies){
		func(p *gatewayconfig.Policies) {},
		func(p *gatewayconfig.Policies) { p.Texts[0].Text = "forbid(principal, action, resource);" },
		func(p *gatewayconfig.Policies) { p.EntitiesJSON = "[]" },
		func(p *gatewayconfig.Policies) { p.GroupClaimName = "g" },
		func(p *gatewayconfig.Policies) { p.RoleClaimName = "g" },
		func(p *gatewayconfig.Policies) { p.GroupEntityType = "G" },
	} {
		p := base
		p.Texts = []gatewayconfig.PolicyText{base.Texts[0]}
		change(&p)
		s, err := Load("v", nil, p)
		if err != nil {
			t.Fatal(err)
		}
		if n, ok := seen[s.Revision()]; ok || len(s.Revision()) != 22 {
			t.Errorf("revision %q of %d is that of %d", s.Revision(), i, n)
		}
		seen[s.Revision()] = i
	}
}

func TestReads(t *testing.T) {
	for _, tt := range []struct {
		policy string
		want   Reads
	}{
		{`permit(principal in THVGroup::"g", action, resource) when { resource.name like "a*" };`, Reads{}},
		{`permit(principal == Client::"x", action, resource);`, Reads{PrincipalID: true}},
		{`permit(principal in Client::"x", action, resource);`, Reads{PrincipalID: true}},
		{`permit(principal is Client in Client::"x", action, resource);`, Reads{PrincipalID: true}},
		{`permit(principal is Client in THVGroup::"g", action, resource);`, Reads{}},
		{`permit(principal is Client in THVGroup::"g", action, resource); permit(principal == Client::"x", action, resource);`, Reads{PrincipalID: true}},
		{`permit(principal, action, resource) when { principal in THVGroup::"g" };`, Reads{}},
		{`permit(principal, action, resource) when { action has arg_x };`, Reads{Arguments: true}},
		{`permit(principal, action, resource) when { (if context.claim_z then principal else resource) has arg_x };`,
			Reads{Claims: []string{"z"}, PrincipalID: true, Arguments: true}},
		{`permit(principal, action, resource) when { principal has arg_x };`, Reads{}},
		{`permit(principal, action, resource) when { principal is Client && resource is Tool };`, Reads{}},
		{`permit(principal, action, resource) when { [principal].contains(resource) };`, Reads{PrincipalID: true}},
		{`permit(principal, action, resource) when { context.claim_b == 1 && principal has claim_a && principal.email like "x" };`,
			Reads{Claims: []string{"a", "b", "email"}}},
		{`permit(principal, action, resource) when { context.client_ip.isLoopback() };`, Reads{ClientIP: true}},
		{`permit(principal, action, resource) when { context has protocol_era };`, Reads{Era: true}},
		{`permit(principal, action, resource) when { resource.arg_x == 1 };`, Reads{Arguments: true}},
		{`permit(principal, action, resource) when { context == {} };`,
			Reads{AllClaims: true, ClientIP: true, Era: true, Arguments: true}},
		{`permit(principal, action, resource) when { (if context.claim_z then principal else resource).claim_q == 1 };`,
			Reads{Claims: []string{"q", "z"}, PrincipalID: true}},
	} {
		if d := cmp.Diff(world{entities: "[]"}.load(t, tt.policy).Reads(), tt.want); d != "" {
			t.Errorf("%s: got, want:\n%s", tt.policy, d)
		}
	}
}

// TestUnreadNote: what is noticed of an argument that the policy does not read is no reason.
func TestUnreadNote(t *testing.T) {
	if err := (note{wrong: errNotExact}).check("a", new(reads)); err != nil {
		t.Error(err)
	}
}

func FuzzNewCaller(f *testing.F) {
	for _, seed := range []string{`{"sub":"a","groups":["x"],"n":1e5}`, `{"sub":"a","x":[[{}]]}`, `{`, `{"sub":"a","roles":"r","f":-1.5}`} {
		f.Add([]byte(seed))
	}
	s := world{entities: "[]"}.load(f, `permit(principal, action, resource) when { context == context };`)
	item := s.Prepare(Item{Kind: Tool})
	f.Fuzz(func(t *testing.T, claims []byte) {
		c, err := s.NewCaller(claims)
		if (c == nil) == (err == nil) {
			t.Fatalf("caller %v and error %v", c, err)
		}
		if c != nil {
			s.Decide(c, item, nil, Context{})
			s.ViewKey(c, Context{})
		}
	})
}

func FuzzArguments(f *testing.F) {
	for _, seed := range []string{`{"a":1,"b":[1.5,"x"],"n":2}`, `{"n":1e400}`, `[]`, `{"o":{"k":"v"}}`} {
		f.Add([]byte(seed))
	}
	s := world{entities: "[]"}.load(f, `permit(principal, action, resource) when { context.args == context.args };
		permit(principal, action, resource) when { resource has arg_n && resource.arg_n == 5 };`)
	item, c := s.Prepare(Item{Kind: Tool, Args: typed(map[string][]string{"n": {"number"}, "a": {"integer"}})}), s.Anonymous()
	f.Fuzz(func(t *testing.T, args []byte) {
		d := s.Decide(c, item, args, Context{})
		if d.Allow != (d.Reason == Permitted) || d.Allow != (d.Err == nil) {
			t.Fatalf("%+v", d)
		}
	})
}

func FuzzLoad(f *testing.F) {
	for _, seed := range []string{`permit(principal, action, resource);`, `@id("x") forbid(principal, action, resource) when {"a\"`, "//;\n;?", "permit(principal, action, resource); // the end", `permit(principal, action, resource) when { "\`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Load("v", nil, gatewayconfig.Policies{Texts: []gatewayconfig.PolicyText{{File: "f", Line: 1, Text: text}}})
		if (s == nil) == (err == nil) {
			t.Fatal(fmt.Sprint(s, err))
		}
	})
}

func TestMayBePermitted(t *testing.T) {
	s := world{entities: "[]"}.load(t, `permit(principal in THVGroup::"g", action, resource == Tool::"x");
		permit(principal, action, resource) when { context has claim_vip && resource.name == "y" };
		forbid(principal in THVGroup::"h", action, resource);`)
	for claims, want := range map[string]bool{
		`{"sub": "a", "groups": ["g"]}`: true, `{"sub": "a", "groups": ["h"]}`: false, `{"sub": "a"}`: false, `{"sub": "a", "vip": 1}`: true,
	} {
		c, err := s.NewCaller([]byte(claims))
		if err != nil {
			t.Fatal(err)
		}
		if got := c.MayBePermitted(); got != want {
			t.Errorf("%s: %v", claims, got)
		}
	}
}
