// Package engine joins the policies with the catalog: it knows every item by its advertised name, and says who may use
// it. It owns the merging of what the aggregator replicas report and the snapshot that each decision is made on; the
// policy language is internal/policy's, tokens and HTTP are extauthz's.
package engine

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"vmcp/internal/mcpwire"
	"vmcp/internal/policy"
	gatewayv1 "vmcp/proto/gateway/v1"
)

// Engine holds the current snapshot and the two things it is made of. Safe for concurrent use.
type Engine struct {
	snap atomic.Pointer[Snapshot]

	mu       sync.Mutex
	policies *policy.Set
	replicas map[string]*Catalog // last complete catalog of each aggregator replica
	conflict func(kind mcpwire.ItemKind, name string)
	unknown  func(remarks []string)
	told     []string // the last remarks
	changed  func(ChangedTool)
	known    map[ChangedTool]bool // the last changed tools
}

// Catalog is what one aggregator replica reported, complete.
type Catalog struct {
	Digest   string
	Backends []*gatewayv1.BackendCatalog // in the order of their names
}

// Snapshot is one policy set over one catalog. Immutable.
type Snapshot struct {
	Policies *policy.Set
	Digest   string // of the merged catalog
	// Unknown are remarks on policies that name what does not exist; none while a backend was never listed, whose it may be.
	Unknown []string

	items     map[key]*Entry // nil: replicas disagree
	templates []template
	pending   []*gatewayv1.BackendCatalog    // never listed
	lists     map[listKey][]*policy.Prepared // as each replica orders them
	callers   callers
	readsArgs bool // some policy does: only then are schemas kept
}

type key struct {
	kind mcpwire.ItemKind
	name string
}

type listKey struct {
	digest string
	kind   mcpwire.ItemKind
}

// Entry is one advertised item.
type Entry struct {
	Target   *gatewayv1.Target
	Prepared *policy.Prepared
	// Declared are the top-level argument names, by their folded form and by themselves.
	Declared map[string]string
	// Definition is the digest of its definition, as the backend wrote it.
	Definition string
}

// New makes an engine. conflict is told of each name that replicas resolve differently; such a name is denied. unknown is
// told of the remarks of Snapshot.Unknown when they change, changed of tools that come to be not as they were approved, and
// that are again.
func New(conflict func(kind mcpwire.ItemKind, name string), unknown func(remarks []string), changed func(ChangedTool)) *Engine {
	return &Engine{replicas: map[string]*Catalog{}, conflict: conflict, unknown: unknown, changed: changed}
}

// Snapshot returns the current snapshot, nil while policies or catalog are missing.
func (e *Engine) Snapshot() *Snapshot { return e.snap.Load() }

// SetPolicies replaces the policies; false where they are the same.
func (e *Engine) SetPolicies(set *policy.Set) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.policies != nil && e.policies.Revision() == set.Revision() {
		return false
	}
	e.policies = set
	e.rebuild()
	return true
}

// SetReplica replaces the catalog of one replica; nil forgets it.
func (e *Engine) SetReplica(name string, c *Catalog) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c == nil {
		delete(e.replicas, name)
	} else {
		e.replicas[name] = c
		e.tellChanged()
	}
	e.rebuild()
}

// Warnings are the remarks on the policies in force, those on names included.
func (e *Engine) Warnings() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.policies == nil {
		return nil
	}
	return slices.Concat(e.policies.Warnings(), e.told)
}

// Reported says whether a complete catalog of the replica is in force.
func (e *Engine) Reported(name string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.replicas[name] != nil
}

// rebuild makes the snapshot anew. Callers hold mu.
func (e *Engine) rebuild() {
	if e.policies == nil || len(e.replicas) == 0 {
		e.snap.Store(nil)
		return
	}
	s := &Snapshot{
		Policies: e.policies, readsArgs: e.policies.Reads().Arguments,
		items: map[key]*Entry{},
		lists: map[listKey][]*policy.Prepared{},
	}
	replicas := make([]string, 0, len(e.replicas))
	for name := range e.replicas {
		replicas = append(replicas, name)
	}
	slices.Sort(replicas)

	var digests []string
	var catalogs []*Catalog // one for each digest
	advertised := map[key]bool{}
	for _, name := range replicas {
		c := e.replicas[name]
		if slices.Contains(digests, c.Digest) {
			continue // the same catalog from another replica
		}
		digests, catalogs = append(digests, c.Digest), append(catalogs, c)
		each(c, func(_ *gatewayv1.BackendCatalog, kind mcpwire.ItemKind, it *gatewayv1.Item) {
			advertised[key{kind, it.Name}] = true
		})
	}
	disputed := map[key]bool{}
	seenTemplates := map[string]bool{}
	for _, c := range catalogs {
		each(c, func(b *gatewayv1.BackendCatalog, kind mcpwire.ItemKind, it *gatewayv1.Item) {
			k := key{kind, it.Name}
			entry := s.newEntry(b.Name, kind, it, it.Name != it.Original && advertised[key{kind, it.Original}])
			if old, ok := s.items[k]; ok && (old.Target.Backend != entry.Target.Backend || old.Target.Name != entry.Target.Name) {
				disputed[k] = true
			}
			s.items[k] = entry
			if kind == mcpwire.ItemTemplate && !seenTemplates[b.Name+"\x00"+it.Name] {
				seenTemplates[b.Name+"\x00"+it.Name] = true
				if match := compile(it.Name); match != nil {
					s.templates = append(s.templates, template{b.Name, match})
				}
			}
		})
		for _, b := range c.Backends {
			if b.State == starting || b.State == failed {
				s.pending = append(s.pending, b)
			}
		}
	}
	for k := range disputed {
		s.items[k] = nil
		e.conflict(k.kind, k.name)
	}
	for _, c := range catalogs {
		s.addLists(c)
	}
	s.Digest = digest(digests)
	s.findUnknown(catalogs)
	if !slices.Equal(s.Unknown, e.told) {
		e.told = s.Unknown
		e.unknown(s.Unknown)
	}
	e.snap.Store(s)
}

// findUnknown looks for names in policies that nothing in the catalogs has, as advertised or original.
func (s *Snapshot) findUnknown(catalogs []*Catalog) {
	if len(s.pending) > 0 {
		return
	}
	type known struct {
		kind policy.Kind
		name string
	}
	names := map[known]bool{}
	for _, c := range catalogs {
		each(c, func(_ *gatewayv1.BackendCatalog, kind mcpwire.ItemKind, it *gatewayv1.Item) {
			names[known{policyKind(kind), it.Name}], names[known{policyKind(kind), it.Original}] = true, true
		})
	}
	s.Unknown = s.Policies.Unknown(func(kind policy.Kind, name string) bool {
		return names[known{kind, name}] || kind == policy.Resource && s.byTemplate(name) != nil
	})
}

func (s *Snapshot) newEntry(backend string, kind mcpwire.ItemKind, it *gatewayv1.Item, shadowed bool) *Entry {
	item := policy.Item{
		Kind: policyKind(kind), Backend: backend, Original: it.Original, Advertised: it.Name, OriginalShadowed: shadowed,
	}
	if a := it.Annotations; a != nil {
		item.ReadOnlyHint, item.DestructiveHint = a.ReadOnlyHint, a.DestructiveHint
		item.IdempotentHint, item.OpenWorldHint = a.IdempotentHint, a.OpenWorldHint
	}
	entry := &Entry{Target: &gatewayv1.Target{Backend: backend, Name: it.Original}, Definition: it.Definition}
	if len(it.Arguments) > 0 {
		entry.Declared = make(map[string]string, 2*len(it.Arguments))
		for _, a := range it.Arguments {
			entry.Declared[mcpwire.Fold(a.Name)] = a.Name
		}
		for _, a := range it.Arguments {
			entry.Declared[a.Name] = a.Name
		}
	}
	if s.readsArgs {
		item.Args = schema(&gatewayv1.Argument{Properties: it.Arguments, Additional: it.Additional})
	}
	entry.Prepared = s.Policies.Prepare(item)
	return entry
}

func schema(a *gatewayv1.Argument) *policy.Schema {
	if a == nil {
		return nil
	}
	s := &policy.Schema{Types: a.Types, Additional: schema(a.Additional), Items: schema(a.Items)}
	if len(a.Properties) > 0 {
		s.Properties = make(map[string]*policy.Schema, len(a.Properties))
		for _, p := range a.Properties {
			s.Properties[p.Name] = schema(p)
		}
	}
	return s
}

// policyKind: a template is read as a resource.
func policyKind(k mcpwire.ItemKind) policy.Kind {
	switch k {
	case mcpwire.ItemTool:
		return policy.Tool
	case mcpwire.ItemPrompt:
		return policy.Prompt
	case mcpwire.ItemResource, mcpwire.ItemTemplate:
		return policy.Resource
	}
	return 0
}

// addLists notes the items of a replica's catalog in the order that the aggregator uses: by advertised name.
func (s *Snapshot) addLists(c *Catalog) {
	for _, kind := range kinds {
		var names []string
		each(c, func(_ *gatewayv1.BackendCatalog, k mcpwire.ItemKind, it *gatewayv1.Item) {
			if k == kind {
				names = append(names, it.Name)
			}
		})
		slices.Sort(names)
		list := make([]*policy.Prepared, len(names))
		for i, n := range names {
			list[i] = s.Prepared(kind, n)
		}
		s.lists[listKey{c.Digest, kind}] = list
	}
}

var kinds = []mcpwire.ItemKind{mcpwire.ItemTool, mcpwire.ItemPrompt, mcpwire.ItemResource, mcpwire.ItemTemplate}

func each(c *Catalog, f func(*gatewayv1.BackendCatalog, mcpwire.ItemKind, *gatewayv1.Item)) {
	for _, b := range c.Backends {
		for _, part := range []struct {
			kind  mcpwire.ItemKind
			items []*gatewayv1.Item
		}{
			{mcpwire.ItemTool, b.Tools}, {mcpwire.ItemPrompt, b.Prompts},
			{mcpwire.ItemResource, b.Resources}, {mcpwire.ItemTemplate, b.ResourceTemplates},
		} {
			for _, it := range part.items {
				f(b, part.kind, it)
			}
		}
	}
}

// Absence says why a name may be unknown although it is somebody's.
type Absence uint8

const (
	None     Absence = iota // it is nobody's
	Starting                // a backend that may own it was not listed yet
	Failed                  // and could not be
)

const (
	starting = gatewayv1.BackendState_BACKEND_STATE_NEVER_LISTED
	failed   = gatewayv1.BackendState_BACKEND_STATE_FAILED
)

// Resolve finds what an advertised name or URI stands for, or why there may be something that is not known now.
func (s *Snapshot) Resolve(kind mcpwire.ItemKind, name string) (*Entry, Absence) {
	if entry, known := s.items[key{kind, name}]; known {
		return entry, None
	}
	if kind == mcpwire.ItemResource {
		if entry := s.byTemplate(name); entry != nil {
			return entry, None
		}
	}
	why := None
	for _, b := range s.pending {
		// Resources keep their URIs: any of them may be the missing backend's.
		switch {
		case kind != mcpwire.ItemResource && !strings.HasPrefix(name, b.NamePrefix):
		case b.State == starting:
			return nil, Starting
		default:
			why = Failed
		}
	}
	return nil, why
}

// byTemplate finds the one backend whose templates (RFC 6570) match an unlisted URI. Policy judges the URI itself; a
// completion names the template, which is then its own match. A URI that has a simpler spelling is nobody's: a policy
// would not know it, and the backend might.
func (s *Snapshot) byTemplate(uri string) *Entry {
	if t, known := s.items[key{mcpwire.ItemTemplate, uri}]; known {
		return t
	}
	if len(uri) > maxURI || anotherWay(uri) {
		return nil
	}
	owner := ""
	for _, t := range s.templates {
		if t.backend == owner || !t.match.MatchString(uri) {
			continue
		}
		if owner != "" {
			return nil // two owners: neither
		}
		owner = t.backend
	}
	if owner == "" {
		return nil
	}
	return s.newEntry(owner, mcpwire.ItemResource, &gatewayv1.Item{Name: uri, Original: uri}, false)
}

// Prepared is the item with an advertised name for Permitted; one that is never permitted where there is none.
func (s *Snapshot) Prepared(kind mcpwire.ItemKind, name string) *policy.Prepared {
	if entry, _ := s.Resolve(kind, name); entry != nil {
		return entry.Prepared
	}
	return s.Policies.Prepare(policy.Item{})
}

// List returns the prepared items of a kind in the order of the catalog with this digest; false for an unknown digest.
func (s *Snapshot) List(digest string, kind mcpwire.ItemKind) ([]*policy.Prepared, bool) {
	l, ok := s.lists[listKey{digest, kind}]
	return l, ok
}

// digest names the merged catalog.
func digest(parts []string) string {
	if len(parts) == 1 {
		return parts[0]
	}
	slices.Sort(parts)
	h := sha256.New()
	for _, p := range parts {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(p))))
		h.Write([]byte(p))
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))[:22]
}
