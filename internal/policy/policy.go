// Package policy decides with Cedar who may see and use which tool, prompt and resource.
//
// It owns loading the policies of a VirtualMCPServer, the entities of callers and items, the decision and what decided
// it. It leaves to others where the texts come from (gatewayconfig), whether a token is genuine (token), what a request
// asks for (mcpwire), and what a client is told (extauthz). It is pure: no I/O, no goroutines, no clock.
//
// # Two names
//
// An item has the name its backend gave it and the name the gateway advertises. Every policy is evaluated under both. A
// forbid or an evaluation error under either denies. A permit counts if it matches under both, or if its scope says
// resource == … and it matches under one. An original name that another item advertises (Item.OriginalShadowed) never
// serves a permit. Static entities (entitiesJson) of either name apply under both, those of a shadowed original only to
// the original. resource.name is the advertised name, except that a forbid evaluated under the original name finds the
// original name there, so that it bites however it is written. The exceptions of a permit (unless, !, !=, the condition
// of an if) are like a forbid: one that holds under either name takes the item out, by resource.name and by resource.
//
// # How it is fast
//
// cedar-go evaluates every policy of a set for every request. Here the scope of a policy is matched beforehand: its
// principal once per Caller, its resource once per Prepared item. The first conjuncts of its conditions are evaluated
// there too, as far as they depend on the caller alone or on the item alone. What remains open at Decide is what reads
// the request (arguments, client address, era) or caller and item together, and cedar-go evaluates that, one policy at a
// time. Only first conjuncts, because a later one must not hide that an earlier one fails.
package policy

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"

	"github.com/cedar-policy/cedar-go"
	cedarast "github.com/cedar-policy/cedar-go/ast"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"vmcp/internal/gatewayconfig"
)

// Set is an immutable snapshot of the policies and static entities of one VirtualMCPServer. The empty set denies all
// items. Safe for concurrent use.
type Set struct {
	config   gatewayconfig.Policies
	server   types.EntityUID // MCP::"<virtual server>"
	policies []*policy       // in configured order
	entities types.EntityMap // static ones, and MCP::"…" of the virtual server and its backends
	static   types.EntityMap // entitiesJson alone
	reads    reads           // union over policies
	leafRefs bool            // some static attribute names a caller or an item
	revision string
	warnings []string

	kinds    [numKinds]kindIndex
	families map[Action][]int32 // forbids whose scope covers (action, virtual server)
}

// policy is one statement.
type policy struct {
	id     string
	file   string
	line   int
	permit bool
	named  bool // scope says resource == …
	ast    *ast.Policy
	cond   single  // its when and unless clauses; zero: none
	parts  []*expr // their conjuncts; only if they read arguments or excepts
	lead   lead    // its first conjuncts
	reads  reads

	excepts bool // a permit that asks in an exception how the item is called
}

// single lets cedar.Authorize evaluate one policy.
type single struct{ policy *cedar.Policy }

func (s single) All() iter.Seq2[cedar.PolicyID, *cedar.Policy] {
	return func(yield func(cedar.PolicyID, *cedar.Policy) bool) { yield("", s.policy) }
}

// Load compiles the policies of virtualServer. All problems are reported at once, joined; those of a policy text are
// *SyntaxError, and so is a forbid that can never match. backends are the names that exist as MCP::"…"; one that equals virtualServer is an error.
func Load(virtualServer string, backends []string, src gatewayconfig.Policies) (*Set, error) {
	if src.GroupEntityType == "" {
		src.GroupEntityType = "THVGroup"
	}
	s := &Set{config: src, server: types.NewEntityUID(typeMCP, types.String(virtualServer))}
	var errs []error
	if err := s.loadEntities(virtualServer, backends); err != nil {
		errs = append(errs, err)
	}
	digest := sha256.New()
	digestStrings(digest, virtualServer, src.EntitiesJSON, src.GroupClaimName, src.RoleClaimName, src.GroupEntityType)
	digestStrings(digest, backends...)

	byID := map[string]*policy{}
	perFile := map[string]int{}
	for _, text := range src.Texts {
		for _, st := range statements(text.Text) {
			perFile[text.File]++
			line := text.Line + st.line
			parsed, err := st.parse(text.File, line)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			p := s.compile(parsed)
			p.file, p.line = text.File, line+int(parsed.Position.Line)-1
			p.id = fmt.Sprintf("%s#%d", text.File, perFile[text.File])
			for _, a := range parsed.Annotations {
				if a.Key == "id" && a.Value != "" {
					p.id = string(a.Value)
				}
			}
			if first, taken := byID[p.id]; taken {
				errs = append(errs, &SyntaxError{p.file, p.line, fmt.Sprintf(
					"policy id %q is already used at %s:%d: give each policy its own @id", p.id, first.file, first.line)})
				continue
			}
			byID[p.id] = p
			s.policies = append(s.policies, p)
			digestStrings(digest, p.id, st.text)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("loading policies: %w", err)
	}
	s.revision = base64.RawURLEncoding.EncodeToString(digest.Sum(nil))[:22]
	for _, p := range s.policies {
		p.reads.fold()
		s.reads.merge(&p.reads)
	}
	s.reads.fold()
	s.index()
	var problems error
	if s.warnings, problems = s.check(backends); problems != nil {
		return nil, fmt.Errorf("loading policies: %w", problems)
	}
	return s, nil
}

// compile separates scope and conditions and finds out what the conditions read.
func (s *Set) compile(parsed *ast.Policy) *policy {
	p := &policy{ast: parsed, permit: bool(parsed.Effect)}
	_, p.named = parsed.Resource.(ast.ScopeTypeEq)
	p.reads.scope(parsed)
	if len(parsed.Conditions) == 0 {
		return p
	}
	for _, c := range parsed.Conditions {
		p.reads.condition(c.Body)
	}
	s.widen(&p.reads)
	p.cond = conditionPolicy(parsed.Conditions)
	conjuncts := conjuncts(parsed.Conditions)
	for _, n := range conjuncts {
		x := takeApart(n, func(r *reads) bool { return r.readsArgs() || p.permit && (r.name || r.self) })
		p.parts = append(p.parts, x)
		p.excepts = p.excepts || p.permit && x.excepts(false, p.named)
	}
	if !p.reads.readsArgs() {
		p.lead = s.leading(conjuncts)
		if !p.excepts {
			p.parts = nil
		}
	} // else no lead: an argument that Cedar cannot hold denies whatever else the conditions say
	return p
}

// conditionPolicy compiles conditions under a scope that matches everything.
func conditionPolicy(conditions []ast.ConditionType) single {
	bare := ast.Permit()
	bare.Conditions = conditions
	return single{cedar.NewPolicyFromAST((*cedarast.Policy)(bare))}
}

// widen: where a static attribute may lead to any caller or item, neither can be left out.
func (s *Set) widen(r *reads) {
	if s.leafRefs && r.accesses {
		r.caller, r.item, r.principalID = true, true, true
	}
}

// Revision identifies the content of the set: 22 characters of base64url.
func (s *Set) Revision() string { return s.revision }

// Warnings are remarks on policies that cannot do what they seem to say, such as an unknown action. Each names file and
// line.
func (s *Set) Warnings() []string { return s.warnings }

// Len is the number of policies.
func (s *Set) Len() int { return len(s.policies) }

// digestStrings writes strings so that no two lists give the same bytes.
func digestStrings(w io.Writer, parts ...string) {
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(parts)))
	w.Write(n[:])
	for _, p := range parts {
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		w.Write(n[:])
		io.Copy(w, strings.NewReader(p))
	}
}
