package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/grpc"

	gatewayv1 "vmcp/proto/gateway/v1"
)

// Watch keeps the catalog of one aggregator replica current until ctx ends. While the replica is away its last catalog
// stays in force: the names are still right, and calls fail at Envoy.
func (e *Engine) Watch(ctx context.Context, replica string, conn grpc.ClientConnInterface, trouble func(error)) error {
	const most = 2 * time.Second
	wait := 20 * time.Millisecond
	for {
		applied, err := e.watchOnce(ctx, replica, gatewayv1.NewCatalogClient(conn))
		if ctx.Err() != nil {
			return nil
		}
		if applied {
			wait = 20 * time.Millisecond
		}
		trouble(fmt.Errorf("watching the catalog of %s: %w", replica, err))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		wait = min(2*wait, most)
	}
}

// watchOnce follows one stream to its end and reports whether it brought a complete catalog.
func (e *Engine) watchOnce(ctx context.Context, replica string, client gatewayv1.CatalogClient) (applied bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// A replica that says nothing for 10 s, not even a heartbeat, is gone.
	silence := time.AfterFunc(10*time.Second, cancel)
	defer silence.Stop()

	stream, err := client.Watch(ctx, &gatewayv1.WatchCatalogRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return false, err
	}
	backends := map[string]*gatewayv1.BackendCatalog{}
	for {
		up, err := stream.Recv()
		if err != nil {
			if ctx.Err() != nil {
				err = errors.New("no heartbeat for 10 s")
			}
			return applied, err
		}
		silence.Reset(10 * time.Second)
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
			applied = true
		}
	}
}
