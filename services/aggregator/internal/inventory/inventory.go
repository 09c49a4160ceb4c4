// Package inventory keeps the catalog current: it lists every backend in the background, remembers the last good lists
// on disk, and publishes each merged catalog. It owns when to list and what a failure means; how to list is the backend
// package's, how to merge the catalog package's.
//
// Nothing here is on the way of a request: initialize and lists are answered from what was published last, so a slow or
// dead backend delays neither.
package inventory

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"

	"vmcp/internal/gatewayconfig"
	"vmcp/internal/mcpwire"
	gatewayv1 "vmcp/proto/gateway/v1"
	"vmcp/services/aggregator/internal/backend"
	"vmcp/services/aggregator/internal/catalog"
	"vmcp/services/aggregator/internal/pins"
)

// Source is one backend as this package sees it.
type Source struct {
	Name    string
	Of      any    // who lists: another one behind the same name is asked anew; comparable
	Pin     string // what happens to tools that are not as they were approved: pins.Report, pins.Hide, or nothing
	Stdio   bool   // listed again only on request or after a failure: each listing costs a child process
	List    func(context.Context) (*backend.Listing, error)
	Changed <-chan struct{} // yields when a new listing is wanted, soon
}

// Inventory publishes catalogs. Safe for concurrent use.
type Inventory struct {
	dir   string // of the last good lists; empty: none are kept
	pins  *pins.Pins
	log   *zap.Logger
	slots map[bool]*semaphore.Weighted // of children and of others: a child may take minutes to start

	current atomic.Pointer[catalog.Catalog]
	started time.Time

	merging sync.Mutex // held while a catalog is made, which takes time; taken before mu
	cfg     atomic.Pointer[gatewayconfig.Aggregator]

	mu      sync.Mutex      // every stream takes it
	entries []*entry        // in configured order; written with merging held too
	running context.Context // of Run; nil: it has not begun, or has ended
	tasks   sync.WaitGroup
	leftOut []catalog.Drop // of the current catalog; written with merging held too
	changed chan struct{}  // closed and replaced at each publication
}

// entry is one source and what is known of it.
type entry struct {
	Source

	// Guarded by Inventory.merging.
	gone    bool // removed or replaced: what it still lists is nobody's
	listing catalog.Listing
	told    string // the gist of the failure that was last logged

	// Guarded by Inventory.mu.
	status Status
	stop   func() // ends its listing; nil before it began
}

// Status is what is known of one backend, for people.
type Status struct {
	Backend     string    `json:"backend"`
	State       string    `json:"state"` // listed, failing (the last good lists, if any, in use), starting (not tried to its end)
	Tools       int       `json:"tools"`
	Prompts     int       `json:"prompts"`
	Resources   int       `json:"resources"`
	LastListed  time.Time `json:"last_listed,omitzero"`
	LastFailure string    `json:"last_failure,omitempty"`
	Failures    int       `json:"failures_in_a_row,omitempty"`
	NextTry     time.Time `json:"next_try,omitzero"` // after a failure
	LeftOut     []LeftOut `json:"leftOut,omitempty"`
	// LongNames are advertised ones that many model APIs refuse, where no limit is set (annotation vmcp/name-limit).
	LongNames []string `json:"long_names,omitempty"`
	// Changed are tools that are not as they were approved (annotation vmcp/pin), and PinProblem why that is not known.
	Changed    []string `json:"changed,omitempty"`
	PinProblem string   `json:"pin_problem,omitempty"`
}

// LeftOut is an item that the backend lists and clients do not see. Name is the advertised one, or where it did not come
// so far the backend's own.
type LeftOut struct {
	Kind   string `json:"kind"`
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

// New reads the last good lists from dir and publishes a first catalog. Approved tools are kept beside dir, in pins.
func New(cfg *gatewayconfig.Aggregator, sources []Source, dir string, log *zap.Logger) *Inventory {
	approved := ""
	if dir != "" {
		approved = filepath.Join(filepath.Dir(dir), "pins")
	}
	inv := &Inventory{
		dir: dir, log: log, pins: pins.New(approved, log), started: time.Now(),
		slots:   map[bool]*semaphore.Weighted{true: semaphore.NewWeighted(parallel), false: semaphore.NewWeighted(parallel)},
		changed: make(chan struct{}),
	}
	inv.Apply(cfg, sources)
	return inv
}

// Apply puts another configuration in force and publishes what follows from it. A source that is the same as before goes
// on; one behind a known name starts with the lists of the one before it, which stand until it has been asked.
func (inv *Inventory) Apply(cfg *gatewayconfig.Aggregator, sources []Source) {
	inv.merging.Lock()
	defer inv.merging.Unlock()
	inv.cfg.Store(cfg)
	before := map[string]*entry{}
	for _, e := range inv.entries {
		before[e.Name] = e
	}
	var entries, fresh []*entry
	for _, s := range sources {
		old := before[s.Name]
		delete(before, s.Name)
		if old != nil && old.Of == s.Of {
			entries = append(entries, old)
			continue
		}
		e := inv.entry(s, old)
		entries, fresh = append(entries, e), append(fresh, e)
	}
	for _, e := range before {
		inv.retire(e)
		inv.forget(e.Name)
	}
	c := inv.merge(entries)

	inv.mu.Lock()
	defer inv.mu.Unlock()
	inv.entries = entries
	for _, e := range fresh {
		inv.follow(e)
	}
	inv.swap(c)
}

// entry begins with what is known behind that name. Callers hold merging.
func (inv *Inventory) entry(s Source, old *entry) *entry {
	e := &entry{Source: s, listing: catalog.Listing{Backend: s.Name}, status: Status{Backend: s.Name, State: "starting"}}
	if old != nil {
		inv.retire(old)
		e.listing = old.listing
		inv.mu.Lock()
		e.status = old.status
		inv.mu.Unlock()
		return e
	}
	l, err := inv.recall(s.Name)
	if err != nil {
		inv.log.Warn("last lists are not readable", zap.String("backend", s.Name), zap.Error(err))
	}
	if l != nil {
		e.listing = *l
		e.status = status(l, "failing")
	}
	return e
}

// retire ends the listing of a source that is not one any more. Callers hold merging.
func (inv *Inventory) retire(e *entry) {
	e.gone = true
	inv.mu.Lock()
	defer inv.mu.Unlock()
	if e.stop != nil {
		e.stop()
	}
}

// Catalog returns the current catalog.
func (inv *Inventory) Catalog() *catalog.Catalog { return inv.current.Load() }

// Next returns the current catalog and a channel that closes when there is another.
func (inv *Inventory) Next() (*catalog.Catalog, <-chan struct{}) {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	return inv.current.Load(), inv.changed
}

// patience is how long readiness waits for the first listing of a backend; later it is known to be away, or slow.
const patience = 5 * time.Second

// Ready says which backends were neither listed nor found failing since the start, nil when none or after some seconds.
func (inv *Inventory) Ready() error {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	var waiting []string
	for _, e := range inv.entries {
		if e.status.LastListed.IsZero() && e.status.LastFailure == "" {
			waiting = append(waiting, e.Name)
		}
	}
	if len(waiting) == 0 || time.Since(inv.started) > patience {
		return nil
	}
	return fmt.Errorf("not listed yet: %s", strings.Join(waiting, ", "))
}

// Changes are the tools that are not as they were approved, of one backend, or of all where none is named.
func (inv *Inventory) Changes(backend string) ([]pins.Change, error) {
	var all []pins.Change
	var errs []error
	for _, name := range inv.pinned(backend) {
		changes, err := inv.pins.Changes(name)
		all, errs = append(all, changes...), append(errs, err)
	}
	return all, errors.Join(errs...)
}

// pinned names the backends whose tools are approved: all, or the one that is meant.
func (inv *Inventory) pinned(backend string) (names []string) {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	for _, e := range inv.entries {
		if e.Pin != "" && (backend == "" || backend == e.Name) {
			names = append(names, e.Name)
		}
	}
	return names
}

// Approve approves changed tools of a backend, all where none is named, and publishes what follows from it.
func (inv *Inventory) Approve(backend string, tools []string) ([]string, error) {
	if len(inv.pinned(backend)) == 0 || backend == "" {
		return nil, fmt.Errorf("%q is no server with the annotation vmcp/pin", backend)
	}
	approved, err := inv.pins.Approve(backend, tools)
	if err != nil {
		return nil, err
	}
	inv.log.Info("tools approved", zap.String("backend", backend), zap.Strings("tools", approved))
	inv.merging.Lock()
	defer inv.merging.Unlock()
	c := inv.merge(inv.entries)
	inv.mu.Lock()
	defer inv.mu.Unlock()
	inv.swap(c)
	return approved, nil
}

// Failing counts the backends that cannot be listed now.
func (inv *Inventory) Failing() (n int) {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	for _, e := range inv.entries {
		if e.status.State == "failing" {
			n++
		}
	}
	return n
}

// modelLimit is the longest name of a tool that the usual model APIs take.
const modelLimit = 64

// Status says what is known of each backend, in configured order.
func (inv *Inventory) Status() []Status {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	all := make([]Status, len(inv.entries))
	long := map[string][]string{}
	if inv.cfg.Load().NameLimit == 0 {
		for _, it := range inv.current.Load().Items(mcpwire.ItemTool) {
			if len(it.Name) > modelLimit {
				long[it.Backend] = append(long[it.Backend], it.Name)
			}
		}
	}
	for i, e := range inv.entries {
		all[i] = e.status
		all[i].LongNames = long[e.Name]
		if e.Pin != "" {
			changes, err := inv.pins.Changes(e.Name)
			for _, c := range changes {
				all[i].Changed = append(all[i].Changed, c.Tool)
			}
			if err != nil {
				all[i].PinProblem = err.Error()
			}
		}
		for _, d := range inv.leftOut {
			if d.Backend == all[i].Backend {
				all[i].LeftOut = append(all[i].LeftOut, LeftOut{d.Kind.String(), d.Name, d.Reason})
			}
		}
	}
	return all
}

func status(l *catalog.Listing, state string) Status {
	return Status{Backend: l.Backend, State: state, Tools: len(l.Tools), Prompts: len(l.Prompts), Resources: len(l.Resources)}
}

// merge makes the next catalog and logs what it leaves out for the first time. Callers hold merging.
func (inv *Inventory) merge(entries []*entry) *catalog.Catalog {
	const most = 20 // lines in a row
	listings := make([]catalog.Listing, len(entries))
	for i, e := range entries {
		if listings[i] = e.listing; e.Pin == pins.Hide {
			listings[i] = inv.pins.Filter(e.listing)
		}
		if e.Pin != "" {
			listings[i].Changed = inv.changedTools(e)
		}
	}
	c := catalog.Merge(inv.cfg.Load(), listings)
	known, fresh := map[catalog.Drop]bool{}, 0
	for _, d := range inv.leftOut {
		known[d] = true
	}
	for _, d := range c.Dropped {
		if known[d] {
			continue
		}
		if fresh++; fresh <= most {
			inv.log.Warn("not advertised", zap.String("kind", d.Kind.String()), zap.String("name", d.Name),
				zap.String("backend", d.Backend), zap.String("reason", d.Reason))
		}
	}
	if fresh > most {
		inv.log.Warn("more is not advertised; /status names all", zap.Int("items", fresh-most))
	}
	return c
}

// swap publishes a catalog, unless it is the same as before. Callers hold merging and mu.
func (inv *Inventory) swap(c *catalog.Catalog) {
	inv.leftOut = c.Dropped
	if old := inv.current.Load(); old != nil && old.Digest == c.Digest {
		return
	}
	inv.current.Store(c)
	close(inv.changed)
	inv.changed = make(chan struct{})
}

// changedTools are those that are not as they were approved, for the audit trail of authz.
func (inv *Inventory) changedTools(e *entry) (all []*gatewayv1.ChangedTool) {
	changes, _ := inv.pins.Changes(e.Name) // a file that cannot be read is told in the status
	for _, c := range changes {
		t := &gatewayv1.ChangedTool{Original: c.Tool, Hidden: e.Pin == pins.Hide}
		if at := slices.IndexFunc(e.listing.Tools, func(d catalog.Definition) bool { return d.Name == c.Tool }); at >= 0 {
			t.Definition = catalog.Digest(e.listing.Tools[at].Raw)
		}
		all = append(all, t)
	}
	return all
}

func convert(name string, l *backend.Listing) *catalog.Listing {
	definitions := func(items []backend.Item) []catalog.Definition {
		out := make([]catalog.Definition, len(items))
		for i, it := range items {
			out[i] = catalog.Definition{Name: it.Name, Raw: it.Raw}
		}
		return out
	}
	var leftOut []catalog.Drop
	for _, o := range l.LeftOut {
		leftOut = append(leftOut, catalog.Drop{Kind: o.Kind, Name: o.Name, Backend: name, Reason: o.Reason})
	}
	return &catalog.Listing{
		Backend: name, Listed: true, LeftOut: leftOut,
		Tools: definitions(l.Tools), Prompts: definitions(l.Prompts),
		Resources: definitions(l.Resources), Templates: definitions(l.Templates),
		Capabilities: l.Capabilities, Instructions: l.Instructions,
	}
}
