// Package fleet runs the backends of the configuration in force and changes from one to the next while requests go on. It
// owns which backends there are and when one of them ends; how to speak to one is the backend package's, what they offer
// the inventory's.
//
// An exchange takes the State once. What a change does not touch keeps its sessions and children; what is changed is
// another backend behind the same name, and the one before it goes: it finishes its calls, then closes. A name is
// advertised only after its backend can be called, and not any more before it cannot.
package fleet

import (
	"context"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"vmcp/internal/decision"
	"vmcp/internal/gatewayconfig"
	"vmcp/internal/mtls"
	"vmcp/services/aggregator/internal/backend"
	"vmcp/services/aggregator/internal/inventory"
)

const (
	// turnover is how long a backend that was replaced may still be called by exchanges that took the State before.
	turnover = 5 * time.Second
	// lookAgain is the pause between looks at whether the last call has ended.
	lookAgain = 100 * time.Millisecond
)

// State is one configuration in force. It does not change.
type State struct {
	Aggregator *gatewayconfig.Aggregator
	// Backends are those of the configuration, and for as long as seals for them are good those that left it.
	Backends map[string]*backend.Backend
}

// Config is what a Fleet needs.
type Config struct {
	Lists      string         // directory of the last good lists; empty: none are kept
	ServerInfo []byte         // our Implementation object, see backend.Config
	Identity   *mtls.Identity // see backend.Config
	Metrics    *backend.Metrics
	Log        *zap.Logger // nil: none
}

// Spec is a configuration to put in force.
type Spec struct {
	Aggregator *gatewayconfig.Aggregator
	Commands   map[string][]string // program and arguments of each stdio backend, by its name
	Hide       []string            // paths that no child can reach
}

// Fleet is the running backends. Safe for concurrent use.
type Fleet struct {
	cfg       Config
	inventory *inventory.Inventory
	state     atomic.Pointer[State]
	tasks     sync.WaitGroup

	mu      sync.Mutex
	members map[string]*member
	changed chan struct{} // closed and replaced with each State
	closing chan struct{} // closed by Close
}

// member is one running backend.
type member struct {
	cfg     backend.Config
	to      *backend.Backend
	end     context.CancelFunc
	leaving *time.Timer // of one that left the configuration
}

// New runs the backends of a first configuration.
func New(cfg Config, first Spec) *Fleet {
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	f := &Fleet{cfg: cfg, members: map[string]*member{}, changed: make(chan struct{}), closing: make(chan struct{})}
	f.mu.Lock()
	defer f.mu.Unlock()
	sources := f.adopt(first)
	f.publish(first.Aggregator)
	f.inventory = inventory.New(first.Aggregator, sources, cfg.Lists, cfg.Log)
	return f
}

// State returns the configuration in force.
func (f *Fleet) State() *State { return f.state.Load() }

// Next returns the configuration in force and a channel that closes when there is another.
func (f *Fleet) Next() (*State, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state.Load(), f.changed
}

// Inventory is what the backends offer.
func (f *Fleet) Inventory() *inventory.Inventory { return f.inventory }

// Apply puts another configuration in force. Backends are compared by name with those that run.
func (f *Fleet) Apply(spec Spec) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := f.members
	f.members = map[string]*member{}
	for name, m := range before {
		f.members[name] = m
	}
	sources := f.adopt(spec)
	named := map[string]bool{}
	for _, s := range sources {
		named[s.Name] = true
	}
	f.publish(spec.Aggregator)
	f.inventory.Apply(spec.Aggregator, sources)
	for name, m := range before {
		switch {
		case f.members[name] != m:
			f.cfg.Log.Info("backend replaced", zap.String("backend", name))
			f.retire(m)
		case !named[name] && m.leaving == nil:
			f.cfg.Log.Info("backend removed", zap.String("backend", name))
			m.leaving = time.AfterFunc(decision.MaxAge, func() { f.leave(m) })
		}
	}
}

// adopt makes the members those of spec, beside those that left before, and returns them as sources. Callers hold mu.
func (f *Fleet) adopt(spec Spec) (sources []inventory.Source) {
	for _, b := range spec.Aggregator.Backends {
		child := b.Transport == gatewayconfig.TransportStdio
		cfg := backend.Config{Backend: b, Command: spec.Commands[b.Name], ServerInfo: f.cfg.ServerInfo, Identity: f.cfg.Identity, Metrics: f.cfg.Metrics, Log: f.cfg.Log}
		if child {
			cfg.Hide = spec.Hide
		}
		m := f.members[b.Name]
		if m == nil || !reflect.DeepEqual(m.cfg, cfg) {
			if m != nil && m.leaving != nil {
				m.leaving.Stop()
			}
			m = f.start(cfg)
			f.members[b.Name] = m
		} else if m.leaving != nil { // it is back
			m.leaving.Stop()
			m.leaving = nil
		}
		sources = append(sources, inventory.Source{Name: b.Name, Of: m.to, Pin: b.Pin, Stdio: child, List: m.to.List, Changed: m.to.Changed()})
	}
	return sources
}

func (f *Fleet) start(cfg backend.Config) *member {
	ctx, end := context.WithCancel(context.Background())
	m := &member{cfg: cfg, to: backend.New(cfg), end: end}
	f.tasks.Go(func() { m.to.Run(ctx) })
	return m
}

// publish makes the members the State. Callers hold mu.
func (f *Fleet) publish(a *gatewayconfig.Aggregator) {
	s := &State{Aggregator: a, Backends: make(map[string]*backend.Backend, len(f.members))}
	for name, m := range f.members {
		s.Backends[name] = m.to
	}
	f.state.Store(s)
	close(f.changed)
	f.changed = make(chan struct{})
}

// leave is the end of a backend that left the configuration, when no seal for it is good any more.
func (f *Fleet) leave(m *member) {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-f.closing:
		return
	default:
	}
	if f.members[m.cfg.Name] != m || m.leaving == nil {
		return
	}
	delete(f.members, m.cfg.Name)
	f.cfg.Metrics.Forget(m.cfg.Name)
	f.publish(f.state.Load().Aggregator)
	f.retire(m)
}

// retire ends a backend that is in no State any more, when its calls have ended. Callers hold mu.
func (f *Fleet) retire(m *member) {
	m.to.Retire()
	f.tasks.Go(func() {
		defer m.end()
		for pause := turnover; ; pause = lookAgain {
			select {
			case <-f.closing:
				return
			case <-time.After(pause):
			}
			if !m.to.Busy() {
				return
			}
		}
	})
}

// Close ends all backends and waits for it. Calls in progress fail, so it comes after the listeners have drained.
func (f *Fleet) Close() {
	f.mu.Lock()
	close(f.closing)
	for _, m := range f.members {
		m.end()
	}
	f.mu.Unlock()
	f.tasks.Wait()
}
