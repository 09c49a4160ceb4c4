package policy

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
)

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
	wantMany(t, allowed, 200)
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
