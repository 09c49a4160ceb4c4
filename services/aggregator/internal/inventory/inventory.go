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
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"vmcp/internal/gatewayconfig"
	"vmcp/internal/mcpwire"
	"vmcp/services/aggregator/internal/backend"
	"vmcp/services/aggregator/internal/catalog"
)

const (
	parallel     = 20 // listings at one time, and as many of children
	debounce     = 250 * time.Millisecond
	longestPause = 30 * time.Second // between listings that the backend asks for
	freeBurst    = 10               // such listings in a row without a longer pause
	// A backend that cannot be listed is tried again after firstRetry, twice as long each time, up to lastRetry.
	firstRetry = 250 * time.Millisecond
	lastRetry  = 30 * time.Second
	// A child that has some of its lists costs a process at each try.
	lastRetryOfSome = 10 * time.Minute
)

// errSome: some lists of a backend could be had, some not.
var errSome = errors.New("not all lists could be had")

// Source is one backend as this package sees it.
type Source struct {
	Name    string
	Stdio   bool // listed again only on request or after a failure: each listing costs a child process
	List    func(context.Context) (*backend.Listing, error)
	Changed <-chan struct{} // yields when a new listing is wanted, soon
}

// Inventory publishes catalogs. Safe for concurrent use.
type Inventory struct {
	cfg     *gatewayconfig.Aggregator
	sources []Source
	dir     string // of the last good lists; empty: none are kept
	log     *zap.Logger
	slots   map[bool]*semaphore.Weighted // of children and of others: a child may take minutes to start

	current atomic.Pointer[catalog.Catalog]
	started time.Time

	merging  sync.Mutex        // held while a catalog is made, which takes time; taken before mu
	listings []catalog.Listing // by source
	told     []string          // by source, the gist of the failure that was last logged

	mu      sync.Mutex // every stream takes it
	status  []Status
	leftOut []catalog.Drop // of the current catalog; written with merging held too
	changed chan struct{}  // closed and replaced at each publication
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
	NextTry     time.Time `json:"next_try,omitzero"` // after a failure
	LeftOut     []LeftOut `json:"leftOut,omitempty"`
}

// LeftOut is an item that the backend lists and clients do not see. Name is the advertised one, or where it did not come
// so far the backend's own.
type LeftOut struct {
	Kind   string `json:"kind"`
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

// New reads the last good lists from dir and publishes a first catalog.
func New(cfg *gatewayconfig.Aggregator, sources []Source, dir string, log *zap.Logger) *Inventory {
	inv := &Inventory{
		cfg: cfg, sources: sources, dir: dir, log: log, started: time.Now(),
		slots:    map[bool]*semaphore.Weighted{true: semaphore.NewWeighted(parallel), false: semaphore.NewWeighted(parallel)},
		listings: make([]catalog.Listing, len(sources)),
		status:   make([]Status, len(sources)),
		told:     make([]string, len(sources)),
		changed:  make(chan struct{}),
	}
	for i, s := range sources {
		inv.listings[i] = catalog.Listing{Backend: s.Name}
		inv.status[i] = Status{Backend: s.Name, State: "starting"}
		l, err := inv.recall(s.Name)
		if err != nil {
			log.Warn("last lists are not readable", zap.String("backend", s.Name), zap.Error(err))
		}
		if l != nil {
			inv.listings[i] = *l
			inv.status[i] = status(l, "failing")
		}
	}
	inv.swap(inv.merge())
	return inv
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
	for _, st := range inv.status {
		if st.LastListed.IsZero() && st.LastFailure == "" {
			waiting = append(waiting, st.Backend)
		}
	}
	if len(waiting) == 0 || time.Since(inv.started) > patience {
		return nil
	}
	return fmt.Errorf("not listed yet: %s", strings.Join(waiting, ", "))
}

// Status says what is known of each backend, in configured order.
func (inv *Inventory) Status() []Status {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	all := slices.Clone(inv.status)
	for i := range all {
		for _, d := range inv.leftOut {
			if d.Backend == all[i].Backend {
				all[i].LeftOut = append(all[i].LeftOut, LeftOut{d.Kind.String(), d.Name, d.Reason})
			}
		}
	}
	return all
}

// Run lists until ctx ends.
func (inv *Inventory) Run(ctx context.Context) error {
	var g errgroup.Group
	for i := range inv.sources {
		g.Go(func() error { inv.follow(ctx, i); return nil })
	}
	return g.Wait()
}

// follow keeps one backend's listing current.
func (inv *Inventory) follow(ctx context.Context, i int) {
	s := &inv.sources[i]
	retry, pause, burst := firstRetry, debounce, 0
	for {
		began := time.Now()
		var again <-chan time.Time
		if err := inv.list(ctx, i); ctx.Err() != nil {
			return
		} else if err != nil {
			// Jitter, so that backends which failed together are not asked together.
			wait := retry/2 + rand.N(retry)
			again = time.After(wait)
			longest := lastRetry
			if s.Stdio && errors.Is(err, errSome) {
				longest = lastRetryOfSome
			}
			retry = min(2*retry, longest)
			inv.failed(i, err, time.Now().Add(wait))
		} else {
			retry = firstRetry
			if !s.Stdio {
				every := max(inv.cfg.HealthInterval, time.Second)
				again = time.After(every/2 + rand.N(every))
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-again:
		case <-s.Changed:
			// Several changes in a row are one, and a backend that announces them without end is asked ever more seldom.
			if time.Since(began) > longestPause {
				pause, burst = debounce, 0
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			if burst++; burst > freeBurst {
				pause = min(2*pause, longestPause)
			}
			select {
			case <-s.Changed:
			default:
			}
		}
	}
}

func (inv *Inventory) list(ctx context.Context, i int) error {
	s := &inv.sources[i]
	slots := inv.slots[s.Stdio]
	if err := slots.Acquire(ctx, 1); err != nil {
		return err
	}
	defer slots.Release(1)
	got, err := s.List(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}

	if err != nil {
		return err
	}
	l := convert(s.Name, got)
	if inv.accept(i, l, got.Failed) {
		if err := inv.remember(l); err != nil {
			inv.log.Warn("cannot keep the last lists", zap.String("backend", s.Name), zap.Error(err))
		}
	}
	for _, kind := range mcpwire.Kinds {
		if err := got.Failed[kind]; err != nil {
			return fmt.Errorf("%w: %s: %w", errSome, kind.ListMethod(), err)
		}
	}
	inv.mu.Lock()
	inv.status[i].LastFailure = ""
	inv.mu.Unlock()
	return nil
}

// failed notes a failure, in the log only if it is another than the last one: most are of many tries in a row. The first
// one of a backend that was never listed is published: it is not about to come.
func (inv *Inventory) failed(i int, err error, next time.Time) {
	inv.merging.Lock()
	defer inv.merging.Unlock()
	var c *catalog.Catalog
	if l := &inv.listings[i]; !l.Listed && !l.Failed {
		l.Failed = true
		c = inv.merge()
	}

	inv.mu.Lock()
	st := &inv.status[i]
	if !errors.Is(err, errSome) {
		st.State = "failing"
	}
	st.LastFailure, st.NextTry = err.Error(), next
	if c != nil {
		inv.swap(c)
	}
	inv.mu.Unlock()
	if gist := gist(err); inv.told[i] != gist {
		inv.told[i] = gist
		inv.log.Warn("cannot list", zap.String("backend", st.Backend), zap.Error(err))
	}
}

// gist is what makes two failures the same: times, ports and process ids in their texts do not make two of them.
func gist(err error) string {
	return digits.ReplaceAllString(err.Error(), "0")
}

var digits = regexp.MustCompile(`[0-9]+`)

// accept takes a backend's lists, the last good ones in place of those that failed, and publishes what follows from
// them; it says whether they are new.
func (inv *Inventory) accept(i int, l *catalog.Listing, failed map[mcpwire.ItemKind]error) bool {
	inv.merging.Lock()
	defer inv.merging.Unlock()
	l.Keep(&inv.listings[i], failed)
	same := inv.listings[i].Listed && equal(&inv.listings[i], l)
	inv.listings[i] = *l
	var c *catalog.Catalog
	if !same {
		c = inv.merge()
	}

	inv.mu.Lock()
	st := &inv.status[i]
	back, failure := st.State != "listed", st.LastFailure
	*st = status(l, "listed")
	st.LastListed, st.LastFailure = time.Now(), failure // list knows whether it stands
	if c != nil {
		inv.swap(c)
	}
	inv.mu.Unlock()
	if back {
		inv.log.Info("listed", zap.String("backend", l.Backend), zap.Int("tools", len(l.Tools)),
			zap.Int("prompts", len(l.Prompts)), zap.Int("resources", len(l.Resources)))
	}
	return !same
}

func status(l *catalog.Listing, state string) Status {
	return Status{Backend: l.Backend, State: state, Tools: len(l.Tools), Prompts: len(l.Prompts), Resources: len(l.Resources)}
}

// merge makes the next catalog and logs what it leaves out for the first time. Callers hold merging.
func (inv *Inventory) merge() *catalog.Catalog {
	const most = 20 // lines in a row
	c := catalog.Merge(inv.cfg, inv.listings)
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
