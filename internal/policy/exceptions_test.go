package policy

import (
	"slices"
	"testing"
)

// Atoms that ask how an item is called. The second kind is no plain statement of a name, so it holds under both.
var (
	calledAtoms = []string{
		`resource.name == "a"`, `"b" == resource.name`, `resource.name like "b2_*"`, `["a", "b1_b"].contains(resource.name)`,
		`resource.name == "b2_c"`, `resource.name == resource.original_name`,
	}
	whichAtoms = []string{`resource == Tool::"a"`, `Tool::"b1_b" == resource`, `resource in [Tool::"c", Tool::"b2_b"]`}
	oddAtoms   = []string{
		`(resource.name == "b") == true`, `[resource.name].containsAny(["b2_c", "b"])`, `(if resource.name == "c" then 1 else 2) == 1`,
		`{"n": resource.name}.n == "a"`, `[resource].contains(Tool::"c")`,
	}
)

// plain joins atoms by && and ||, without a negation.
func (w world) plain(atoms []string, depth int) string {
	if depth == 0 || w.IntN(3) == 0 {
		return w.pick(atoms)
	}
	return "(" + w.plain(atoms, depth-1) + w.pick([]string{" && ", " || ", " || "}) + w.plain(atoms, depth-1) + ")"
}

// TestExceptionsOfPermits: what a permit asks for is true of the advertised name; what it excepts is true of neither.
func TestExceptionsOfPermits(t *testing.T) {
	saved, excepted := 0, 0
	forWorlds(t, 1500, func(t *testing.T, w world) {
		w.entities = "[]"
		scope := w.pick([]string{"resource", "resource", `resource == Tool::"a"`, `resource == Tool::"b"`, `resource == Tool::"b2_c"`})
		asked := w.plain(calledAtoms, 1)
		exception := w.plain(slices.Concat(calledAtoms, whichAtoms, oddAtoms), 2)
		name := w.plain(calledAtoms, 1)
		forms := []struct {
			conditions string
			want       func(adv, orig func(cond string) bool) bool
		}{
			{`unless { ` + exception + ` }`, func(adv, orig func(string) bool) bool { return !adv(exception) && !orig(exception) }},
			{`when { !` + "(" + exception + `) }`, func(adv, orig func(string) bool) bool { return !adv(exception) && !orig(exception) }},
			{`when { ` + asked + ` } unless { ` + exception + ` }`, func(adv, orig func(string) bool) bool {
				return adv(asked) && !adv(exception) && !orig(exception)
			}},
			{`when { ` + asked + ` || !(` + exception + `) }`, func(adv, orig func(string) bool) bool {
				return adv(asked) || !adv(exception) && !orig(exception)
			}},
			{`unless { !(` + asked + `) }`, func(adv, _ func(string) bool) bool { return adv(asked) }},
			{`when { ` + asked + ` }`, func(adv, _ func(string) bool) bool { return adv(asked) }},
			{`when { resource.name != "b" && !("a" != resource.name) }`, func(adv, orig func(string) bool) bool {
				return !adv(`resource.name == "b"`) && !orig(`resource.name == "b"`) && adv(`resource.name == "a"`)
			}},
			{`when { if ` + name + ` then ` + asked + ` else true }`, func(adv, orig func(string) bool) bool {
				return adv(asked) || !adv(name) && !orig(name)
			}},
			{`unless { if ` + name + ` then ` + asked + ` else false }`, func(adv, orig func(string) bool) bool {
				return !(adv(name) && adv(asked) || (adv(name) || orig(name)) && orig(asked))
			}},
			{`when { if ` + name + ` then ` + asked + ` else false }`, func(adv, orig func(string) bool) bool {
				return adv(name) && adv(asked)
			}},
		}
		form := forms[w.IntN(len(forms))]
		s := w.load(t, `permit(principal, action, `+scope+`) `+form.conditions+`;`)
		for _, item := range worldItems {
			item.OriginalShadowed = false
			called := func(name string) func(cond string) bool {
				return func(cond string) bool {
					one := w.load(t, `permit(principal, action, resource) when { `+cond+` };`)
					alone := item
					alone.Advertised = name
					p := one.Prepare(alone)
					p.original, p.forbidden, p.oneName = p.advertised, p.advertised, true
					return one.Decide(one.Anonymous(), p, nil, Context{}).Allow
				}
			}
			inScope := w.load(t, `permit(principal, action, `+scope+`);`)
			want := inScope.Decide(inScope.Anonymous(), inScope.Prepare(item), nil, Context{}).Allow &&
				form.want(called(item.Advertised), called(item.Original))
			p := s.Prepare(item)
			got := s.Decide(s.Anonymous(), p, nil, Context{})
			if got.Allow != want {
				t.Errorf("got %+v, want %v\nresource %s, %s\n%+v", got, want, scope, form.conditions, item)
			}
			if listed := len(s.Permitted(s.Anonymous(), []*Prepared{p}, Context{})) > 0; listed != got.Allow {
				t.Errorf("allowed %v, listed %v: %s", got.Allow, listed, form.conditions)
			}
			if got.Allow {
				saved++
			} else {
				excepted++
			}
		}
	})
	wantMany(t, saved, 500)
	wantMany(t, excepted, 500)
}
