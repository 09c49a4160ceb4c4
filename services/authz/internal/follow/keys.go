package follow

import (
	"context"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"

	gatewayv1 "vmcp/proto/gateway/v1"
)

// Keys gives authserver's signing keys to set, now and at each change, until ctx ends. While authserver is away the last
// ones stay.
func Keys(ctx context.Context, conn grpc.ClientConnInterface, set func(jwks []byte) error, log *zap.Logger) error {
	client := gatewayv1.NewKeysClient(conn)
	open := func(ctx context.Context) (grpc.ServerStreamingClient[gatewayv1.KeysUpdate], error) {
		return client.Watch(ctx, &gatewayv1.WatchKeysRequest{})
	}
	take := func(up *gatewayv1.KeysUpdate) (bool, error) {
		if len(up.Jwks) == 0 {
			return false, nil
		}
		err := set(up.Jwks)
		return err == nil, err
	}
	return Stream(ctx, 5*time.Second, open, func() func(*gatewayv1.KeysUpdate) (bool, error) { return take }, func(err error, again bool) {
		if !again {
			log.Info("watching the signing keys", zap.Error(err))
		}
	})
}
