package policy

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// typedClaims are attributes of the principal under their own name, when the claim is a string.
var typedClaims = []string{"sub", "iss", "client_id", "tid", "oid", "email", "name", "preferred_username"}

// defaultGroupClaims are tried in this order after groupClaimName; the first one present wins, even if empty. Tokens of
// our own have groups alone, whatever the claim is called at the provider.
var defaultGroupClaims = []string{"groups", "roles", "cognito:groups"}

// Caller is a principal prepared for the decisions of one Set: everything that a token fixes. Immutable; build it once
// for each token and Set.
type Caller struct {
	set      *Set
	entity   types.Entity
	groups   []string
	context  types.Record // what of context the token fixes
	verdicts []verdict    // per policy: principal scope, and condition where it depends on the caller alone
	generic  [numKinds][]int32
	unread   map[string]error  // attributes by claims that Cedar cannot hold, with the reason
	broken   map[*policy]error // policies that read one of them: they fail
	view     [sha256.Size]byte
}

// Groups are the groups and roles of the caller, sorted.
func (c *Caller) Groups() []string { return c.groups }

// NewCaller prepares the principal Client::"<sub>" from the verified claims of its token, a JSON object. Groups come
// from groupClaimName (exact name, else a dotted path), else the first present of groups, roles, cognito:groups, and from
// roleClaimName; one that is neither a string nor an array of strings is an error, since dropping it would drop forbids.
// A claim that is null is none, and nor is a null within one. A claim that Cedar cannot hold exactly (1.23456, too deep)
// makes the policies fail that apply to the caller and read it.
func (s *Set) NewCaller(claims []byte) (*Caller, error) {
	var raw map[string]jsontext.Value
	if err := json.Unmarshal(claims, &raw); err != nil {
		return nil, fmt.Errorf("reading token claims: %w", err)
	}
	var sub string
	if err := json.Unmarshal(raw["sub"], &sub); raw["sub"] == nil || err != nil || sub == "" {
		return nil, errors.New("token claims: sub: want a string that is not empty")
	}
	groups, err := s.groups(raw)
	if err != nil {
		return nil, err
	}

	attrs, context := types.RecordMap{}, types.RecordMap{}
	unread := map[string]error{}
	for name, v := range raw {
		if v.Kind() == 'n' {
			continue
		}
		attr := "claim_" + name
		typed := slices.Contains(typedClaims, name) && s.reads.principalAttrs.has(name)
		asAttr := s.reads.principalAttrs.has(attr)
		inContext := s.reads.context || s.reads.contextAttrs.has(attr)
		if !typed && !asAttr && !inContext { // nothing can see it
			continue
		}
		if typed && v.Kind() != '"' {
			unread[name], typed = fmt.Errorf("claim %s: not a string", name), false
		}
		value, err := (&converter{skipNulls: true}).value(v, byValue)
		if err != nil {
			unread[attr] = fmt.Errorf("claim %s: %w", name, err)
			continue
		}
		if typed {
			attrs[types.String(name)] = value
		}
		if asAttr {
			attrs[types.String(attr)] = value
		}
		if inContext {
			context[types.String(attr)] = value
		}
	}
	return s.caller(sub, groups, attrs, context, unread), nil
}

// Anonymous is the caller where no token is asked for: Client::"anonymous" without groups and claims.
func (s *Set) Anonymous() *Caller { return s.caller("anonymous", nil, nil, nil, nil) }

func (s *Set) caller(sub string, groups []string, attrs, context types.RecordMap, unread map[string]error) *Caller {
	uid := types.NewEntityUID(typeClient, types.String(sub))
	parents := make([]types.EntityUID, len(groups))
	for i, g := range groups {
		parents[i] = types.NewEntityUID(types.EntityType(s.config.GroupEntityType), types.String(g))
	}
	c := &Caller{
		set: s, groups: groups, context: types.NewRecord(context), unread: unread,
		verdicts: make([]verdict, len(s.policies)),
		entity: s.merge(types.Entity{
			UID: uid, Parents: types.NewEntityUIDSet(parents...), Attributes: types.NewRecord(attrs),
		}, uid),
	}
	up := map[types.EntityUID]struct{}{}
	s.ancestors(up, c.entity.Parents)
	r := &request{set: s, caller: c}
	for i, p := range s.policies {
		switch {
		case !matches(p.ast.Principal, uid, up): // no
		case p.reads.anyOf(unread) != nil:
			if c.broken == nil {
				c.broken = map[*policy]error{}
			}
			c.verdicts[i], c.broken[p] = failed, p.reads.anyOf(unread)
		case p.cond.policy == nil || p.lead.by == byItem:
			c.verdicts[i] = yes
		case p.lead.by == byCaller:
			c.verdicts[i] = r.begin(p, nil)
		default:
			c.verdicts[i] = open
		}
	}
	for k := range c.generic {
		for _, i := range s.kinds[k].generic {
			if c.verdicts[i] != no {
				c.generic[k] = append(c.generic[k], i)
			}
		}
	}
	c.view = s.callerView(c)
	return c
}

// groups collects group and role names.
func (s *Set) groups(raw map[string]jsontext.Value) ([]string, error) {
	found := names{}
	add := func(claim string, v jsontext.Value) error {
		var one string
		var many []string
		if v == nil || v.Kind() == 'n' {
			return nil
		}
		if v.Kind() == '"' && json.Unmarshal(v, &one) == nil {
			many = []string{one}
		} else if v.Kind() != '[' || json.Unmarshal(v, &many) != nil {
			return fmt.Errorf("token claims: %s: want a string or an array of strings as groups", claim)
		}
		for _, g := range many {
			found.add(g)
		}
		return nil
	}
	claims := defaultGroupClaims
	if name := s.config.GroupClaimName; name != "" {
		claims = slices.Concat([]string{name}, claims)
	}
	for _, name := range claims {
		v := claimAt(raw, name)
		if v == nil || v.Kind() == 'n' {
			if leftOut(raw, name) {
				return nil, fmt.Errorf("token claims: %s: more groups than the issuer puts into a token (overage): assign app roles instead", name)
			}
			continue
		}
		if err := add(name, v); err != nil {
			return nil, err
		}
		break
	}
	if name := s.config.RoleClaimName; name != "" {
		if leftOut(raw, name) {
			return nil, fmt.Errorf("token claims: %s: more roles than the issuer puts into a token (overage)", name)
		}
		if err := add(name, claimAt(raw, name)); err != nil {
			return nil, err
		}
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// leftOut reports whether the issuer says that a claim exists and is not in the token: OpenID Connect Core 5.6.2, and
// Entra's hasgroups. A forbid on a group would not know of it.
func leftOut(raw map[string]jsontext.Value, name string) bool {
	var elsewhere map[string]jsontext.Value
	if json.Unmarshal(raw["_claim_names"], &elsewhere) == nil && elsewhere[name] != nil {
		return true
	}
	return name == "groups" && string(raw["hasgroups"]) == "true"
}

// claimAt finds a claim by its exact name, else by a dotted path such as realm_access.roles.
func claimAt(raw map[string]jsontext.Value, name string) jsontext.Value {
	if v, ok := raw[name]; ok {
		return v
	}
	first, rest, ok := strings.Cut(name, ".")
	if !ok || raw[first].Kind() != '{' {
		return nil
	}
	var inner map[string]jsontext.Value
	if json.Unmarshal(raw[first], &inner) != nil {
		return nil
	}
	return claimAt(inner, rest)
}

// Context is what a decision may take into account besides caller, item and arguments.
type Context struct {
	ClientIP netip.Addr // context.client_ip (ipaddr) and client_ip_string; absent if not valid
	Era      string     // context.protocol_era; absent if empty
}

// callerView hashes what policies can see of a caller.
func (s *Set) callerView(c *Caller) [sha256.Size]byte {
	h := sha256.New()
	id := ""
	if _, static := s.static[c.entity.UID]; static || s.reads.principalID {
		id = "id " + string(c.entity.UID.ID)
	}
	digestStrings(h, s.revision, id)
	digestStrings(h, c.groups...)
	digestStrings(h, slices.Sorted(maps.Keys(c.unread))...)
	for _, r := range []types.Record{c.entity.Attributes, c.context} {
		var parts []string
		for _, k := range slices.Sorted(r.Keys()) {
			v, _ := r.Get(k)
			parts = append(parts, string(k), string(v.MarshalCedar()))
		}
		digestStrings(h, parts...)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// ViewKey is a hash of everything of caller and context that decisions of this set can depend on: two callers with one
// key see the same lists. It includes the revision.
func (s *Set) ViewKey(c *Caller, ctx Context) [sha256.Size]byte {
	if !s.reads.ip && !s.reads.era && !s.reads.context {
		return c.view
	}
	h := sha256.New()
	h.Write(c.view[:])
	var ip, era string
	if s.reads.ip || s.reads.context {
		ip = ctx.clientIP()
	}
	if s.reads.era || s.reads.context {
		era = ctx.Era
	}
	digestStrings(h, ip, era)
	return [sha256.Size]byte(h.Sum(nil))
}

// clientIP is the address without zone, an IPv4 one as such, which is how policies write it.
func (ctx Context) clientIP() string {
	if !ctx.ClientIP.IsValid() {
		return ""
	}
	return ctx.ClientIP.Unmap().WithZone("").String()
}
