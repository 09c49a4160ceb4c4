package policy

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
)

// TestUnreadableArgumentsDecideNothing: what is allowed with an argument that is not of its type, or that Cedar cannot
// hold, is allowed with any other value of it too, and without it.
func TestUnreadableArgumentsDecideNothing(t *testing.T) {
	allowed, denied := 0, 0
	forWorlds(t, 400, func(t *testing.T, w world) {
		text := w.policies(allAtoms)
		s := w.load(t, text)
		ctx := w.context()
		for _, item := range worldItems {
			item.Args = typed(map[string][]string{"n": {"integer"}, "o": {"object"}, "s": {"array"}, "bad": {"boolean", "null"}})
			p := s.Prepare(item)
			for _, c := range callers(t, s) {
				name := w.pick([]string{"n", "o", "s", "bad"})
				call := func(value string) bool {
					args := strings.Replace(`{"n": 5, "o": {"k": "v"}, "s": ["v"], "bad": true}`, `"`+name+`":`, value, 1)
					return s.Decide(c, p, []byte(args), ctx).Allow
				}
				with := func(value string) bool { return call(`"` + name + `": ` + value + `, "unread":`) }
				if !with(`"5"`) {
					denied++
					continue
				}
				allowed++
				for _, other := range []string{"1", "5", "true", "null", `{"k": "v"}`, `[]`, `["v"]`, "1e999"} {
					if !with(other) {
						t.Errorf("%s of another type is allowed, %s is not\n%s%+v", name, other, text, item)
					}
				}
				if !call(`"unread":`) {
					t.Errorf("%s of another type is allowed, nothing is not\n%s%+v", name, text, item)
				}
			}
		}
	})
	wantMany(t, allowed, 200)
	wantMany(t, denied, 200)
}

// TestUnreadableClaimsDecideNothing: what is allowed, or listed, with a claim that Cedar cannot hold is so with any other
// value of it too, and without it. A claim that no policy reads changes nothing.
func TestUnreadableClaimsDecideNothing(t *testing.T) {
	allowed, denied := 0, 0
	forWorlds(t, 400, func(t *testing.T, w world) {
		text := w.policies(allAtoms)
		s := w.load(t, text)
		items, ctx, args := prepare(s, worldItems), w.context(), []byte(w.pick(worldArgs))
		name := w.pick([]string{"a", "b", "n", "email"})
		may := func(claims map[string]any, value any) ([]bool, [32]byte) {
			all := maps.Clone(claims)
			if all[name] = value; value == nil {
				delete(all, name)
			}
			raw, _ := json.Marshal(all)
			c, err := s.NewCaller(raw)
			if err != nil {
				t.Fatal(err)
			}
			var can []bool
			listed := s.Permitted(c, items, ctx)
			for i, item := range items {
				can = append(can, s.Decide(c, item, args, ctx).Allow, slices.Contains(listed, uint32(i)))
			}
			for _, a := range Families {
				can = append(can, s.Family(c, a, ctx).Allow)
			}
			return can, s.ViewKey(c, ctx)
		}
		read := s.reads.anyOf(map[string]error{name: errNotExact, "claim_" + name: errNotExact}) != nil
		for _, claims := range worldClaims {
			with, key := may(claims, map[string]any{"x": 1e-9})
			for _, other := range []any{nil, "x", "b1", 4, true, []int{1}} {
				without, otherKey := may(claims, other)
				if key == otherKey && !slices.Equal(with, without) {
					t.Errorf("one view key, but %v and %v\n%s%v", with, without, text, claims)
				}
				for i, can := range without {
					switch {
					case with[i]:
						allowed++
					case can:
						denied++
					}
					if with[i] && !can || !read && with[i] != can {
						t.Errorf("%s that Cedar cannot hold: %v, with %v: %v\n%s%v", name, with[i], other, can, text, claims)
					}
				}
			}
		}
	})
	wantMany(t, allowed, 1000)
	wantMany(t, denied, 1000)
}

// TestOtherTypesDecideNothing: what is allowed with a value of another type than declared, wherever it is, is allowed with
// any value of its type, and without it.
func TestOtherTypesDecideNothing(t *testing.T) {
	atoms := append([]string{
		`context.args.o has k`, `context.args has o && context.args.o.k == "v"`, `context.args.o.k == 5`, `context.args.o.in.k like "v*"`,
		`context.args.o == {"k": "v"}`, `{"in": context.args.o}.in.k == true`, `(if context has arg_n then context.args.o else context.args.l).k == "v"`,
		`context.args.o has in && context.args.o.in has k`, `context.args.s.containsAny(["v", 5])`, `context.args.l.contains({"k": true})`,
		`[{"k": "v"}].contains(context.args.o.in)`, `context.args.o.in.isEmpty()`, `context.args.o.other`, `context.args.p == context.args.o`,
		`{"k": context.args} == {"k": {"o": {"k": 5}}}`, `context.args has p`, `context.args.o.k.lessThan(decimal("3.0"))`,
	}, argAtoms...)
	places := []struct{ path, with, without string }{
		{"n", `{"n": X, "o": {"k": "v"}}`, `{"o": {"k": "v"}}`},
		{"*", `{"p": X}`, `{}`},
		{"o.k", `{"n": 5, "o": {"k": X, "u": 5}}`, `{"n": 5, "o": {"u": 5}}`},
		{"o.in", `{"o": {"k": "v", "in": X}}`, `{"o": {"k": "v"}}`},
		{"o.in.k", `{"o": {"in": {"k": X}}}`, `{"o": {"in": {}}}`},
		{"o.*", `{"o": {"other": X}, "s": ["v"]}`, `{"o": {}, "s": ["v"]}`},
		{"s.[]", `{"s": ["v", X]}`, `{"s": ["v"]}`},
		{"l.[].k", `{"l": [{"u": 1}, {"k": X}]}`, `{"l": [{"u": 1}, {}]}`},
	}
	values := map[string][]string{
		"string": {`"v"`, `"5"`, `"true"`}, "boolean": {"true", "false"}, "integer": {"5", "4"}, "number": {"1.5", "2.5"},
		"object": {`{"k": "v"}`, `{}`}, "array": {`["v"]`, `[]`},
	}
	allowed, denied := 0, 0
	forWorlds(t, 400, func(t *testing.T, w world) {
		text := "permit(principal, action, resource);\n" + w.policies(atoms)
		s := w.load(t, text)
		ctx := w.context()
		for _, place := range places {
			declared := w.pick([]string{"string", "boolean", "integer", "number", "object", "array"})
			schema := &Schema{Types: []string{declared}}
			steps := strings.Split(place.path, ".")
			for _, step := range slices.Backward(steps) {
				switch step {
				case "*":
					schema = &Schema{Additional: schema}
				case "[]":
					schema = &Schema{Items: schema}
				default:
					schema = &Schema{Properties: map[string]*Schema{step: schema}}
				}
			}
			item := worldItems[w.IntN(len(worldItems))]
			item.Args = schema
			p := s.Prepare(item)
			for _, c := range callers(t, s) {
				may := func(args string) bool { return s.Decide(c, p, []byte(args), ctx).Allow }
				for kind, wrong := range values {
					if kind == declared || kind == "integer" && declared == "number" {
						continue
					}
					for _, v := range wrong {
						args := strings.Replace(place.with, "X", v, 1)
						if !may(args) {
							denied++
							continue
						}
						allowed++
						for _, right := range values[declared] {
							if other := strings.Replace(place.with, "X", right, 1); !may(other) {
								t.Errorf("%s, not %s by %s, is allowed, %s is not\n%s%+v", args, declared, place.path, other, text, item)
							}
						}
						if !may(place.without) {
							t.Errorf("%s, not %s by %s, is allowed, %s is not\n%s%+v", args, declared, place.path, place.without, text, item)
						}
					}
				}
			}
		}
	})
	wantMany(t, allowed, 10_000)
	wantMany(t, denied, 10_000)
}

// TestValueBounds: what a caller sends becomes so many Cedar values and no more.
func TestValueBounds(t *testing.T) {
	array := func(n int, element string) string {
		return "[" + strings.TrimSuffix(strings.Repeat(element+",", n), ",") + "]"
	}
	full := array(maxElements, "0")
	for _, tt := range []struct {
		name, text string
		ok         bool
	}{
		{"elements", full, true},
		{"one element more", array(maxElements+1, "0"), false},
		{"values", "[" + strings.Repeat(full+",", 4) + array(maxValues-4*maxElements-6, "0") + "]", true},
		{"one value more", "[" + strings.Repeat(full+",", 4) + array(maxValues-4*maxElements-5, "0") + "]", false},
		{"depth", strings.Repeat("[", maxDepth) + "0" + strings.Repeat("]", maxDepth), true},
		{"one level more", strings.Repeat("[", maxDepth+1) + "0" + strings.Repeat("]", maxDepth+1), false},
	} {
		if _, err := (&converter{}).value([]byte(tt.text), byValue); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}
