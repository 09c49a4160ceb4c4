package engine

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"vmcp/internal/await"
	"vmcp/internal/mcpwire"
	gatewayv1 "vmcp/proto/gateway/v1"
)

// replica is an aggregator replica whose streams send what the test says.
type replica struct {
	gatewayv1.UnimplementedCatalogServer
	streams chan *stream
}

// stream is one Watch; the test sends on it and ends it.
type stream struct {
	out grpc.ServerStreamingServer[gatewayv1.CatalogUpdate]
	end chan error
}

func (r *replica) Watch(_ *gatewayv1.WatchCatalogRequest, out grpc.ServerStreamingServer[gatewayv1.CatalogUpdate]) error {
	s := &stream{out: out, end: make(chan error, 1)}
	select {
	case r.streams <- s:
	case <-out.Context().Done():
		return out.Context().Err()
	}
	select {
	case err := <-s.end:
		return err
	case <-out.Context().Done():
		return out.Context().Err()
	}
}

func (s *stream) backend(b *gatewayv1.BackendCatalog) {
	s.out.Send(&gatewayv1.CatalogUpdate{Update: &gatewayv1.CatalogUpdate_Backend{Backend: b}})
}
func (s *stream) complete(digest string) {
	s.out.Send(&gatewayv1.CatalogUpdate{Update: &gatewayv1.CatalogUpdate_Complete{Complete: digest}})
}
func (s *stream) heartbeat() {
	s.out.Send(&gatewayv1.CatalogUpdate{Update: &gatewayv1.CatalogUpdate_Heartbeat{Heartbeat: true}})
}

// watch follows a replica on a Unix socket; every trouble goes into the channel.
func watch(t *testing.T, e *Engine) (*replica, <-chan error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "catalog.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	r := &replica{streams: make(chan *stream)}
	server := grpc.NewServer()
	gatewayv1.RegisterCatalogServer(server, r)
	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	troubles := make(chan error, 100)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { server.Serve(l) })
	running.Go(func() {
		if err := e.Watch(ctx, "r1", conn, func(err error) { troubles <- err }); err != nil {
			t.Errorf("Watch: %v, want nil at the end", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		server.Stop()
		conn.Close()
		running.Wait()
	})
	return r, troubles
}

func next[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(await.Limit):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

// until waits for the snapshot to be of a digest.
func until(t *testing.T, e *Engine, digest string) (s *Snapshot) {
	t.Helper()
	await.That(t, "the snapshot is of "+digest, func() bool { s = e.Snapshot(); return s != nil && s.Digest == digest })
	return s
}

func known(s *Snapshot, name string) bool {
	entry, _ := s.Resolve(mcpwire.ItemTool, name)
	return entry != nil
}

func TestWatch(t *testing.T) {
	e := New(func(mcpwire.ItemKind, string) {}, func([]string) {}, func(ChangedTool) {})
	e.SetPolicies(loadPolicies(t, permitAll))
	r, troubles := watch(t, e)

	// A stream that breaks before its snapshot is complete changes nothing.
	s := next(t, r.streams)
	s.backend(backendOf("a", "tool a_x=x"))
	s.end <- errors.New("broken")
	if err := next(t, troubles); !strings.Contains(err.Error(), "r1") {
		t.Errorf("trouble %q does not name the replica", err)
	}
	if e.Snapshot() != nil {
		t.Error("a partial snapshot was applied")
	}

	// Again, from the beginning.
	s = next(t, r.streams)
	s.backend(backendOf("a", "tool a_x=x"))
	s.backend(backendOf("b", "tool b_y=y"))
	s.heartbeat()
	s.complete("1")
	if snap := until(t, e, "1"); !known(snap, "a_x") || !known(snap, "b_y") {
		t.Error("the catalog is not as sent")
	}

	// Deltas count from their complete on.
	s.backend(backendOf("a", "tool a_z=z"))
	s.complete("2")
	if snap := until(t, e, "2"); known(snap, "a_x") || !known(snap, "a_z") || !known(snap, "b_y") {
		t.Error("a delta does not replace one backend and keep the other")
	}
	// Half a batch, then the stream ends: the last catalog stays, and the next stream begins with nothing of it.
	s.backend(backendOf("c", "tool c_x=x"))
	s.end <- nil
	next(t, troubles)
	if snap := e.Snapshot(); snap.Digest != "2" || known(snap, "c_x") || !known(snap, "a_z") {
		t.Error("the catalog did not stay in force while the replica was away")
	}
	s = next(t, r.streams)
	s.complete("3")
	if known(until(t, e, "3"), "a_z") {
		t.Error("backends of an earlier stream were kept")
	}
}
