package policy

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

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
	wantMany(t, listed, 400)
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
	wantMany(t, shared, 400)
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
	wantMany(t, allowed, 200)
}
