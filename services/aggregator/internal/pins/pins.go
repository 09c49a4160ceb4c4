// Package pins remembers how the tools of a backend were described when they were approved, and tells when that changes: a
// policy permits names, and what stands behind a name is the backend's word. What is seen first is approved.
package pins

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
	"go.uber.org/zap"

	"vmcp/internal/durable"
	"vmcp/internal/mcpwire"
	"vmcp/services/aggregator/internal/catalog"
)

// The modes of a backend (annotation vmcp/pin). None: nothing is remembered.
const (
	Report = "report" // a changed tool is told
	Hide   = "hide"   // and not there until somebody approves
)

// Pins are the approved definitions of all backends. Safe for concurrent use.
type Pins struct {
	dir string // one file a backend; empty: they are kept until the process ends
	log *zap.Logger

	mu       sync.Mutex
	backends map[string]*pinned
}

// pinned is one backend's.
type pinned struct {
	approved map[string]string // canonical definitions, by original name
	offered  map[string]string // the last that was listed
	told     map[string]string // changes that were logged
	problem  error             // the file cannot be read: nothing is known to be approved
}

// Change is a tool that is not as it was approved.
type Change struct {
	Backend  string          `json:"backend"`
	Tool     string          `json:"tool"`     // original name
	Approved json.RawMessage `json:"approved"` // definitions without what does not count
	Offered  json.RawMessage `json:"offered"`  //
}

// New keeps approved definitions in dir.
func New(dir string, log *zap.Logger) *Pins {
	return &Pins{dir: dir, log: log, backends: map[string]*pinned{}}
}

// canonical is what counts of a definition, in one form: all that a model reads or a client acts on.
func canonical(raw []byte) string {
	o, err := mcpwire.ParseObject(raw, 0, len(raw))
	if err != nil {
		return string(raw)
	}
	v := jsontext.Value(mcpwire.Splice(raw, o.Change(func(name string) bool { return name == "_meta" || name == "icons" })...))
	v = slices.Clone(v[o.Start : len(v)-(len(raw)-o.End)])
	if v.Format(jsontext.ReorderRawObjects(true), jsontext.CanonicalizeRawInts(false), jsontext.CanonicalizeRawFloats(false)) != nil {
		return string(raw)
	}
	return string(v)
}

// Learn takes what a backend lists: tools never seen before are approved, and changed ones are logged.
func (p *Pins) Learn(backend string, tools []catalog.Definition) {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.of(backend)
	b.offered = make(map[string]string, len(tools))
	fresh := 0
	for _, t := range tools {
		is := canonical(t.Raw)
		b.offered[t.Name] = is
		was, known := b.approved[t.Name]
		switch {
		case b.problem != nil:
		case !known:
			b.approved[t.Name] = is
			fresh++
		case was != is && b.told[t.Name] != is:
			b.told[t.Name] = is
			p.log.Warn("a tool is not as it was approved: vmcp tools diff says how", zap.String("backend", backend), zap.String("tool", t.Name))
		}
	}
	if fresh > 0 {
		if err := p.save(backend, b); err != nil {
			p.log.Error("approved tools are not kept", zap.String("backend", backend), zap.Error(err))
		}
	}
}

// Filter takes away the tools that are not as they were approved. Where that is not known, none is left.
func (p *Pins) Filter(l catalog.Listing) catalog.Listing {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.of(l.Backend)
	why := ""
	kept := make([]catalog.Definition, 0, len(l.Tools))
	l.LeftOut = slices.Clone(l.LeftOut)
	for _, t := range l.Tools {
		was, known := b.approved[t.Name]
		switch {
		case b.problem != nil:
			why = "vmcp/pin: hide, and what was approved is not known: " + b.problem.Error()
		case known && was != canonical(t.Raw):
			why = "changed since it was approved (vmcp/pin: hide); vmcp tools diff shows how"
		default:
			kept = append(kept, t)
			continue
		}
		l.LeftOut = append(l.LeftOut, catalog.Drop{Kind: mcpwire.ItemTool, Name: t.Name, Backend: l.Backend, Reason: why})
	}
	l.Tools = kept
	return l
}

// Changes are the tools of a backend that are not as they were approved, by name; an error says why that is not known.
func (p *Pins) Changes(backend string) ([]Change, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.of(backend)
	var all []Change
	for name, is := range b.offered {
		if was, known := b.approved[name]; known && was != is {
			all = append(all, Change{backend, name, json.RawMessage(was), json.RawMessage(is)})
		}
	}
	slices.SortFunc(all, func(a, b Change) int { return cmp.Compare(a.Tool, b.Tool) })
	return all, b.problem
}

// ErrUnknown is the error for a tool that is not among the changed.
var ErrUnknown = errors.New("not among the changed tools")

// Approve approves changed tools as they are now; none named: all of them. A damaged file is written anew by that.
func (p *Pins) Approve(backend string, tools []string) (approved []string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.of(backend)
	changed := func(name string) bool {
		is, there := b.offered[name]
		was, known := b.approved[name]
		return there && (!known || was != is)
	}
	for _, name := range tools {
		if !changed(name) {
			return nil, fmt.Errorf("%s: %w", name, ErrUnknown)
		}
	}
	next := &pinned{approved: map[string]string{}}
	for name, was := range b.approved {
		next.approved[name] = was
	}
	for name, is := range b.offered {
		if changed(name) && (len(tools) == 0 || slices.Contains(tools, name)) {
			next.approved[name] = is
			approved = append(approved, name)
		}
	}
	if b.problem != nil && len(tools) > 0 {
		return nil, fmt.Errorf("approve all tools of %s: %w", backend, b.problem)
	}
	if err := p.save(backend, next); err != nil {
		return nil, err
	}
	b.approved, b.problem = next.approved, nil
	slices.Sort(approved)
	return approved, nil
}

// file is what is kept of one backend.
type file struct {
	Backend string            `json:"backend"`
	Tools   map[string]string `json:"tools"`
}

// of returns a backend's, read at first. Callers hold mu.
func (p *Pins) of(backend string) *pinned {
	b := p.backends[backend]
	if b != nil {
		return b
	}
	b = &pinned{approved: map[string]string{}, told: map[string]string{}}
	p.backends[backend] = b
	if p.dir == "" {
		return b
	}
	text, err := os.ReadFile(p.path(backend))
	if errors.Is(err, fs.ErrNotExist) {
		return b
	}
	var f file
	if err == nil {
		if err = json.Unmarshal(text, &f); err == nil && (f.Backend != backend || f.Tools == nil) {
			err = errors.New("it is not that of " + backend)
		}
	}
	if err != nil {
		b.problem = fmt.Errorf("%s: %s", p.path(backend), strings.TrimPrefix(err.Error(), "open "+p.path(backend)+": "))
		p.log.Error("approved tools are not readable", zap.String("backend", backend), zap.Error(b.problem))
		return b
	}
	b.approved = f.Tools
	return b
}

func (p *Pins) path(backend string) string { return filepath.Join(p.dir, backend+".json") }

func (p *Pins) save(backend string, b *pinned) error {
	if p.dir == "" {
		return nil
	}
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return err
	}
	text, err := json.Marshal(file{backend, b.approved})
	if err != nil {
		return err
	}
	return durable.Write(p.path(backend), text)
}
