// Package feed tells authz what it must know at once: which keys sign, and what is revoked. It owns the two streams of
// proto/gateway/v1; keys and revocations themselves are kept by signing and store.
package feed

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	gatewayv1 "vmcp/proto/gateway/v1"
	"vmcp/services/authserver/internal/signing"
	"vmcp/services/authserver/internal/store"
)

// heartbeat is how often a stream says something, at the latest. authz counts on 2 s. It is also how soon a revocation
// is seen that another replica wrote.
const heartbeat = time.Second

// Keys implements gateway.v1.Keys.
type Keys struct {
	gatewayv1.UnimplementedKeysServer
	Signing *signing.Keys
	Done    <-chan struct{} // closed when the service stops: the streams end
}

// Watch sends the key set, and again when it changes.
func (k *Keys) Watch(_ *gatewayv1.WatchKeysRequest, stream grpc.ServerStreamingServer[gatewayv1.KeysUpdate]) error {
	last := ""
	for {
		changed := k.Signing.Changed() // before reading
		jwks, etag := k.Signing.JWKS()
		up := &gatewayv1.KeysUpdate{}
		if etag != last {
			up.Jwks, last = jwks, etag
		}
		if err := stream.Send(up); err != nil {
			return err
		}
		if err := wait(stream.Context(), k.Done, changed); err != nil {
			return err
		}
	}
}

// Revocations implements gateway.v1.Revocations.
type Revocations struct {
	gatewayv1.UnimplementedRevocationsServer
	Store *store.DB
	Done  <-chan struct{}
}

// most revocations in one message; each is below 200 bytes, a message may have 4 MiB.
const most = 5000

// Watch sends all revocations that matter, then the new ones.
func (f *Revocations) Watch(_ *gatewayv1.WatchRevocationsRequest, stream grpc.ServerStreamingServer[gatewayv1.RevocationsUpdate]) error {
	var seq int64
	complete := false
	for {
		changed := f.Store.Revoked() // before reading
		list, err := f.Store.RevocationsAfter(stream.Context(), seq, time.Now())
		if err != nil {
			return status.Error(codes.Unavailable, "reading revocations")
		}
		for {
			up := &gatewayv1.RevocationsUpdate{}
			for _, r := range list[:min(most, len(list))] {
				seq = r.Seq
				up.Revocations = append(up.Revocations, message(r))
			}
			list = list[len(up.Revocations):]
			if len(list) == 0 && !complete {
				up.SnapshotComplete, complete = true, true
			}
			if err := stream.Send(up); err != nil {
				return err
			}
			if len(list) == 0 {
				break
			}
		}
		if err := wait(stream.Context(), f.Done, changed); err != nil {
			return err
		}
	}
}

func message(r store.Revocation) *gatewayv1.Revocation {
	m := &gatewayv1.Revocation{RevokedAtMs: r.Revoked.UnixMilli(), ForgetAtMs: r.Forget.UnixMilli()}
	switch r.Kind {
	case store.RevokedSession:
		m.What = &gatewayv1.Revocation_Tsid{Tsid: r.Value}
	case store.RevokedToken:
		m.What = &gatewayv1.Revocation_Jti{Jti: r.Value}
	case store.RevokedPerson:
		m.What = &gatewayv1.Revocation_Sub{Sub: r.Value}
	case store.RevokedClient:
		m.What = &gatewayv1.Revocation_ClientId{ClientId: r.Value}
	}
	return m
}

// wait returns after a heartbeat or when changed is closed; its error ends the stream.
func wait(ctx context.Context, done, changed <-chan struct{}) error {
	timer := time.NewTimer(heartbeat)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-changed:
	case <-done:
		return status.Error(codes.Unavailable, "stopping")
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
	return nil
}
