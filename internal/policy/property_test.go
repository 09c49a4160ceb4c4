package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/google/go-cmp/cmp"

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

// naive decides with whole policies, whole contexts and all entities, by the words of the package comment.
func (w world) naive(t testing.TB, text string, claims map[string]any, item Item, args string, ctx Context) (allow bool) {
	t.Helper()
	list, err := cedar.NewPolicyListFromBytes("f", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var static types.EntityMap
	if err := json.Unmarshal([]byte(w.entities), &static); err != nil {
		t.Fatal(err)
	}
	value := func(v any) types.Value {
		raw, _ := json.Marshal(v)
		val, err := (&converter{}).value(raw, byValue)
		if err != nil {
			return nil
		}
		return val
	}
	uid := func(typ, id string) types.EntityUID {
		return types.NewEntityUID(types.EntityType(typ), types.String(id))
	}
	union := func(e types.Entity, from ...types.EntityUID) types.Entity {
		parents := slices.Collect(e.Parents.All())
		attrs := e.Attributes.Map()
		for _, u := range from {
			parents = slices.AppendSeq(parents, static[u].Parents.All())
			for k, v := range static[u].Attributes.All() {
				if _, ok := attrs[k]; !ok {
					if attrs == nil {
						attrs = types.RecordMap{}
					}
					attrs[k] = v
				}
			}
		}
		return types.Entity{UID: e.UID, Parents: types.NewEntityUIDSet(parents...), Attributes: types.NewRecord(attrs)}
	}

	me := uid("Client", claims["sub"].(string))
	principal := types.Entity{UID: me}
	attrs, context := types.RecordMap{}, types.RecordMap{}
	for k, v := range claims {
		attrs[types.String("claim_"+k)], context[types.String("claim_"+k)] = value(v), value(v)
	}
	for _, k := range []string{"sub", "email"} {
		if v, ok := claims[k]; ok {
			attrs[types.String(k)] = value(v)
		}
	}
	var groups []types.EntityUID
	if g, ok := claims["groups"].([]string); ok {
		for _, g := range g {
			groups = append(groups, uid("THVGroup", g))
		}
	}
	principal.Attributes, principal.Parents = types.NewRecord(attrs), types.NewEntityUIDSet(groups...)

	if ctx.Era != "" {
		context["protocol_era"] = types.String(ctx.Era)
		ip, _ := types.ParseIPAddr(ctx.ClientIP.String())
		context["client_ip"], context["client_ip_string"] = ip, types.String(ctx.ClientIP.String())
	}
	var arguments map[string]any
	broken := args != "" && json.Unmarshal([]byte(args), &arguments) != nil
	members, scalars := types.RecordMap{}, types.RecordMap{}
	bad := map[string]bool{}
	for k, v := range arguments {
		switch val := value(v).(type) {
		case nil:
			bad[k] = true
		case types.Set, types.Record:
			members[types.String(k)] = val
		default:
			members[types.String(k)], scalars[types.String("arg_"+k)] = val, val
		}
	}
	context["args"] = types.NewRecord(members)
	maps.Copy(context, scalars)

	under := func(p *cedar.Policy, name string, forbid bool) (match bool, err error) {
		entities := types.EntityMap{}
		maps.Copy(entities, static)
		entities[me] = union(principal, me)
		vmcp := uid("MCP", "vmcp")
		entities[vmcp] = types.Entity{UID: vmcp}
		for _, b := range []string{"b1", "b2"} {
			entities[uid("MCP", b)] = union(types.Entity{UID: uid("MCP", b), Parents: types.NewEntityUIDSet(vmcp)}, uid("MCP", b))
		}
		called := item.Advertised
		if forbid {
			called = name
		}
		a := types.RecordMap{"name": types.String(called), "backend": types.String(item.Backend)}
		if item.ReadOnlyHint != nil {
			a["readOnlyHint"] = types.Boolean(*item.ReadOnlyHint)
		}
		maps.Copy(a, scalars)
		from := []types.EntityUID{uid("Tool", name)}
		if name == item.Original || !item.OriginalShadowed {
			from = append(from, uid("Tool", item.Advertised), uid("Tool", item.Original))
		}
		res := uid("Tool", name)
		entities[res] = union(types.Entity{UID: res, Parents: types.NewEntityUIDSet(uid("MCP", item.Backend)), Attributes: types.NewRecord(a)}, from...)
		req := types.Request{Principal: me, Action: uid("Action", "call_tool"), Resource: res, Context: types.NewRecord(context)}

		source := string(p.MarshalCedar())
		scope := source[:strings.Index(source, ")")] + ");"
		scope = strings.Replace(scope, "forbid", "permit", 1)
		var scopeOnly cedar.Policy
		if err := scopeOnly.UnmarshalCedar([]byte(scope)); err != nil {
			t.Fatal(err, scope)
		}
		inScope, _ := cedar.Authorize(cedar.PolicyMap{"p": &scopeOnly}, entities, req)
		if inScope {
			whole := strings.Contains(source, "context.args ==") || strings.Contains(source, "context == ")
			if broken && (strings.Contains(source, "arg") || whole) {
				return false, errors.New("broken")
			}
			if bad["bad"] && (strings.Contains(source, "bad") || whole) {
				return false, errors.New("bad")
			}
			if members["n"] != nil && scalars["arg_n"] == nil && strings.Contains(source, "arg_n") {
				return false, errors.New("not scalar")
			}
		}
		_, diag := cedar.Authorize(cedar.PolicyMap{"p": p}, entities, req)
		if len(diag.Errors) > 0 {
			return false, errors.New(diag.Errors[0].Message)
		}
		return len(diag.Reasons) > 0, nil
	}

	for _, p := range list {
		forbid := !bool(p.Effect())
		orig, err1 := under(p, item.Original, forbid)
		adv, err2 := under(p, item.Advertised, forbid)
		if err1 != nil || err2 != nil || forbid && (orig || adv) {
			return false
		}
		scope, _, _ := strings.Cut(string(p.MarshalCedar()), ")")
		named := strings.Contains(scope, "resource == Tool")
		if !forbid && (orig && adv || named && (adv || orig && !item.OriginalShadowed)) {
			allow = true
		}
	}
	return allow
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

// TestDecideIsCedar: scope matching, evaluating beforehand and reading less change no decision.
func TestDecideIsCedar(t *testing.T) {
	allowed := 0
	forWorlds(t, 600, func(t *testing.T, w world) {
		text := withoutExceptions(t, w.policies(allAtoms))
		s := w.load(t, text)
		cs, items := callers(t, s), prepare(s, worldItems)
		for range 10 {
			c, i, args, ctx := w.IntN(len(cs)), w.IntN(len(items)), w.pick(worldArgs), w.context()
			got := s.Decide(cs[c], items[i], []byte(args), ctx)
			if want := w.naive(t, text, worldClaims[c], worldItems[i], args, ctx); got.Allow != want {
				t.Errorf("got %+v, want %v\n%s%v %+v %s %v", got, want, text, worldClaims[c], worldItems[i], args, ctx)
			}
			if got.Allow {
				allowed++
			}
		}
	})
	if allowed < 200 {
		t.Errorf("only %d requests were allowed: the test says little", allowed)
	}
}

// TestListedIffCallable: without conditions on arguments exactly, with them whatever some arguments allow.
func TestListedIffCallable(t *testing.T) {
	listed := 0
	forWorlds(t, 600, func(t *testing.T, w world) {
		atoms, exact := allAtoms, w.IntN(2) == 0
		if exact {
			atoms = slices.Concat(callerAtoms, itemAtoms, requestAtoms)
		}
		text := w.policies(atoms)
		s := w.load(t, text)
		items, ctx := prepare(s, worldItems), w.context()
		for c, caller := range callers(t, s) {
			got := s.Permitted(caller, items, ctx)
			listed += len(got)
			for i, item := range items {
				inList := slices.Contains(got, uint32(i))
				callable := false
				for _, args := range worldArgs {
					callable = callable || s.Decide(caller, item, []byte(args), ctx).Allow
				}
				if callable && !inList || exact && inList && !callable {
					t.Errorf("listed %v, callable %v\n%s%v %+v %v", inList, callable, text, worldClaims[c], item.Item, ctx)
				}
			}
		}
	})
	if listed < 400 {
		t.Errorf("only %d items were listed: the test says little", listed)
	}
}

// TestViewKey: callers and contexts with one key see the same lists and may do the same.
func TestViewKey(t *testing.T) {
	shared := 0
	forWorlds(t, 600, func(t *testing.T, w world) {
		text := w.policies(allAtoms)
		s := w.load(t, text)
		items := prepare(s, worldItems)
		seen := map[[32]byte][]uint32{}
		for c, caller := range callers(t, s) {
			for range 3 {
				ctx := w.context()
				key, list := s.ViewKey(caller, ctx), s.Permitted(caller, items, ctx)
				first, ok := seen[key]
				if ok {
					shared++
					if d := cmp.Diff(first, list); d != "" {
						t.Errorf("one key, two lists: %s\n%s%v %v", d, text, worldClaims[c], ctx)
					}
				}
				seen[key] = list
			}
		}
	})
	if shared < 400 {
		t.Errorf("only %d keys were shared: the test says little", shared)
	}
}

// TestForbidNeverAdds: a further forbid gives nobody access to anything.
func TestForbidNeverAdds(t *testing.T) {
	forWorlds(t, 300, func(t *testing.T, w world) {
		text := w.policies(allAtoms)
		more := text + w.policy("forbid", allAtoms)
		s, s2 := w.load(t, text), w.load(t, more)
		items, items2, ctx := prepare(s, worldItems), prepare(s2, worldItems), w.context()
		cs2 := callers(t, s2)
		for c, caller := range callers(t, s) {
			for _, n := range s2.Permitted(cs2[c], items2, ctx) {
				if !slices.Contains(s.Permitted(caller, items, ctx), n) {
					t.Errorf("listed only with the last forbid: %+v\n%s", items[n].Item, more)
				}
			}
			for i := range items {
				args := []byte(w.pick(worldArgs))
				if s2.Decide(cs2[c], items2[i], args, ctx).Allow && !s.Decide(caller, items[i], args, ctx).Allow {
					t.Errorf("allowed only with the last forbid: %+v\n%s", items[i].Item, more)
				}
			}
			for _, a := range Families {
				if s2.Family(cs2[c], a, ctx).Allow && !s.Family(caller, a, ctx).Allow {
					t.Errorf("%s only with the last forbid\n%s", a, more)
				}
			}
		}
	})
}

// TestShadowedOriginalServesNoPermit: what is allowed is allowed to the advertised name on its own.
func TestShadowedOriginalServesNoPermit(t *testing.T) {
	allowed := 0
	forWorlds(t, 600, func(t *testing.T, w world) {
		text := w.policies(allAtoms)
		s := w.load(t, text)
		ctx := w.context()
		for _, i := range worldItems {
			i.OriginalShadowed = i.Original != i.Advertised
			alone := i
			alone.Original, alone.OriginalShadowed = i.Advertised, false
			p, q := s.Prepare(i), s.Prepare(alone)
			for _, c := range callers(t, s) {
				args := []byte(w.pick(worldArgs))
				if s.Decide(c, p, args, ctx).Allow {
					allowed++
					if !s.Decide(c, q, args, ctx).Allow {
						t.Errorf("%+v is allowed by its original name\n%s", i, text)
					}
				}
			}
		}
	})
	if allowed < 200 {
		t.Errorf("only %d requests were allowed: the test says little", allowed)
	}
}

// TestFamilyIsCedar: a family action is denied exactly by forbids that cedar-go matches, or fails to evaluate, on the
// virtual server.
func TestFamilyIsCedar(t *testing.T) {
	forWorlds(t, 600, func(t *testing.T, w world) {
		text := w.policy("forbid", w.pickAtoms()) + w.policy("forbid", w.pickAtoms()) + w.policy("permit", allAtoms)
		s := w.load(t, text)
		list, err := cedar.NewPolicyListFromBytes("f", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range callers(t, s) {
			ctx := w.context()
			r := request{set: s, caller: c, ctx: ctx}
			context := r.fullContext().Map()
			context["args"] = types.Record{}
			for k, v := range worldClaims[i] {
				raw, _ := json.Marshal(v)
				val, _ := (&converter{}).value(raw, byValue)
				context[types.String("claim_"+k)] = val
			}
			server := s.entities[s.server]
			for _, a := range Families {
				want := true
				for _, p := range list {
					if p.Effect() == cedar.Permit {
						continue
					}
					_, diag := cedar.Authorize(cedar.PolicyMap{"p": p}, &view{&c.entity, &server, s.entities}, types.Request{
						Principal: c.entity.UID, Action: actionUID(a), Resource: s.server, Context: types.NewRecord(context),
					})
					want = want && len(diag.Errors) == 0 && len(diag.Reasons) == 0
				}
				if got := s.Family(c, a, ctx); got.Allow != want {
					t.Errorf("%s: got %+v, want %v\n%s%v", a, got, want, text, worldClaims[i])
				}
			}
		}
	})
}

func Example() {
	s, err := Load("tools", []string{"kubernetes"}, gatewayconfig.Policies{Texts: []gatewayconfig.PolicyText{{
		File: "gateway.yaml", Line: 80,
		Text: `permit(principal in THVGroup::"developers", action, resource)
			unless { resource == Tool::"delete_namespace" };`,
	}}})
	if err != nil {
		panic(err)
	}
	ann, err := s.NewCaller([]byte(`{"sub": "ann", "groups": ["developers"]}`))
	if err != nil {
		panic(err)
	}
	for _, name := range []string{"list_pods", "delete_namespace"} {
		item := s.Prepare(Item{Kind: Tool, Backend: "kubernetes", Original: name, Advertised: "kubernetes_" + name})
		d := s.Decide(ann, item, nil, Context{})
		fmt.Println(name, d.Reason, d.Policies)
	}
	// Output:
	// list_pods permitted [gateway.yaml:1]
	// delete_namespace no_permit []
}
