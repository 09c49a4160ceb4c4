package gateway

import (
	"container/list"
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"vmcp/internal/keyring"
	"vmcp/internal/mcpwire"
	gatewayv1 "vmcp/proto/gateway/v1"
	"vmcp/services/aggregator/internal/catalog"
)

// pageSize is the number of items on a page. A variable for tests.
var pageSize = 1000

const (
	maxListCache  = 64 << 20 // bytes of rendered pages, with what keeping one costs
	pageOverhead  = 512      // bytes of key, map and list entry
	cursorPurpose = "mcp-cursor-v1"
)

// lists are the lists filtered for callers, rendered. Callers with one view share them.
type lists struct {
	permissions gatewayv1.PermissionsClient

	mu    sync.Mutex
	byKey map[listKey]*list.Element
	order *list.List // *rendered, longest unused first
	bytes int
}

type listKey struct {
	view, digest string
	kind         mcpwire.ItemKind
	era          mcpwire.Era
	after        string // the name after which the page begins
}

type rendered struct {
	key    listKey
	result []byte
	last   string // the last name on the page; empty where no page follows
}

func newLists(permissions gatewayv1.PermissionsClient) *lists {
	return &lists{permissions: permissions, byKey: map[listKey]*list.Element{}, order: list.New()}
}

func (l *lists) get(key listKey) *rendered {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.byKey[key]
	if e == nil {
		return nil
	}
	l.order.MoveToBack(e)
	return e.Value.(*rendered)
}

func (l *lists) put(r *rendered) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byKey[r.key] != nil || len(r.result) > maxListCache/4 {
		return
	}
	l.byKey[r.key] = l.order.PushBack(r)
	l.bytes += len(r.result) + pageOverhead
	for l.bytes > maxListCache {
		old := l.order.Remove(l.order.Front()).(*rendered)
		delete(l.byKey, old.key)
		l.bytes -= len(old.result) + pageOverhead
	}
}

// list answers a list request with the caller's items (AG-15 to AG-18).
func (x *exchange) list(kind mcpwire.ItemKind) {
	after := ""
	if raw := x.msg.Params.Raw("cursor"); raw != nil && string(raw) != "null" {
		var ok bool
		cursor, _ := mcpwire.Unquote(raw)
		if after, ok = openCursor(x.g.cfg.SessionKeys, cursor, x.d.Principal, kind); !ok {
			x.error(http.StatusOK, mcpwire.CodeInvalidParams, "params.cursor is not valid here", nil)
			return
		}
	}
	c := x.g.cfg.Inventory.Catalog()
	if text := x.incomplete(c); text != "" {
		x.error(http.StatusOK, mcpwire.CodeInternal, text, nil)
		return
	}
	key := listKey{x.d.View, c.Digest, kind, x.msg.Era, after}
	r := x.g.lists.get(key)
	if r == nil || x.d.View == "" {
		var ok bool
		if r, ok = x.render(c, key); !ok {
			return
		}
	}
	result := r.result
	if r.last != "" { // the cursor is the caller's own, the page may be shared
		cursor := append([]byte(`"nextCursor":`), mcpwire.Quote(sealCursor(x.g.cfg.SessionKeys, r.last, x.d.Principal, kind))...)
		result = slices.Concat(result[:1], cursor, []byte{','}, result[1:])
	}
	x.result(result)
}

// incomplete says why there is no list, where there is none: no backend could ever be listed (AG-20), or one cannot now
// and the configuration asks for all.
func (x *exchange) incomplete(c *catalog.Catalog) string {
	never := func(b *gatewayv1.BackendCatalog) bool { return b.State == gatewayv1.BackendState_BACKEND_STATE_FAILED }
	switch {
	case len(c.Backends) > 0 && !slices.ContainsFunc(c.Backends, func(b *gatewayv1.BackendCatalog) bool { return !never(b) }):
		return "no server behind this gateway could be reached yet: try again later"
	case x.Aggregator.NeedsAll && x.g.cfg.Inventory.Failing() > 0:
		return "not every server behind this gateway can be reached, and its configuration asks for all (partialFailureMode: fail): try again later"
	}
	return ""
}

// decisionTime is how long a request waits for authz, over all that it asks: as long as Envoy waits for its check
// (deploy/envoy/envoy.yaml). So a hung authz costs a client the same, whichever of the two meets it.
const decisionTime = time.Second

// permitted asks authz which items of a kind are the caller's, of all in the catalog or of the names only.
func (x *exchange) permitted(ctx context.Context, c *catalog.Catalog, kind mcpwire.ItemKind, names ...string) (*gatewayv1.PermittedResponse, error) {
	return x.g.cfg.Permissions.Permitted(ctx, &gatewayv1.PermittedRequest{
		Seal: x.seal, Kind: gatewayv1.ItemKind(kind), CatalogDigest: c.Digest, Names: names,
	})
}

// render asks authz which items are the caller's and writes the page. False: answered already.
func (x *exchange) render(c *catalog.Catalog, key listKey) (*rendered, bool) {
	ctx, cancel := context.WithTimeout(x.r.Context(), decisionTime)
	defer cancel()
	resp, err := x.permitted(ctx, c, key.kind)
	if now := x.g.cfg.Inventory.Catalog(); status.Code(err) == codes.Unavailable && now.Digest != c.Digest {
		// authz knows the newest catalog only, and that has just become another.
		c, key.digest = now, now.Digest
		resp, err = x.permitted(ctx, c, key.kind)
	}
	if err != nil {
		x.g.cfg.Log.Warn("no list", zap.String("request", x.d.RequestId), zap.Error(err))
		if status.Code(err) == codes.Unauthenticated {
			x.error(http.StatusUnauthorized, mcpwire.CodeInvalidRequest, "sign in again", nil)
		} else {
			x.error(http.StatusServiceUnavailable, mcpwire.CodeInternal, "the gateway cannot decide: try again", nil)
		}
		return nil, false
	}
	all := c.Items(key.kind)
	size, count := 256, 0
	page := make([]*catalog.Item, 0, min(len(resp.Indexes), pageSize))
	r := &rendered{key: key}
	for _, i := range resp.Indexes {
		if int(i) >= len(all) {
			x.error(http.StatusServiceUnavailable, mcpwire.CodeInternal, "the gateway cannot decide: try again", nil)
			return nil, false
		}
		it := &all[i]
		if it.Name <= key.after && key.after != "" {
			continue
		}
		if count == pageSize {
			r.last = page[count-1].Name
			break
		}
		page = append(page, it)
		size += len(it.Raw) + 1
		count++
	}
	b := make([]byte, 0, size)
	b = append(b, `{"`+key.kind.ListMember()+`":[`...)
	for i, it := range page {
		if i > 0 {
			b = append(b, ',')
		}
		if key.era == mcpwire.EraLegacy && it.Legacy != nil {
			b = append(b, it.Legacy...)
		} else {
			b = append(b, it.Raw...)
		}
	}
	b = append(b, ']')
	if key.era == mcpwire.EraModern {
		b = append(b, `,"resultType":"complete"`...)
		b = append(b, modernTail...)
	} else {
		b = append(b, '}')
	}
	r.result = b
	if resp.View != "" {
		r.key.view = resp.View // what authz judged by, should it have changed since the seal
		x.g.lists.put(r)
	}
	return r, true
}

// A cursor is the last name of a page, sealed, and bound to caller and list (AG-17). It says where to go on, not in
// which version of the list, so nothing is skipped or repeated for what stays.
func sealCursor(keys *keyring.Ring, last, principal string, kind mcpwire.ItemKind) string {
	return keys.Seal(cursorPurpose, []byte(last), cursorOf(principal, kind))
}

func openCursor(keys *keyring.Ring, cursor, principal string, kind mcpwire.ItemKind) (string, bool) {
	last, ok := keys.Open(cursorPurpose, cursor, cursorOf(principal, kind))
	return string(last), ok
}

func cursorOf(principal string, kind mcpwire.ItemKind) []byte {
	return []byte(kind.String() + " " + principal)
}
