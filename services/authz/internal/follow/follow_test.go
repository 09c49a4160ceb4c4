package follow

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"vmcp/internal/await"
	gatewayv1 "vmcp/proto/gateway/v1"
)

// A script is a stream of which each number is a message that comes after so many seconds. Below zero it ends instead.
type script struct {
	grpc.ServerStreamingClient[int]
	ctx   context.Context
	after []int
}

func (s *script) Recv() (*int, error) {
	if len(s.after) == 0 {
		<-s.ctx.Done()
		return nil, s.ctx.Err()
	}
	n := s.after[0]
	s.after = s.after[1:]
	if n < 0 {
		return nil, io.EOF
	}
	time.Sleep(time.Duration(n) * time.Second)
	return &n, nil
}

// TestStream: when each stream begins, counted from the start, and what is told of the one before.
func TestStream(t *testing.T) {
	refused := errors.New("refused")
	for name, tt := range map[string]struct {
		streams [][]int // nil: cannot be opened
		begin   []time.Duration
		failed  []string
	}{
		"silence":      {[][]int{{1, 9, 9}, {}}, []time.Duration{0, 29*time.Second + 20*time.Millisecond}, []string{"no heartbeat for 10s"}},
		"silent begin": {[][]int{{}, {}}, []time.Duration{0, 10*time.Second + 20*time.Millisecond}, []string{"no heartbeat for 10s"}},
		"pauses": {[][]int{nil, nil, nil, nil, nil, nil, nil, nil, nil, {}},
			[]time.Duration{0, 20e6, 60e6, 140e6, 300e6, 620e6, 1260e6, 2540e6, 4540e6, 6540e6},
			[]string{"away", "away again", "away again", "away again", "away again", "away again", "away again", "away again", "away again"}},
		"worked":  {[][]int{nil, nil, {1, -1}, nil, {}}, []time.Duration{0, 20e6, 60e6, 1080e6, 1120e6}, []string{"away", "away again", "EOF", "away"}},
		"nothing": {[][]int{{0, -1}, {0, -1}, {}}, []time.Duration{0, 20e6, 60e6}, []string{"EOF", "EOF again"}},
		"refused": {[][]int{{1, 2}, {}}, []time.Duration{0, 3*time.Second + 20*time.Millisecond}, []string{"refused"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				var begun []time.Duration
				var failed []string
				ctx, cancel := context.WithCancel(t.Context())
				err := Stream(ctx, 10*time.Second, func(ctx context.Context) (grpc.ServerStreamingClient[int], error) {
					s := tt.streams[len(begun)]
					begun = append(begun, time.Since(start))
					if len(begun) == len(tt.streams) {
						cancel()
					}
					if s == nil {
						return nil, errors.New("away")
					}
					return &script{ctx: ctx, after: s}, nil
				}, func() func(*int) (bool, error) {
					return func(n *int) (bool, error) {
						if *n == 2 {
							return false, refused
						}
						return *n == 1, nil
					}
				}, func(err error, again bool) {
					text := err.Error()
					if again {
						text += " again"
					}
					failed = append(failed, text)
				})
				if err != nil || !slices.Equal(begun, tt.begin) || !slices.Equal(failed, tt.failed) {
					t.Errorf("got %v, %q, %v; want %v, %q", begun, failed, err, tt.begin, tt.failed)
				}
			})
		})
	}
}

// keyFeed is authserver's side: it sends what it is given.
type keyFeed struct {
	gatewayv1.UnimplementedKeysServer
	jwks chan []byte
}

func (f keyFeed) Watch(_ *gatewayv1.WatchKeysRequest, stream grpc.ServerStreamingServer[gatewayv1.KeysUpdate]) error {
	for {
		select {
		case jwks := <-f.jwks:
			if err := stream.Send(&gatewayv1.KeysUpdate{Jwks: jwks}); err != nil {
				return err
			}
		case <-stream.Context().Done():
			return nil
		}
	}
}

func TestKeys(t *testing.T) {
	f := keyFeed{jwks: make(chan []byte)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	gatewayv1.RegisterKeysServer(s, f)
	var serving sync.WaitGroup
	serving.Go(func() { s.Serve(l) })
	t.Cleanup(func() { s.Stop(); serving.Wait() })
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	ctx, cancel := context.WithCancel(t.Context())
	sets := make(chan string)
	done := make(chan error)
	go func() {
		done <- Keys(ctx, conn, func(jwks []byte) error {
			if string(jwks) == "bad" {
				return errors.New("no key in it")
			}
			select {
			case sets <- string(jwks):
			case <-ctx.Done():
			}
			return nil
		}, zap.NewNop())
	}()
	for _, jwks := range []string{"one", "", "bad"} {
		f.jwks <- []byte(jwks)
	}
	if got := <-sets; got != "one" {
		t.Errorf("the first set is %q", got)
	}
	for got := ""; got == ""; { // after a bad set the stream begins anew; the old one may swallow the next
		select {
		case f.jwks <- []byte("two"):
		case got = <-sets:
			if got != "two" {
				t.Errorf("after a bad set: %q", got)
			}
		case <-time.After(await.Limit):
			t.Fatal("the set after a bad one does not come")
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
