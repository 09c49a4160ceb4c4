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
			item.Args = map[string][]string{"n": {"integer"}, "o": {"object"}, "s": {"array"}, "bad": {"boolean", "null"}}
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
