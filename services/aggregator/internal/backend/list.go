package backend

import (
	"bytes"
	"context"
	"errors"
	"io"
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
)

// Listing is what a backend offers. Its byte fields are as the backend wrote them.
type Listing struct {
	Capabilities []byte // JSON object; nil where it declared none
	Instructions string
	Tools        []Item
	Prompts      []Item
	Resources    []Item
	Templates    []Item
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

// List finds out the backend's era and capabilities and drains all its lists, within the call timeout of the backend;
// the start of a child has its own.
// An item named twice is left out, as is a tool whose x-mcp-header definitions are invalid (HV-4); both are logged.
func (b *Backend) List(ctx context.Context) (*Listing, error) {
	ctx, clock := newClock(ctx, b.cfg.Timeout, startTimeout+b.cfg.Timeout)
	defer clock.end()
	if !b.starts() {
		clock.wind()
	}
	if f := b.facts.Load(); f != nil && time.Since(f.at) > probeAgain {
		b.facts.CompareAndSwap(f, nil)
		b.lister.drop(nil, whyIdle)
	}
	b.lister.begin(clock)
	defer b.lister.end(clock)
	for attempt := 0; ; attempt++ {
		l, err := b.lister.open(ctx)
		if err != nil {
			return nil, err
		}
		if b.starts() {
			clock.wind()
		}
		listing, err := b.list(ctx, l)
		if err == nil {
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

func (b *Backend) list(ctx context.Context, l link) (*Listing, error) {
	h := l.hello()
	out := &Listing{Capabilities: h.capabilities.Bytes(), Instructions: h.instructions}
	modern := l.era() == mcpwire.EraModern
	if f := b.facts.Load(); f != nil {
		modern = f.modern
	}
	size := 0
	for _, kind := range mcpwire.Kinds {
		if announcesChanges(h.capabilities.Raw(kind.Capability())) {
			b.lister.startListening(l) // a legacy backend's standalone stream; once
		}
		if h.capabilities.Raw(kind.Capability()) == nil { // AG-23
			continue
		}
		items, err := b.drain(ctx, l, kind, &size)
		if err != nil {
			return nil, err
		}
		*out.items(kind) = b.unique(kind, items)
	}
	// Modern clients mirror arguments whatever the backend speaks, so the schemas of legacy ones count too (HV-5). Only
	// toward a modern backend are we the client that must drop an invalid tool (HV-4).
	known := make(schemas)
	mirrors := modern && b.cfg.Transport == gatewayconfig.TransportHTTP
	kept := out.Tools[:0]
	for _, tool := range out.Tools {
		params, err := headerParams(tool.Raw)
		if err != nil && mirrors {
			b.log.Warn("leaving out a tool with an invalid x-mcp-header", zap.String("tool", tool.Name), zap.Error(err))
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

// announcesChanges reads listChanged of one capability.
func announcesChanges(capability []byte) bool {
	o, err := mcpwire.ParseObject(capability, 0, len(capability))
	return err == nil && string(o.Raw("listChanged")) == "true"
}

// drain reads all pages of one list. A repeated cursor ends it.
func (b *Backend) drain(ctx context.Context, l link, kind mcpwire.ItemKind, size *int) ([]Item, error) {
	var items []Item
	var params []byte
	seen := make(map[string]bool)
	for page := 0; ; page++ {
		r, err := b.query(ctx, l, b.lister.mint(), kind.ListMethod(), params)
		var rpc *rpcError
		if errors.As(err, &rpc) && rpc.code == mcpwire.CodeMethodNotFound && page == 0 {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		result, ok := r.Result()
		if !ok {
			return nil, b.errorf(ErrInvalidReply, false, "the result of %s is no object", kind.ListMethod())
		}
		*size += len(r.Body.Text)
		values, err := elements(result.Raw(kind.ListMember()))
		if err != nil {
			return nil, b.errorf(ErrInvalidReply, false, "%s of %s: %w", kind.ListMember(), kind.ListMethod(), err)
		}
		for _, raw := range values {
			o, err := mcpwire.ParseObject(raw, 0, len(raw))
			name, ok := o.String(kind.ItemKey())
			if err != nil || !ok || name == "" {
				b.log.Warn("leaving out an item without a name", zap.String("list", kind.ListMethod()))
				continue
			}
			items = append(items, Item{name, raw})
		}
		next := result.Raw("nextCursor")
		last := next == nil || string(next) == "null" || seen[string(next)]
		switch {
		case len(items) > maxItems, *size > maxListBytes, !last && page+1 == maxPages:
			return nil, b.errorf(ErrInvalidReply, false, "%s is longer than %d pages, %d items or %d bytes", kind.ListMethod(), maxPages, maxItems, maxListBytes)
		case last:
			return items, nil
		}
		seen[string(next)] = true
		params = object([]mcpwire.Field{{Name: "cursor", Value: next}})
	}
}

// unique leaves out every item whose name another definition has too: which of them a policy meant nobody can say.
func (b *Backend) unique(kind mcpwire.ItemKind, items []Item) []Item {
	first := make(map[string]int, len(items))
	twice := make(map[string]bool)
	for i, item := range items {
		if j, ok := first[item.Name]; ok {
			if !bytes.Equal(items[j].Raw, item.Raw) {
				twice[item.Name] = true
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
	for name := range twice {
		b.log.Warn("leaving out an item that is defined twice", zap.String("list", kind.ListMethod()), zap.String("name", name))
	}
	return kept
}

// elements are the values of a JSON array, as parts of raw.
func elements(raw []byte) ([][]byte, error) {
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

func stringArray(raw []byte) ([]string, error) {
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
