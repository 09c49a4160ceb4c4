// Package follow keeps streams of the gateway's other processes open. It owns the beginning again; what the messages
// mean is its callers', but for the signing keys, whose messages say all there is to know.
package follow

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
)

const (
	firstPause   = 20 * time.Millisecond
	longestPause = 2 * time.Second
)

// Stream gives the messages of a stream to a function that begin makes for it, until ctx ends; then it returns nil. It
// opens the next one when a stream ends or breaks, when the function refuses a message, and when nothing comes for
// silence: senders have heartbeats, so the connection is dead.
//
// The function reports whether a message completed what the stream is for. Pauses between streams double until one did.
// failed is told why each ended, and whether that is why the one before did.
func Stream[M any](ctx context.Context, silence time.Duration, open func(context.Context) (grpc.ServerStreamingClient[M], error),
	begin func() func(*M) (worked bool, err error), failed func(err error, again bool)) error {
	pause, last := firstPause, ""
	for {
		worked, err := once(ctx, silence, open, begin())
		if ctx.Err() != nil {
			return nil
		}
		if worked {
			pause, last = firstPause, ""
		}
		failed(err, err.Error() == last)
		last = err.Error()
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, longestPause)
	}
}

func once[M any](ctx context.Context, silence time.Duration, open func(context.Context) (grpc.ServerStreamingClient[M], error),
	take func(*M) (bool, error)) (worked bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	quiet := time.AfterFunc(silence, cancel)
	defer quiet.Stop()
	stream, err := open(ctx)
	for err == nil {
		var m *M
		if m, err = stream.Recv(); err != nil {
			break
		}
		quiet.Reset(silence)
		var complete bool
		complete, err = take(m)
		worked = worked || complete
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("no heartbeat for %v", silence)
	}
	return worked, err
}
