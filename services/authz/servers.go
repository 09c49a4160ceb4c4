package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"vmcp/internal/daemon"
	"vmcp/internal/mtls"
	gatewayv1 "vmcp/proto/gateway/v1"
	"vmcp/services/authz/internal/extauthz"
	"vmcp/services/authz/internal/permit"
)

// maxMessage is above Envoy's body limit of 4 MiB with its headers.
const maxMessage = 6 << 20

// servers listen: for Envoy, for the aggregator where it is elsewhere, and for operators.
func servers(checks *extauthz.Server, check *extauthz.Config, identity *mtls.Identity) (tasks []task, err error) {
	permissions := &permit.Server{Engine: check.Engine, Keys: check.Keys, VirtualServer: check.VirtualServer, Revoked: check.Revoked}
	server := grpc.NewServer(
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.NumStreamWorkers(2),
		grpc.MaxConcurrentStreams(100_000), // Envoy opens one connection a worker; a stream is one request
		grpc.InitialWindowSize(8<<20), grpc.InitialConnWindowSize(32<<20),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	)
	authv3.RegisterAuthorizationServer(server, checks)
	gatewayv1.RegisterPermissionsServer(server, permissions)
	serve := func(address string, role mtls.Role, server *grpc.Server) error {
		l, err := identity.Listen(address, role)
		if err == nil {
			tasks = append(tasks, func(ctx context.Context) error { return daemon.ServeGRPC(ctx, l, server) })
		}
		return err
	}
	if err := serve(cfg.listen, mtls.RoleEnvoy, server); err != nil {
		return nil, err
	}
	if cfg.permissions != "" { // the aggregator of another pod asks what is permitted, and may not ask for a decision
		server := grpc.NewServer()
		gatewayv1.RegisterPermissionsServer(server, permissions)
		if err := serve(cfg.permissions, mtls.RoleAggregator, server); err != nil {
			return nil, err
		}
	}
	admin := newAdmin(checks, check)
	return append(tasks, func(ctx context.Context) error { return admin.Run(ctx, cfg.common, check.Log) }), nil
}

// newAdmin tells operators whether requests can be decided, and what is wrong with the policies.
func newAdmin(checks *extauthz.Server, check *extauthz.Config) *daemon.Admin {
	admin := daemon.NewAdmin()
	admin.AddCheck("decisions", checks.Ready)
	if check.Revoked != nil {
		admin.Metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "vmcp_revocation_feed_silence_seconds",
			Help: "How long authserver has said nothing about revocations; over 5 is a reason to look."},
			func() float64 { return check.Revoked.Silence().Seconds() }))
	}
	admin.Metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "vmcp_policy_warnings",
		Help: "Remarks on policies that cannot do what they seem to say, and on names in them that nothing has; GET /warnings of the admin listener tells them."},
		func() float64 { return float64(len(check.Engine.Warnings())) }))
	admin.Handle("GET /warnings", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for _, text := range check.Engine.Warnings() {
			fmt.Fprintln(w, text)
		}
	}))
	return admin
}
