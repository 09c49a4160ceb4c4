package gateway

import (
	"context"
	"sync"

	"go.uber.org/zap"

	"vmcp/internal/mcpwire"
	"vmcp/services/aggregator/internal/backend"
)

// maxWatched are the resources of one listen; those after it are left out of the acknowledgement.
const maxWatched = 1000

// watched are the URIs that subscriptions/listen asks for and that are honoured, by backend, and all in the order asked:
// those that the caller may read (SU-8) of backends that tell of changes. authz says what the caller may read; without
// its answer nothing.
func (x *exchange) watched(asked mcpwire.Object) (byBackend map[string][]string, all []string) {
	raw := asked.Raw("resourceSubscriptions")
	if len(raw) == 0 || raw[0] != '[' {
		return nil, nil
	}
	uris, err := backend.Strings(raw)
	if err != nil || len(uris) == 0 {
		return nil, nil
	}
	uris = uris[:min(len(uris), maxWatched)]
	ctx, cancel := context.WithTimeout(x.r.Context(), decisionTime)
	defer cancel()
	c := x.g.cfg.Inventory.Catalog()
	resp, err := x.permitted(ctx, c, mcpwire.ItemResource, uris...)
	if err != nil {
		x.g.cfg.Log.Warn("no resources are watched", zap.String("request", x.d.RequestId), zap.Error(err))
		return nil, nil
	}
	byBackend = map[string][]string{}
	seen := map[string]bool{}
	for _, i := range resp.Indexes {
		if int(i) >= len(uris) || seen[uris[i]] {
			continue
		}
		uri := uris[i]
		seen[uri] = true
		item, ok := c.Find(mcpwire.ItemResource, uri)
		if to := x.Backends[item.Backend]; !ok || to == nil || !to.Watchable() {
			continue
		}
		byBackend[item.Backend] = append(byBackend[item.Backend], uri)
		all = append(all, uri)
	}
	return byBackend, all
}

// watch has the backends tell of changes until done is called. It waits for none of them (SU-2).
func (x *exchange) watch(ctx context.Context, byBackend map[string][]string, tell func(mcpwire.Reply)) (done func()) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	for name, uris := range byBackend {
		running.Go(func() {
			for ctx.Err() == nil {
				x.watchAt(ctx, name, uris, tell)
			}
		})
	}
	return func() {
		cancel()
		running.Wait()
	}
}

// watchAt watches resources of the backend behind that name until ctx ends or another one stands there.
func (x *exchange) watchAt(ctx context.Context, name string, uris []string, tell func(mcpwire.Reply)) {
	state, changed := x.g.cfg.Fleet.Next()
	to := state.Backends[name]
	if to == nil {
		select {
		case <-ctx.Done():
		case <-changed:
		}
		return
	}
	s := to.Session(backend.SessionOptions{Era: mcpwire.EraModern, Key: x.d.Principal, OnUpdated: tell})
	defer s.Close()
	for _, uri := range uris {
		if err := s.Watch(ctx, uri); err != nil && ctx.Err() == nil {
			x.g.cfg.Log.Warn("a resource is not watched", zap.String("backend", name), zap.Error(err))
		}
	}
	select {
	case <-ctx.Done():
	case <-to.Retired():
	}
}
