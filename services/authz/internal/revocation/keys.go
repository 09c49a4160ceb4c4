package revocation

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"

	gatewayv1 "vmcp/proto/gateway/v1"
)

// WatchKeys gives authserver's signing keys to set, now and at each change, until ctx ends. While authserver is away
// the last ones stay.
func WatchKeys(ctx context.Context, conn grpc.ClientConnInterface, set func(jwks []byte) error, log *zap.Logger) error {
	const most = 2 * time.Second
	wait := 50 * time.Millisecond
	trouble := ""
	for {
		worked, err := watchKeysOnce(ctx, gatewayv1.NewKeysClient(conn), set)
		if ctx.Err() != nil {
			return nil
		}
		if worked {
			wait, trouble = 50*time.Millisecond, ""
		}
		if err.Error() != trouble {
			trouble = err.Error()
			log.Info("watching the signing keys", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		wait = min(2*wait, most)
	}
}

// watchKeysOnce follows one stream to its end and reports whether it brought keys.
func watchKeysOnce(ctx context.Context, feed gatewayv1.KeysClient, set func(jwks []byte) error) (worked bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	silence := time.AfterFunc(warnAfter, cancel)
	defer silence.Stop()
	stream, err := feed.Watch(ctx, &gatewayv1.WatchKeysRequest{})
	if err != nil {
		return false, err
	}
	for {
		up, err := stream.Recv()
		if err != nil {
			if ctx.Err() != nil {
				err = errors.New("no heartbeat for 5 s")
			}
			return worked, err
		}
		silence.Reset(warnAfter)
		if len(up.Jwks) == 0 {
			continue
		}
		if err := set(up.Jwks); err != nil {
			return worked, err
		}
		worked = true
	}
}
