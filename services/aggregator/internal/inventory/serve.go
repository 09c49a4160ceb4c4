package inventory

import (
	"maps"
	"time"

	"google.golang.org/grpc"

	gatewayv1 "vmcp/proto/gateway/v1"
)

// Server implements gateway.v1.Catalog.
type Server struct {
	gatewayv1.UnimplementedCatalogServer
	Inventory *Inventory
	Done      <-chan struct{} // closed when the service stops: streams end
}

// heartbeat is how often a quiet stream shows that it lives.
const heartbeat = 2 * time.Second

// Watch sends the catalog, then the backends whose part changed with each later one, and those that are gone.
func (s *Server) Watch(_ *gatewayv1.WatchCatalogRequest, stream grpc.ServerStreamingServer[gatewayv1.CatalogUpdate]) error {
	sent := map[string]string{} // digest by backend
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	for {
		c, changed := s.Inventory.Next()
		gone := maps.Clone(sent)
		for _, b := range c.Backends {
			delete(gone, b.Name)
			if sent[b.Name] == b.Digest {
				continue
			}
			sent[b.Name] = b.Digest
			if err := stream.Send(&gatewayv1.CatalogUpdate{Update: &gatewayv1.CatalogUpdate_Backend{Backend: b}}); err != nil {
				return err
			}
		}
		for name := range gone {
			delete(sent, name)
			if err := stream.Send(&gatewayv1.CatalogUpdate{Update: &gatewayv1.CatalogUpdate_Removed{Removed: name}}); err != nil {
				return err
			}
		}
		if err := stream.Send(&gatewayv1.CatalogUpdate{Update: &gatewayv1.CatalogUpdate_Complete{Complete: c.Digest}}); err != nil {
			return err
		}
		for waiting := true; waiting; {
			select {
			case <-stream.Context().Done():
				return nil
			case <-s.Done:
				return nil
			case <-changed:
				waiting = false
			case <-tick.C:
				if err := stream.Send(&gatewayv1.CatalogUpdate{Update: &gatewayv1.CatalogUpdate_Heartbeat{Heartbeat: true}}); err != nil {
					return err
				}
			}
		}
	}
}
