package inventory

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"time"

	"go.uber.org/zap"

	"vmcp/internal/mcpwire"
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
	// One over HTTP that is new here most likely starts right now, as its pod does: for so long it is tried at least this often.
	startTime  = 30 * time.Second
	startRetry = time.Second
	// A child that has some of its lists costs a process at each try.
	lastRetryOfSome = 10 * time.Minute
)

// errSome: some lists of a backend could be had, some not.
var errSome = errors.New("not all lists could be had")

// Run lists until ctx ends.
func (inv *Inventory) Run(ctx context.Context) error {
	inv.mu.Lock()
	inv.running = ctx
	for _, e := range inv.entries {
		inv.follow(e)
	}
	inv.mu.Unlock()
	<-ctx.Done()
	inv.mu.Lock()
	inv.running = nil
	inv.mu.Unlock()
	inv.tasks.Wait()
	return nil
}

// follow keeps one backend's listing current from now on, in the time of Run. Callers hold mu.
func (inv *Inventory) follow(e *entry) {
	if inv.running == nil {
		return
	}
	ctx, stop := context.WithCancel(inv.running)
	e.stop = stop
	inv.tasks.Go(func() {
		defer stop()
		inv.keepListed(ctx, e)
	})
}

func (inv *Inventory) keepListed(ctx context.Context, s *entry) {
	retry, pause, burst := firstRetry, debounce, 0
	started, listed := time.Now(), false
	for {
		began := time.Now()
		var again <-chan time.Time
		if err := inv.list(ctx, s); ctx.Err() != nil {
			return
		} else if err != nil {
			// Jitter, so that backends which failed together are not asked together.
			wait := retry/2 + rand.N(retry)
			again = time.After(wait)
			longest := lastRetry
			if s.Stdio && errors.Is(err, errSome) {
				longest = lastRetryOfSome
			}
			if !s.Stdio && !listed && time.Since(started) < startTime {
				longest = startRetry
			}
			retry = min(2*retry, longest)
			inv.failed(s, err, time.Now().Add(wait))
		} else {
			retry, listed = firstRetry, true
			if !s.Stdio {
				every := max(inv.cfg.Load().HealthInterval, time.Second)
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

func (inv *Inventory) list(ctx context.Context, s *entry) error {
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
	var failure error
	for _, kind := range mcpwire.Kinds {
		if err := got.Failed[kind]; err != nil {
			failure = fmt.Errorf("%w: %s: %w", errSome, kind.ListMethod(), err)
			break
		}
	}
	l := convert(s.Name, got)
	if inv.accept(s, l, got.Failed, failure) {
		if err := inv.remember(l); err != nil {
			inv.log.Warn("cannot keep the last lists", zap.String("backend", s.Name), zap.Error(err))
		}
	}
	return failure
}

// failed notes a failure, in the log only if it is another than the last one: most are of many tries in a row. The first
// one of a backend that was never listed is published: it is not about to come.
func (inv *Inventory) failed(e *entry, err error, next time.Time) {
	inv.merging.Lock()
	defer inv.merging.Unlock()
	if e.gone {
		return
	}
	var c *catalog.Catalog
	if l := &e.listing; !l.Listed && !l.Failed {
		l.Failed = true
		c = inv.merge(inv.entries)
	}

	inv.mu.Lock()
	st := &e.status
	if !errors.Is(err, errSome) {
		if st.Failures++; st.Failures >= inv.cfg.Load().UnhealthyThreshold || !e.listing.Listed {
			st.State = "failing"
		}
	}
	st.LastFailure, st.NextTry = err.Error(), next
	if c != nil {
		inv.swap(c)
	}
	inv.mu.Unlock()
	if gist := gist(err); e.told != gist {
		e.told = gist
		inv.log.Warn("cannot list", zap.String("backend", st.Backend), zap.Error(err))
	}
}

// gist is what makes two failures the same: times, ports and process ids in their texts do not make two of them.
func gist(err error) string {
	return digits.ReplaceAllString(err.Error(), "0")
}

var digits = regexp.MustCompile(`[0-9]+`)

// accept takes a backend's lists, the last good ones in place of those that failed, and publishes what follows from
// them; it says whether they are new. failure is what the status says of those that failed, if any did.
func (inv *Inventory) accept(e *entry, l *catalog.Listing, failed map[mcpwire.ItemKind]error, failure error) bool {
	inv.merging.Lock()
	defer inv.merging.Unlock()
	if e.gone {
		return false
	}
	l.Keep(&e.listing, failed)
	if e.Pin != "" && failed[mcpwire.ItemTool] == nil {
		inv.pins.Learn(e.Name, l.Tools)
	}
	same := e.listing.Listed && equal(&e.listing, l)
	e.listing = *l
	var c *catalog.Catalog
	if !same {
		c = inv.merge(inv.entries)
	}

	inv.mu.Lock()
	st := &e.status
	back := st.State != "listed"
	*st = status(l, "listed")
	st.LastListed = time.Now()
	if failure != nil {
		st.LastFailure = failure.Error()
	}
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
