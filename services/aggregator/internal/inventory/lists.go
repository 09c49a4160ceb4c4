package inventory

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"go.uber.org/zap"

	"vmcp/internal/durable"
	"vmcp/services/aggregator/internal/catalog"
)

// The last good lists of a backend stand in <dir>/<backend>.json, so that a restart does not empty the catalog and a
// name keeps its owner while that owner is away. Definitions are kept as base64 of their bytes: JSON would rewrite
// them.

func (inv *Inventory) path(backend string) string { return filepath.Join(inv.dir, backend+".json") }

func (inv *Inventory) recall(backend string) (*catalog.Listing, error) {
	if inv.dir == "" {
		return nil, nil
	}
	text, err := os.ReadFile(inv.path(backend))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	l := new(catalog.Listing)
	if err := json.Unmarshal(text, l); err != nil {
		return nil, fmt.Errorf("%s: %w", inv.path(backend), err)
	}
	if l.Backend != backend || !l.Listed {
		return nil, fmt.Errorf("%s: not the lists of %s", inv.path(backend), backend)
	}
	return l, nil
}

func (inv *Inventory) remember(l *catalog.Listing) error {
	if inv.dir == "" {
		return nil
	}
	if err := os.MkdirAll(inv.dir, 0o700); err != nil {
		return err
	}
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return durable.Write(inv.path(l.Backend), text)
}

// forget removes the lists of a backend that is none any more: another one may get its name.
func (inv *Inventory) forget(backend string) {
	if inv.dir == "" {
		return
	}
	if err := os.Remove(inv.path(backend)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		inv.log.Warn("the last lists of a removed backend stay", zap.String("backend", backend), zap.Error(err))
	}
}

func equal(a, b *catalog.Listing) bool {
	same := func(a, b []catalog.Definition) bool {
		return slices.EqualFunc(a, b, func(x, y catalog.Definition) bool { return x.Name == y.Name && bytes.Equal(x.Raw, y.Raw) })
	}
	return same(a.Tools, b.Tools) && same(a.Prompts, b.Prompts) && same(a.Resources, b.Resources) &&
		same(a.Templates, b.Templates) && bytes.Equal(a.Capabilities, b.Capabilities) && a.Instructions == b.Instructions && slices.Equal(a.LeftOut, b.LeftOut)
}
