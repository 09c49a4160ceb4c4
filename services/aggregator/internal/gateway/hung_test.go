package gateway

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	envoyconfig "vmcp/deploy/envoy"
	"vmcp/internal/gatewayconfig"
	"vmcp/internal/keyring/keyringtest"
	gatewayv1 "vmcp/proto/gateway/v1"
	"vmcp/services/aggregator/internal/backend"
	"vmcp/services/aggregator/internal/fleet"
	"vmcp/services/aggregator/internal/inventory"
)

// hung is an authz that takes questions and answers none, but for the first where there is a function for that.
type hung struct {
	first func() error
}

func (h *hung) Permitted(ctx context.Context, _ *gatewayv1.PermittedRequest, _ ...grpc.CallOption) (*gatewayv1.PermittedResponse, error) {
	if f := h.first; f != nil {
		h.first = nil
		return nil, f()
	}
	<-ctx.Done()
	return nil, status.FromContextError(ctx.Err()).Err()
}

// written is a response that knows when it was last sent on.
type written struct {
	*httptest.ResponseRecorder
	at time.Time
}

func (w *written) Flush() { w.at = time.Now() }

// TestHungAuthz: whatever a request asks authz, and however often, it waits for a second in all, as Envoy does. By a
// fake clock, so without a server.
func TestHungAuthz(t *testing.T) {
	if !strings.Contains(string(envoyconfig.Config), "{envoy_grpc: {cluster_name: authz}, timeout: "+decisionTime.String()+"}") {
		t.Errorf("Envoy does not wait %s for authz", decisionTime)
	}
	seal, session := keyringtest.New(t), keyringtest.New(t)
	initialize := ask{body: `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"client","version":"7"}}}`}
	for _, tt := range []struct {
		name    string
		a       ask
		changes bool // the catalog, at the first question, which takes most of the second
		status  int
		body    string
	}{
		{name: "list", a: modern("1", "tools/list", ""), status: 503, body: "-32603"},
		{name: "list asked twice", a: modern("1", "tools/list", ""), changes: true, status: 503, body: "-32603"},
		{name: "discover", a: modern("1", "server/discover", ""), status: 200, body: `"result"`},
		{name: "initialize", a: initialize, status: 200, body: `"result"`},
		{name: "stream", a: listen("1", allLists), status: 200, body: ": keep-alive"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				offered := listing([]string{"one"}, nil, nil, nil)
				offered.Instructions = "use it well"
				relist := make(chan struct{}, 1)
				source := inventory.Source{Name: "a", List: func(context.Context) (*backend.Listing, error) { return offered, nil }, Changed: relist}
				cfg := &gatewayconfig.Aggregator{ConflictResolution: "prefix", PrefixFormat: "{workload}_",
					HealthInterval: time.Hour}
				inv := inventory.New(cfg, []inventory.Source{source}, "", zap.NewNop())
				go inv.Run(ctx)
				time.Sleep(time.Second)
				authz := &hung{}
				if tt.changes {
					authz.first = func() error {
						_, changed := inv.Next()
						offered = listing([]string{"one", "two"}, nil, nil, nil)
						relist <- struct{}{}
						<-changed
						time.Sleep(decisionTime / 2)
						return status.Error(codes.Unavailable, "unknown catalog digest")
					}
				}
				w := &world{sealKeys: seal, inv: inv, Gateway: New(Config{VirtualServer: "team", Fleet: &still{state: &fleet.State{Aggregator: cfg}}, SealKeys: seal,
					SessionKeys: session, Permissions: authz, Inventory: inv, Log: zap.NewNop()})}
				r := w.request(t, ctx, tt.a)
				rec := &written{ResponseRecorder: httptest.NewRecorder()}
				began := time.Now()
				time.AfterFunc(keepAlive+keepAlive/2, cancel) // the end of a stream
				w.ServeHTTP(rec, r)
				took := time.Since(began)
				if tt.name == "stream" { // it asks whether it may go on, and goes on
					took = rec.at.Sub(began) - keepAlive
				}
				if took != decisionTime {
					t.Errorf("it took %s, want %s", took, decisionTime)
				}
				if rec.Code != tt.status || !strings.Contains(rec.Body.String(), tt.body) {
					t.Errorf("%d %s, want %d … %s", rec.Code, rec.Body, tt.status, tt.body)
				}
				cancel()
			})
		})
	}
}
