package policy

import (
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"vmcp/internal/gatewayconfig"
)

// Random policies over a small world: tools a and b at two backends, three groups, a few claims and arguments.
// In every other world a static attribute leads from a tool to a caller.
const worldEntities = `[
  {"uid": {"type": "Tool", "id": "a"}, "attrs": {OWNER}, "parents": [{"type": "ToolGroup", "id": "s"}]},
  {"uid": {"type": "Tool", "id": "other"}, "attrs": {"owner": "nobody"}, "parents": []},
  {"uid": {"type": "Tool", "id": "b2_b"}, "attrs": {"level": 3}, "parents": [{"type": "ToolGroup", "id": "s"}]},
  {"uid": {"type": "ToolGroup", "id": "s"}, "attrs": {}, "parents": [{"type": "ToolGroup", "id": "t"}]},
  {"uid": {"type": "THVGroup", "id": "g1"}, "attrs": {}, "parents": [{"type": "THVGroup", "id": "g3"}]},
  {"uid": {"type": "Client", "id": "2"}, "attrs": {"claim_a": "static"}, "parents": [{"type": "THVGroup", "id": "g2"}]},
  {"uid": {"type": "Client", "id": "5"}, "attrs": {}, "parents": [{"type": "THVGroup", "id": "g2"}]},
  {"uid": {"type": "MCP", "id": "b1"}, "attrs": {"name": "b1"}, "parents": [{"type": "Zone", "id": "z"}]}
]`

var (
	callerAtoms = []string{
		`context.claim_a == "x"`, `context has claim_b`, `principal has claim_a && principal.claim_a == "x"`,
		`principal in THVGroup::"g2"`, `principal == Client::"1"`, `principal.claim_n < 5`, `principal is Client`,
		`principal has email`, `principal in [THVGroup::"g1", THVGroup::"g2"]`, `true`, `1 + 9223372036854775807 > 0`,
		`Client::"2" in THVGroup::"g2"`, `Client::"3" in THVGroup::"g2"`,
	}
	itemAtoms = []string{
		`resource == Tool::"a"`, `resource in ToolGroup::"t"`, `resource.backend == "b1"`, `resource.name like "b1*"`,
		`resource has readOnlyHint && resource.readOnlyHint`, `resource.readOnlyHint`, `resource in MCP::"b2"`,
		`resource has owner && resource.owner == principal`, `principal has claim_a && principal.claim_a == resource.backend`,
		`Tool::"a" in ToolGroup::"s"`, `resource has level`, `action == Action::"call_tool"`, `resource.name == "b"`,
		`resource has owner && resource.owner has claim_a`, `resource in Zone::"z"`,
		`Tool::"a" in MCP::"b1"`, `Client::"3" in THVGroup::"g2" && resource == Tool::"a"`, `resource in MCP::"vmcp"`,
	}
	requestAtoms = []string{`context.client_ip.isLoopback()`, `context.protocol_era == "modern"`, `context has client_ip`}
	argAtoms     = []string{
		`context.arg_n > 3`, `context has arg_n`, `context.args has o && context.args.o.k == "v"`, `resource has arg_n`,
		`context has args`, `resource.arg_n == 5`, `context.args == {"n": 5}`, `context.arg_bad == 1`,
		`context.args has bad`, `context has claim_a && context == {"args": {}}`, `context.args.s.contains("v")`,
	}
)

type world struct {
	*rand.Rand
	entities string
}

func (w world) pick(from []string) string { return from[w.IntN(len(from))] }

func (w world) pickAtoms() []string {
	return [][]string{callerAtoms, itemAtoms, allAtoms}[w.IntN(3)]
}

func (w world) expr(atoms []string, depth int) string {
	if depth == 0 || w.IntN(3) == 0 {
		return w.pick(atoms)
	}
	a, b := w.expr(atoms, depth-1), w.expr(atoms, depth-1)
	switch w.IntN(4) {
	case 0:
		return "(" + a + ") && (" + b + ")"
	case 1:
		return "(" + a + ") || (" + b + ")"
	case 2:
		return "!(" + a + ")"
	}
	return "if " + a + " then " + b + " else " + w.expr(atoms, depth-1)
}

// policy makes a statement that loads: a forbid that can never match does not.
func (w world) policy(effect string, atoms []string) string {
	for {
		p := w.statement(effect, atoms)
		if _, err := w.try(p); err == nil {
			return p
		}
	}
}

func (w world) statement(effect string, atoms []string) string {
	p := effect + "(" + w.pick([]string{"principal", "principal", `principal in THVGroup::"g1"`, `principal in THVGroup::"g2"`,
		`principal in THVGroup::"g3"`, `principal == Client::"1"`, `principal is Client in THVGroup::"g2"`, `principal in Client::"2"`}) +
		", " + w.pick([]string{"action", "action", `action == Action::"call_tool"`, `action in [Action::"call_tool", Action::"list_tools"]`,
		`action == Action::"get_prompt"`, `action == Action::"list_tools"`}) +
		", " + w.pick([]string{"resource", "resource", `resource == Tool::"a"`, `resource == Tool::"b2_a"`, `resource in MCP::"b1"`,
		`resource in MCP::"vmcp"`, `resource is Tool`, `resource in ToolGroup::"t"`, `resource is Tool in ToolGroup::"s"`,
		`resource is Prompt`, `resource == Tool::"b"`, `resource in Tool::"b"`, `resource in Zone::"z"`, `resource == MCP::"vmcp"`}) + ")"
	for range w.IntN(3) {
		p += w.pick([]string{" when", " unless"}) + " { " + w.expr(atoms, w.IntN(3)) + " }"
	}
	return p + ";\n"
}

// withoutExceptions leaves out permits whose conditions ask how the item is called: exceptions_test.go has those.
func withoutExceptions(t testing.TB, text string) string {
	t.Helper()
	kept := ""
	for p := range strings.Lines(text) {
		scope, conditions, _ := strings.Cut(p, ")")
		named := strings.Contains(scope, "resource == ") && regexp.MustCompile(`resource (==|in) `).MatchString(conditions)
		if strings.HasPrefix(p, "forbid") || !named && !strings.Contains(conditions, "resource.name") {
			kept += p
		}
	}
	return kept
}

func (w world) policies(atoms []string) string {
	text := ""
	for range 1 + w.IntN(6) {
		text += w.policy(w.pick([]string{"permit", "permit", "forbid"}), atoms)
	}
	return text
}

func (w world) load(t testing.TB, text string) *Set {
	t.Helper()
	s, err := w.try(text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return s
}

func (w world) try(text string) (*Set, error) {
	return Load("vmcp", []string{"b1", "b2"}, gatewayconfig.Policies{
		EntitiesJSON: w.entities, GroupEntityType: "THVGroup",
		Texts: []gatewayconfig.PolicyText{{File: "f", Line: 1, Text: text}},
	})
}

var worldItems = func() (all []Item) {
	yes, no := true, false
	for _, i := range []Item{
		{Backend: "b1", Original: "a", Advertised: "a", ReadOnlyHint: &yes},
		{Backend: "b2", Original: "a", Advertised: "b2_a", OriginalShadowed: true, ReadOnlyHint: &no},
		{Backend: "b1", Original: "b", Advertised: "b1_b"},
		{Backend: "b2", Original: "b", Advertised: "b2_b", ReadOnlyHint: &yes},
		{Backend: "b2", Original: "c", Advertised: "b2_c"},
	} {
		i.Kind = Tool
		all = append(all, i)
	}
	return all
}()

var worldClaims = []map[string]any{
	{"sub": "1", "groups": []string{"g1"}, "a": "x", "n": 4, "email": "e"},
	{"sub": "2", "groups": []string{}, "a": "b1", "b": true},
	{"sub": "3", "groups": []string{"g2", "g3"}, "n": 9, "b": []int{1}},
	{"sub": "4"},
	{"sub": "5"},
	{"sub": "6", "groups": []string{"g1"}, "a": "x", "n": 4},
}

var worldArgs = []string{
	"", `{}`, `{"n": 5}`, `{"n": 2, "o": {"k": "v"}}`, `{"n": 4, "o": {"k": 1}, "s": ["v"]}`, `{"bad": 1.23456}`,
	`{"n": 9, "bad": null}`, `{"n": [1]}`, `{"bad": 1, "n": 5}`, `[]`,
}

func (w world) context() Context {
	return []Context{{}, {netip.MustParseAddr("127.0.0.1"), "modern"}, {netip.MustParseAddr("10.0.0.1"), "legacy"}}[w.IntN(3)]
}

func callers(t testing.TB, s *Set) (all []*Caller) {
	t.Helper()
	for _, claims := range worldClaims {
		raw, _ := json.Marshal(claims)
		c, err := s.NewCaller(raw)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

func prepare(s *Set, items []Item) (all []*Prepared) {
	for _, i := range items {
		all = append(all, s.Prepare(i))
	}
	return all
}

func forWorlds(t *testing.T, n int, f func(t *testing.T, w world)) {
	if testing.Short() {
		n /= 10
	}
	for seed := range n {
		owner := ""
		if seed%2 == 0 {
			owner = `"owner": {"__entity": {"type": "Client", "id": "1"}}`
		}
		w := world{rand.New(rand.NewPCG(uint64(seed), 7)), strings.Replace(worldEntities, "OWNER", owner, 1)}
		f(t, w)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

var allAtoms = slices.Concat(callerAtoms, itemAtoms, requestAtoms, argAtoms)

// wantMany: a test by random policies says little if what it is about has hardly happened.
func wantMany(t *testing.T, got, want int) {
	t.Helper()
	if testing.Short() {
		want /= 50
	}
	if got < want {
		t.Errorf("only %d: the test says little", got)
	}
}
