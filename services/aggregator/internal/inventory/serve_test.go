package inventory

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	gatewayv1 "vmcp/proto/gateway/v1"
)

// sink is the sending side of a Watch.
type sink struct {
	grpc.ServerStreamingServer[gatewayv1.CatalogUpdate]
	ctx context.Context
	err error

	mu   sync.Mutex
	sent []string
}

// take returns what was sent since the last time.
func (s *sink) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	sent := s.sent
	s.sent = nil
	return sent
}

func (s *sink) Context() context.Context { return s.ctx }

func TestWatch(t *testing.T) {
	inBubble(t, "", zap.NewNop(), func() []*server { return []*server{newServer("a", true, "x"), newServer("b", true, "y")} },
		func(t *testing.T, inv *Inventory, s []*server) {
			done := make(chan struct{})
			out := &sink{ctx: t.Context()}
			ended := make(chan error, 1)
			go func() { ended <- (&Server{Inventory: inv, Done: done}).Watch(nil, out) }()
			take := func(want ...string) {
				t.Helper()
				synctest.Wait()
				if diff := cmp.Diff(want, out.take()); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			}
			take("a with 1 tools", "b with 1 tools", "complete "+inv.Catalog().Digest)
			time.Sleep(2*heartbeat + time.Millisecond)
			take("heartbeat", "heartbeat")

			s[1].offer("y", "z")
			s[1].announce()
			time.Sleep(debounce + time.Millisecond)
			take("b with 2 tools", "complete "+inv.Catalog().Digest)

			// What changes only for clients is a new digest and nothing else.
			s[1].set(func() { s[1].listing.Instructions = "new" })
			s[1].announce()
			time.Sleep(debounce + time.Millisecond)
			take("complete " + inv.Catalog().Digest)

			close(done)
			if err := <-ended; err != nil {
				t.Errorf("Watch: %v", err)
			}

			ctx, cancel := context.WithCancel(t.Context())
			go func() { ended <- (&Server{Inventory: inv}).Watch(nil, &sink{ctx: ctx}) }()
			synctest.Wait()
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("Watch of a client that left: %v", err)
			}
			broken := &sink{ctx: t.Context(), err: errors.New("broken")}
			if err := (&Server{Inventory: inv}).Watch(nil, broken); err == nil || len(broken.take()) != 1 {
				t.Errorf("a stream that cannot be written: %v, want an error after one message", err)
			}
		})
}

func (s *sink) Send(u *gatewayv1.CatalogUpdate) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch u := u.Update.(type) {
	case *gatewayv1.CatalogUpdate_Backend:
		s.sent = append(s.sent, fmt.Sprintf("%s with %d tools", u.Backend.Name, len(u.Backend.Tools)))
	case *gatewayv1.CatalogUpdate_Complete:
		s.sent = append(s.sent, "complete "+u.Complete)
	case *gatewayv1.CatalogUpdate_Heartbeat:
		s.sent = append(s.sent, "heartbeat")
	}
	return s.err
}
