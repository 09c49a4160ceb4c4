// Package permit answers the aggregator: which items may this caller use. It owns the Permissions service; the caller
// proves itself by the seal of a request that authz allowed.
package permit

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"vmcp/internal/decision"
	"vmcp/internal/keyring"
	"vmcp/internal/mcpwire"
	"vmcp/internal/policy"
	gatewayv1 "vmcp/proto/gateway/v1"
	"vmcp/services/authz/internal/engine"
	"vmcp/services/authz/internal/revocation"
)

// Server implements gateway.v1.Permissions.
type Server struct {
	gatewayv1.UnimplementedPermissionsServer
	Engine        *engine.Engine
	Keys          *keyring.Ring
	VirtualServer string
	Revoked       *revocation.List // nil: the issuer tells us of no revocations
}

// catalogWait is how long a digest that is not known yet is waited for: the aggregator may ask before its own update
// has arrived here. It asks again where its catalog has changed meanwhile, and gives all that a second.
const catalogWait = 500 * time.Millisecond

// Permitted judges a list of items.
func (s *Server) Permitted(ctx context.Context, req *gatewayv1.PermittedRequest) (*gatewayv1.PermittedResponse, error) {
	d, err := s.open(req.Seal)
	if err != nil {
		return nil, err
	}
	if req.Kind == gatewayv1.ItemKind_ITEM_KIND_TOKEN {
		snap := s.Engine.Snapshot()
		if snap == nil {
			return nil, status.Error(codes.Unavailable, "no policies or no catalog yet")
		}
		return &gatewayv1.PermittedResponse{PolicyRevision: snap.Policies.Revision()}, nil
	}
	kind := mcpwire.ItemKind(req.Kind)
	if kind < mcpwire.ItemTool || kind > mcpwire.ItemTemplate {
		return nil, status.Error(codes.InvalidArgument, "unknown item kind")
	}
	snap, list, err := s.list(ctx, req.CatalogDigest, kind)
	if err != nil {
		return nil, err
	}
	caller, err := snap.Caller(d.TokenPayload)
	if err != nil {
		return nil, status.Error(codes.Unavailable, "the caller cannot be judged")
	}
	pc := engine.Context(d.ClientIp, mcpwire.Era(d.Era))
	if len(req.Names) > 0 {
		list = make([]*policy.Prepared, len(req.Names))
		for i, name := range req.Names {
			list[i] = snap.Prepared(kind, name)
		}
	}
	return &gatewayv1.PermittedResponse{
		Indexes:        snap.Policies.Permitted(caller.Caller, list, pc),
		PolicyRevision: snap.Policies.Revision(),
		View:           caller.View(pc),
	}, nil
}

// open verifies the seal. Its age does not matter, the token's does.
func (s *Server) open(seal string) (*gatewayv1.Decision, error) {
	d, err := decision.Open(s.Keys, seal)
	switch {
	case err != nil:
		return nil, status.Error(codes.Unauthenticated, err.Error())
	case d.VirtualServer != s.VirtualServer:
		return nil, status.Error(codes.Unauthenticated, "sealed for another virtual server")
	case d.ExpiresAt != 0 && time.Now().Unix() >= d.ExpiresAt:
		return nil, status.Error(codes.Unauthenticated, "the token has expired")
	case s.Revoked == nil || len(d.TokenPayload) == 0:
		return d, nil
	case s.Revoked.Ready() != nil:
		return nil, status.Error(codes.Unavailable, "nothing is heard about revocations")
	case s.Revoked.RevokedPayload(d.TokenPayload):
		return nil, status.Error(codes.Unauthenticated, "the token was revoked")
	}
	return d, nil
}

func (s *Server) list(ctx context.Context, digest string, kind mcpwire.ItemKind) (*engine.Snapshot, []*policy.Prepared, error) {
	deadline := time.Now().Add(catalogWait)
	for {
		if snap := s.Engine.Snapshot(); snap != nil {
			if l, ok := snap.List(digest, kind); ok {
				return snap, l, nil
			}
		}
		if time.Now().After(deadline) {
			return nil, nil, status.Error(codes.Unavailable, "unknown catalog digest")
		}
		select {
		case <-ctx.Done():
			return nil, nil, status.FromContextError(ctx.Err()).Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}
