package engine

import (
	"context"
	"errors"
	"net"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"

	"vmcp/internal/await"
	"vmcp/internal/gatewayconfig"
	"vmcp/internal/mcpwire"
	"vmcp/internal/mtls"
	"vmcp/internal/policy"
	gatewayv1 "vmcp/proto/gateway/v1"
)

// pod is an aggregator whose catalog is one tool. It reports when told to.
type pod struct {
	gatewayv1.UnimplementedCatalogServer
	tool   string
	report chan struct{} // closed: reports
}

func (r *pod) Watch(_ *gatewayv1.WatchCatalogRequest, s grpc.ServerStreamingServer[gatewayv1.CatalogUpdate]) error {
	select {
	case <-r.report:
	case <-s.Context().Done():
		return nil
	}
	s.Send(&gatewayv1.CatalogUpdate{Update: &gatewayv1.CatalogUpdate_Backend{Backend: &gatewayv1.BackendCatalog{
		Name: "b", State: gatewayv1.BackendState_BACKEND_STATE_LISTED, Tools: []*gatewayv1.Item{{Name: r.tool, Original: r.tool}}}}})
	s.Send(&gatewayv1.CatalogUpdate{Update: &gatewayv1.CatalogUpdate_Complete{Complete: r.tool}})
	<-s.Context().Done()
	return nil
}

// servePod serves on a loopback address of its own, all on one port as pods do.
func servePod(t *testing.T, ip, port, tool string) *pod {
	t.Helper()
	l, err := mtls.Listen(net.JoinHostPort(ip, port))
	if err != nil {
		t.Fatal(err)
	}
	r := &pod{tool: tool, report: make(chan struct{})}
	s := grpc.NewServer()
	gatewayv1.RegisterCatalogServer(s, r)
	done := make(chan error)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		<-done
	})
	return r
}

// TestReplicas: each address of a name is a replica; one that is no longer named counts until another has reported.
func TestReplicas(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs 127.0.0.2 and 127.0.0.3, which only Linux has without setting up")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	first, second, third := servePod(t, "127.0.0.1", port, "one"), servePod(t, "127.0.0.2", port, "two"), servePod(t, "127.0.0.3", port, "three")
	close(first.report)
	close(second.report)

	policies, err := policy.Load("v", []string{"b"}, gatewayconfig.Policies{EntitiesJSON: "[]",
		Texts: []gatewayconfig.PolicyText{{File: "x", Line: 1, Text: "permit(principal, action, resource);"}}})
	if err != nil {
		t.Fatal(err)
	}
	eng := New(func(mcpwire.ItemKind, string) {}, func([]string) {}, func(ChangedTool) {})
	eng.SetPolicies(policies)
	r, err := NewReplicas("localhost:"+port, eng, nil, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	names, failed := []string{"127.0.0.1"}, error(nil)
	r.address, r.every = "aggregator:"+port, 10*time.Millisecond
	r.lookup = func(context.Context, string) ([]string, error) {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(names), failed
	}
	named := func(err error, ips ...string) {
		mu.Lock()
		defer mu.Unlock()
		names, failed = ips, err
	}
	// tools are those that some replica advertises now.
	tools := func() (have []string) {
		snap := eng.Snapshot()
		if snap == nil {
			return nil
		}
		for _, tool := range []string{"one", "two", "three"} {
			if _, ok := snap.List(tool, mcpwire.ItemTool); ok {
				have = append(have, tool)
			}
		}
		return have
	}
	wait := func(what string, want ...string) {
		t.Helper()
		await.That(t, what, func() bool { return slices.Equal(tools(), want) })
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error)
	go func() { ran <- r.Run(ctx) }()

	wait("one replica", "one")
	named(nil, "127.0.0.1", "127.0.0.2")
	wait("a second one", "one", "two")
	named(nil, "127.0.0.2")
	wait("the first is gone", "two")
	named(errors.New("no such host"))
	named(nil, "127.0.0.3")
	// The third is watched, has not reported, and the second one's names are still good.
	for range 20 {
		time.Sleep(r.every)
		if got := tools(); !slices.Equal(got, []string{"two"}) {
			t.Fatalf("no replica has reported in its place: catalogs %v, want two", got)
		}
	}
	close(third.report)
	wait("replaced", "three")
	cancel()
	if err := <-ran; err != nil {
		t.Error(err)
	}
}

// TestReplicasElsewhere: a plain connection to another machine is refused before anything starts.
func TestReplicasElsewhere(t *testing.T) {
	if _, err := NewReplicas("aggregator:9444", New(nil, nil, nil), nil, zap.NewNop()); err == nil {
		t.Error("no error")
	}
}
