package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/grpc"

	gatewayv1 "vmcp/proto/gateway/v1"
	"vmcp/services/authz/internal/follow"
)

// Watch keeps the catalog of one aggregator replica current until ctx ends. While the replica is away its last catalog
// stays in force: the names are still right, and calls fail at Envoy.
func (e *Engine) Watch(ctx context.Context, replica string, conn grpc.ClientConnInterface, trouble func(error)) error {
	client := gatewayv1.NewCatalogClient(conn)
	open := func(ctx context.Context) (grpc.ServerStreamingClient[gatewayv1.CatalogUpdate], error) {
		return client.Watch(ctx, &gatewayv1.WatchCatalogRequest{}, grpc.WaitForReady(true))
	}
	return follow.Stream(ctx, 10*time.Second, open, func() func(*gatewayv1.CatalogUpdate) (bool, error) { return e.take(replica) }, func(err error, again bool) {
		if !again {
			trouble(fmt.Errorf("watching the catalog of %s: %w", replica, err))
		}
	})
}

// take returns what takes the updates of one stream: a snapshot of all backends, then changes. Both count when complete.
func (e *Engine) take(replica string) func(*gatewayv1.CatalogUpdate) (complete bool, err error) {
	backends := map[string]*gatewayv1.BackendCatalog{}
	return func(up *gatewayv1.CatalogUpdate) (bool, error) {
		switch u := up.Update.(type) {
		case *gatewayv1.CatalogUpdate_Backend:
			backends[u.Backend.Name] = u.Backend
		case *gatewayv1.CatalogUpdate_Removed:
			delete(backends, u.Removed)
		case *gatewayv1.CatalogUpdate_Complete:
			c := &Catalog{Digest: u.Complete}
			for _, name := range slices.Sorted(maps.Keys(backends)) {
				c.Backends = append(c.Backends, backends[name])
			}
			e.SetReplica(replica, c)
			return true, nil
		}
		return false, nil
	}
}
