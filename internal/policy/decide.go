package policy

import (
	"errors"
	"slices"

	"github.com/cedar-policy/cedar-go/types"
)

// Action is Action::"<id>" in policies.
type Action string

// Families are the actions that any caller may do unless a forbid says otherwise.
var Families = []Action{
	"list_tools", "list_prompts", "list_resources", "subscribe", "complete", "initialize", "ping", "discover",
	"set_level", "notify", "respond", "open_stream", "end_session",
}

func actionUID(a Action) types.EntityUID { return types.NewEntityUID(typeAction, types.String(a)) }

// Reasons of a Decision.
const (
	Permitted = "permitted" // by Decision.Policies; by none for a family
	Forbidden = "forbidden" // by Decision.Policies
	NoPermit  = "no_permit" // nothing permits it
	Failed    = "error"     // evaluating Decision.Policies failed
)

// Decision is the answer and what decided it. The zero Decision denies.
type Decision struct {
	Allow    bool
	Policies []string // ids, in configured order
	Reason   string
	Err      error // what failed, for logs; may quote policy and claim values, so not for clients
}

var errForeign = errors.New("caller or item of another policy set")

// Decide answers whether caller may call, get or read item. args are the arguments, a JSON object or nil; they are
// parsed only if a policy that may apply reads them, and one that Cedar cannot hold exactly, or that is not of its declared
// type, then denies.
func (s *Set) Decide(c *Caller, p *Prepared, args []byte, ctx Context) Decision {
	if c == nil || p == nil || c.set != s || p.set != s {
		return Decision{Reason: Failed, Err: errForeign}
	}
	r := request{set: s, caller: c, item: p, ctx: ctx, args: args}
	var t tally
	r.each(func(pol *policy, original, advertised outcome) bool {
		t.add(pol, p, original, advertised)
		return true
	})
	return t.decision(r.err)
}

// Permitted gives the indexes of the items that caller may call with some arguments, in ascending order.
func (s *Set) Permitted(c *Caller, items []*Prepared, ctx Context) []uint32 {
	if c == nil || c.set != s {
		return nil
	}
	r := request{set: s, caller: c, ctx: ctx, listing: true}
	var listed []uint32
	for i, p := range items {
		if p == nil || p.set != s {
			continue
		}
		r.item = p
		permit := false
		denied := !r.each(func(pol *policy, original, advertised outcome) bool {
			if !pol.permit && (original&canBeFalse == 0 || advertised&canBeFalse == 0) ||
				original == canFail || advertised == canFail {
				return false
			}
			permit = permit || pol.permit && pol.counts(p, original, advertised)
			return true
		})
		if permit && !denied {
			listed = append(listed, uint32(i))
		}
	}
	return listed
}

// Family answers whether caller may do what needs no permit, such as initialize: unless a forbid on that action, or on
// every action, matches with the virtual server as resource, or fails.
func (s *Set) Family(c *Caller, action Action, ctx Context) Decision {
	if c == nil || c.set != s {
		return Decision{Reason: Failed, Err: errForeign}
	}
	if !slices.Contains(Families, action) {
		return Decision{Reason: NoPermit}
	}
	server := s.entities[s.server]
	r := request{set: s, caller: c, ctx: ctx, family: action}
	var t tally
	for _, i := range s.families[action] {
		pol, v := s.policies[i], c.verdicts[i]
		if v == yes && pol.lead.by == byItem {
			v = open
		}
		o := r.settle(pol, v, &server)
		t.add(pol, nil, o, o)
	}
	if t.forbids == nil && t.failures == nil {
		return Decision{Allow: true, Reason: Permitted}
	}
	return t.decision(r.err)
}

// tally collects what policies say about one request.
type tally struct{ permits, forbids, failures []string }

func (t *tally) add(pol *policy, p *Prepared, original, advertised outcome) {
	if (original|advertised)&canFail != 0 {
		t.failures = append(t.failures, pol.id)
	}
	switch {
	case !pol.permit && (original|advertised)&canBeTrue != 0:
		t.forbids = append(t.forbids, pol.id)
	case pol.permit && pol.counts(p, original, advertised):
		t.permits = append(t.permits, pol.id)
	}
}

// counts says whether a permit that matches under these names allows item p.
func (pol *policy) counts(p *Prepared, original, advertised outcome) bool {
	adv, orig := advertised&canBeTrue != 0, original&canBeTrue != 0
	return adv && orig || pol.named && (adv || orig && !p.Item.OriginalShadowed)
}

func (t *tally) decision(err error) Decision {
	switch {
	case t.forbids != nil:
		return Decision{Policies: t.forbids, Reason: Forbidden, Err: err}
	case t.failures != nil:
		return Decision{Policies: t.failures, Reason: Failed, Err: err}
	case t.permits != nil:
		return Decision{Allow: true, Policies: t.permits, Reason: Permitted}
	}
	return Decision{Reason: NoPermit}
}
