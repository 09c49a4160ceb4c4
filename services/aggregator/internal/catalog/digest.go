package catalog

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash"

	"google.golang.org/protobuf/proto"

	"vmcp/internal/mcpwire"
	gatewayv1 "vmcp/proto/gateway/v1"
)

// describe makes the messages for authz and the digest over all of them.
func (m *merger) describe(listings []Listing) {
	c := m.c
	by := map[string]*gatewayv1.BackendCatalog{}
	for _, l := range listings {
		b := &gatewayv1.BackendCatalog{Name: l.Backend, State: gatewayv1.BackendState_BACKEND_STATE_NEVER_LISTED, Changed: l.Changed}
		if l.Listed {
			b.State = gatewayv1.BackendState_BACKEND_STATE_LISTED
		} else if l.Failed {
			b.State = gatewayv1.BackendState_BACKEND_STATE_FAILED
		}
		// Only with prefixes are names known to be a backend's before it is listed; a long one may end in a hash, but
		// begins with the prefix all the same.
		if m.cfg.ConflictResolution == "prefix" {
			b.NamePrefix = m.head(m.prefix(l.Backend))
		}
		by[l.Backend] = b
		c.Backends = append(c.Backends, b)
	}
	for kind := mcpwire.ItemTool; kind <= mcpwire.ItemTemplate; kind++ {
		for _, it := range c.items[kind] {
			b := by[it.Backend]
			switch kind {
			case mcpwire.ItemTool:
				b.Tools = append(b.Tools, it.Wire)
			case mcpwire.ItemPrompt:
				b.Prompts = append(b.Prompts, it.Wire)
			case mcpwire.ItemResource:
				b.Resources = append(b.Resources, it.Wire)
			case mcpwire.ItemTemplate:
				b.ResourceTemplates = append(b.ResourceTemplates, it.Wire)
			}
		}
	}
	all := sha256.New()
	for _, b := range c.Backends {
		h := sha256.New()
		text, err := proto.MarshalOptions{Deterministic: true}.Marshal(b)
		if err != nil {
			panic(err) // names are valid UTF-8: they come from a strict parser
		}
		write(h, text)
		b.Digest = sum(h)
		write(all, []byte(b.Digest))
	}
	// All that clients get counts: cached lists are keyed by the digest, and a catalog is published when it changes.
	fmt.Fprint(all, c.Offers)
	for _, in := range c.Instructions {
		write(all, []byte(in.Backend))
		write(all, []byte(in.Text))
	}
	for kind := range c.items {
		h := sha256.New()
		for _, it := range c.items[kind] {
			write(h, []byte(it.Backend))
			write(h, []byte(it.Name))
			write(h, it.Raw)
		}
		c.digests[kind] = sum(h)
		write(all, []byte(c.digests[kind]))
	}
	c.Digest = sum(all)
}

// Digest is that of one definition, as the backend wrote it.
func Digest(definition []byte) string {
	h := sha256.New()
	h.Write(definition)
	return sum(h)
}

func write(h hash.Hash, b []byte) {
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(b))))
	h.Write(b)
}

func sum(h hash.Hash) string { return base64.RawURLEncoding.EncodeToString(h.Sum(nil))[:22] }

// Differ reports whether two catalogs advertise different items of a kind. Templates count as resources: clients know
// one notification for both.
func Differ(a, b *Catalog, kind mcpwire.ItemKind) bool {
	return a.digests[kind] != b.digests[kind] ||
		kind == mcpwire.ItemResource && a.digests[mcpwire.ItemTemplate] != b.digests[mcpwire.ItemTemplate]
}
