package backend

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"go.uber.org/zap"

	"vmcp/internal/gatewayconfig"
	"vmcp/internal/mcpwire"
)

// Bounds of one List (AG-19).
const (
	maxPages = 1000
	maxItems = 20_000 // of one kind
	// maxListBytes bounds all answers together. authz gets each name twice, in a message of at most 64 MiB: one that is
	// larger would keep it from every backend's changes.
	maxListBytes = 24 << 20
	// quietList is how long a page of any other list than tools may take, since tools that came wait for them.
	quietList = 10 * time.Second
)

// Listing is what a backend offers. Its byte fields are as the backend wrote them.
type Listing struct {
	Capabilities []byte // JSON object; nil where it declared none
	Instructions string
	Tools        []Item
	Prompts      []Item
	Resources    []Item
	Templates    []Item
	LeftOut      []LeftOut

	// Failed are the lists that could not be read: what the backend has of that kind is not known.
	Failed map[mcpwire.ItemKind]error
}

// Item is one entry of a list: its name, or URI, or URI template, and its definition byte for byte.
type Item struct {
	Name string
	Raw  []byte
}

// items is the list of a kind.
func (l *Listing) items(kind mcpwire.ItemKind) *[]Item {
	switch kind {
	case mcpwire.ItemTool:
		return &l.Tools
	case mcpwire.ItemPrompt:
		return &l.Prompts
	case mcpwire.ItemResource:
		return &l.Resources
	}
	return &l.Templates
}

// LeftOut is an item that the backend lists and that cannot be used.
type LeftOut struct {
	Kind         mcpwire.ItemKind
	Name, Reason string
}

func (l *Listing) leaveOut(kind mcpwire.ItemKind, name, reason string) {
	const most = 200 // bytes of a name that people have to read
	if len(name) > most {
		name = strings.ToValidUTF8(name[:most], "") + "…"
	}
	l.LeftOut = append(l.LeftOut, LeftOut{kind, name, reason})
}

// List finds out the backend's era and capabilities and drains its lists. Each has the call timeout of the backend for
// itself (or that of health checks), and one that fails takes no other with it. Left out is an item named twice, as is a tool whose x-mcp-header
// definitions are invalid (HV-4). The start of a child has a time of its own. An error: there is not one item.
func (b *Backend) List(ctx context.Context) (*Listing, error) {
	listing, err := b.listAll(ctx)
	if err == nil || ctx.Err() == nil {
		b.breaker.note(ofList, err)
	}
	return listing, err
}

func (b *Backend) listAll(ctx context.Context) (*Listing, error) {
	ctx, clock := newClock(ctx, b.cfg.HealthTimeout, startTimeout+time.Duration(1+len(mcpwire.Kinds))*b.cfg.HealthTimeout) // never wound
	defer clock.end()
	if f := b.facts.Load(); f != nil && time.Since(f.at) > b.probeAgain() {
		b.facts.CompareAndSwap(f, nil)
		b.lister.drop(nil, whyIdle)
	}
	if listing := b.listShared(ctx, clock); listing != nil {
		return listing, nil
	}
	b.lister.begin(clock)
	defer b.lister.end(clock)
	for attempt := 0; ; attempt++ {
		l, err := b.openToList(ctx)
		if err != nil {
			return nil, err
		}
		listing, err := b.list(ctx, l, attempt == 0)
		if err == nil {
			for _, failed := range listing.Failed { // where others came, the session stands
				doubt := classify(failed, l.era()).reprobe
				b.lister.heed(verdict{reprobe: doubt, drop: doubt}, l)
			}
			return listing, nil
		}
		v := classify(err, l.era())
		v.drop = true // also after other errors the next List starts afresh
		b.lister.heed(v, l)
		if attempt > 0 || !v.repeat || ctx.Err() != nil {
			return nil, b.fail(ctx, err, false)
		}
	}
}

// listShared lists what a child that serves everybody has come to offer since its start, which no other child would. Nil:
// there is none that told of a change, or it has to be asked elsewhere.
func (b *Backend) listShared(ctx context.Context, clock *clock) *Listing {
	c := b.teller.Load()
	if c == nil {
		return nil
	}
	if l := c.current(); l != nil {
		c.begin(clock)
		defer c.end(clock)
		if listing, err := b.list(ctx, l, false); err == nil {
			return listing
		}
	}
	b.teller.CompareAndSwap(c, nil)
	return nil
}

func (b *Backend) openToList(ctx context.Context) (link, error) {
	if b.starts() {
		return b.lister.open(ctx)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, b.cfg.HealthTimeout, ErrTimeout)
	defer cancel()
	return b.lister.open(ctx)
}

// list drains the lists that the backend declares; where it declares none, tools are asked for all the same. It fails
// where there is nothing but failures, and, with again, where all should be asked once more.
func (b *Backend) list(ctx context.Context, l link, again bool) (*Listing, error) {
	h := l.hello()
	out := &Listing{Capabilities: h.capabilities.Bytes(), Instructions: h.instructions, Failed: map[mcpwire.ItemKind]error{}}
	modern := l.era() == mcpwire.EraModern
	if f := b.facts.Load(); f != nil {
		modern = f.modern
	}
	b.lister.listenTo(l, h)
	var first error
	declared, size := 0, 0
	for _, kind := range mcpwire.Kinds {
		if h.capabilities.Raw(kind.Capability()) == nil { // AG-23
			continue
		}
		declared++
		if err := b.drain(ctx, l, kind, out, &size); err != nil {
			if again && classify(err, l.era()).repeat || ctx.Err() != nil {
				return nil, err
			}
			out.Failed[kind] = err
			if first == nil {
				first = err
			}
		}
	}
	switch {
	case declared == 0:
		if err := b.drain(ctx, l, mcpwire.ItemTool, out, &size); err != nil {
			b.log.Debug("it declares no lists, and has none", zap.Error(err))
		}
	case first != nil && len(out.Tools)+len(out.Prompts)+len(out.Resources)+len(out.Templates) == 0:
		return nil, first
	}
	if out.Failed[mcpwire.ItemTool] != nil {
		return out, nil
	}
	// Modern clients mirror arguments whatever the backend speaks, so the schemas of legacy ones count too (HV-5). Only
	// toward a modern backend are we the client that must drop an invalid tool (HV-4).
	known := make(schemas)
	mirrors := modern && b.cfg.Transport == gatewayconfig.TransportHTTP
	kept := out.Tools[:0]
	for _, tool := range out.Tools {
		params, err := headerParams(tool.Raw)
		if err != nil && mirrors {
			out.leaveOut(mcpwire.ItemTool, tool.Name, "x-mcp-header: "+err.Error())
			continue
		}
		if err == nil && len(params) > 0 {
			known[tool.Name] = params
		}
		kept = append(kept, tool)
	}
	out.Tools = kept
	b.schemas.Store(&known)
	return out, nil
}

// listenTo has a backend tell of changed lists as far as it says that it does.
func (c *conn) listenTo(l link, h *hello) {
	var kinds []mcpwire.ItemKind
	for _, kind := range []mcpwire.ItemKind{mcpwire.ItemTool, mcpwire.ItemPrompt, mcpwire.ItemResource} {
		if announcesChanges(h.capabilities.Raw(kind.Capability())) {
			kinds = append(kinds, kind)
		}
	}
	c.mu.Lock()
	c.wants.lists = kinds
	c.wants.stream = c.wants.stream || len(kinds) > 0
	c.mu.Unlock()
	c.startListening(l)
}

// announcesChanges reads listChanged of one capability.
func announcesChanges(capability []byte) bool {
	o, err := mcpwire.ParseObject(capability, 0, len(capability))
	return err == nil && string(o.Raw("listChanged")) == "true"
}

// drain reads all pages of one list into out. A repeated cursor ends it, and an empty one, by which many servers mean
// that there is none. size counts the bytes of the lists that could be read.
func (b *Backend) drain(ctx context.Context, l link, kind mcpwire.ItemKind, out *Listing, size *int) error {
	quiet := b.cfg.HealthTimeout
	if kind != mcpwire.ItemTool {
		quiet = min(quiet, quietList)
	}
	ctx, clock := newClock(ctx, quiet, b.cfg.HealthTimeout)
	defer clock.end()
	var items []Item
	var params []byte
	seen := map[string]bool{`""`: true, "null": true}
	read, nameless := *size, 0
	for page := 0; ; page++ {
		clock.wind()
		r, err := b.query(ctx, l, b.lister.mint(), kind.ListMethod(), params)
		var rpc *rpcError
		if errors.As(err, &rpc) && rpc.code == mcpwire.CodeMethodNotFound && page == 0 {
			return nil
		}
		if err != nil {
			return b.fail(ctx, err, false)
		}
		result, ok := r.Result()
		if !ok {
			return b.errorf(ErrInvalidReply, false, "the result of %s is no object", kind.ListMethod())
		}
		read += len(r.Body.Text)
		values, err := elements(result.Raw(kind.ListMember()))
		if err != nil {
			return b.errorf(ErrInvalidReply, false, "%s of %s: %w", kind.ListMember(), kind.ListMethod(), err)
		}
		for _, raw := range values {
			o, err := mcpwire.ParseObject(raw, 0, len(raw))
			name, ok := o.String(kind.ItemKey())
			if err != nil || !ok || name == "" {
				nameless++
				continue
			}
			items = append(items, Item{name, raw})
		}
		next := result.Raw("nextCursor")
		last := next == nil || seen[string(next)]
		switch {
		case len(items) > maxItems, read > maxListBytes, !last && page+1 == maxPages:
			return b.errorf(ErrInvalidReply, false, "%s is longer than %d pages, %d items or %d bytes", kind.ListMethod(), maxPages, maxItems, maxListBytes)
		case last:
			*size = read
			if nameless > 0 {
				out.leaveOut(kind, "", fmt.Sprintf("%d without a readable %s", nameless, kind.ItemKey()))
			}
			*out.items(kind) = out.unique(kind, items)
			return nil
		}
		seen[string(next)] = true
		params = object([]mcpwire.Field{{Name: "cursor", Value: next}})
	}
}

// unique leaves out every item whose name another definition has too: which of them a policy meant nobody can say.
func (l *Listing) unique(kind mcpwire.ItemKind, items []Item) []Item {
	first := make(map[string]int, len(items))
	twice := make(map[string]bool)
	for i, item := range items {
		if j, ok := first[item.Name]; ok {
			if !bytes.Equal(items[j].Raw, item.Raw) && !twice[item.Name] {
				twice[item.Name] = true
				l.leaveOut(kind, item.Name, "it is defined twice")
			}
			continue
		}
		first[item.Name] = i
	}
	kept := items[:0]
	for i, item := range items {
		if first[item.Name] == i && !twice[item.Name] {
			kept = append(kept, item)
		}
	}
	return kept
}

// elements are the values of a JSON array, as parts of raw. None and null are an empty one.
func elements(raw []byte) ([][]byte, error) {
	if raw == nil || string(raw) == "null" {
		return nil, nil
	}
	dec := jsontext.NewDecoder(bytes.NewBuffer(raw), jsontext.AllowDuplicateNames(true))
	if dec.PeekKind() != '[' {
		return nil, errors.New("not a JSON array")
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, err
	}
	var out [][]byte
	for dec.PeekKind() != ']' {
		v, err := dec.ReadValue()
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, err
		}
		end := int(dec.InputOffset())
		out = append(out, raw[end-len(v):end:end])
	}
	return out, nil
}

// Strings are those among the values of a JSON array.
func Strings(raw []byte) ([]string, error) {
	values, err := elements(raw)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, v := range values {
		if s, ok := mcpwire.Unquote(v); ok {
			out = append(out, s)
		}
	}
	return out, nil
}
