package policy

import (
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
	if allowed < 200 || denied < 200 {
		t.Errorf("%d allowed and %d denied: the test says little", allowed, denied)
	}
}
