package feed

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"vmcp/internal/await"
	"vmcp/internal/keyring/keyringtest"
	gatewayv1 "vmcp/proto/gateway/v1"
	"vmcp/services/authserver/internal/signing"
	"vmcp/services/authserver/internal/store"
)

func serve(t *testing.T) (*grpc.ClientConn, *store.DB, *signing.Keys, func()) {
	t.Helper()
	db, err := store.Open(filepath.Join(t.TempDir(), "test.db"), keyringtest.New(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	keys, err := signing.Open(t.Context(), signing.Config{Store: db, Overlap: time.Hour, Log: zap.NewNop()}, signing.Documents{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	s := grpc.NewServer()
	gatewayv1.RegisterKeysServer(s, &Keys{Signing: keys, Done: done})
	gatewayv1.RegisterRevocationsServer(s, &Revocations{Store: db, Done: done})
	var serving sync.WaitGroup
	serving.Go(func() { s.Serve(l) })
	stop := sync.OnceFunc(func() { close(done); s.GracefulStop(); serving.Wait() })
	t.Cleanup(stop)
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn, db, keys, stop
}

func TestKeys(t *testing.T) {
	conn, _, ring, stop := serve(t)
	ctx, cancel := context.WithTimeout(t.Context(), await.Limit)
	defer cancel()
	stream, err := gatewayv1.NewKeysClient(conn).Watch(ctx, &gatewayv1.WatchKeysRequest{})
	if err != nil {
		t.Fatal(err)
	}
	want, _ := ring.JWKS()
	if up, err := stream.Recv(); err != nil || string(up.Jwks) != string(want) {
		t.Fatalf("first: %v, %v", up, err)
	}
	if up, err := stream.Recv(); err != nil || len(up.Jwks) != 0 {
		t.Errorf("a heartbeat: %v, %v", up, err)
	}
	if err := ring.Update(ctx, time.Now().AddDate(0, 1, 0)); err != nil {
		t.Fatal(err)
	}
	want, _ = ring.JWKS()
	for {
		up, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if len(up.Jwks) > 0 {
			if string(up.Jwks) != string(want) {
				t.Errorf("got %s, want %s", up.Jwks, want)
			}
			break
		}
	}
	stop() // the stream must not hold it up
	for err == nil {
		_, err = stream.Recv()
	}
}

func TestRevocations(t *testing.T) {
	conn, db, _, _ := serve(t)
	ctx, cancel := context.WithTimeout(t.Context(), await.Limit)
	defer cancel()
	now := time.Now()
	add := func(ctx context.Context, kind, value string) {
		t.Helper()
		if err := db.Revoke(ctx, store.Revocation{Kind: kind, Value: value, Revoked: now, Forget: now.Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
	}
	const before = most + 10 // more than one message
	if err := db.Tx(ctx, func(ctx context.Context) error {
		for i := range before {
			add(ctx, store.RevokedToken, fmt.Sprint("j", i))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	stream, err := gatewayv1.NewRevocationsClient(conn).Watch(ctx, &gatewayv1.WatchRevocationsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	seen, complete := 0, false
	for !complete {
		up, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		seen, complete = seen+len(up.Revocations), up.SnapshotComplete
	}
	if seen != before {
		t.Errorf("snapshot of %d, want %d", seen, before)
	}
	for kind, field := range map[string]func(*gatewayv1.Revocation) string{
		store.RevokedSession: (*gatewayv1.Revocation).GetTsid, store.RevokedToken: (*gatewayv1.Revocation).GetJti,
		store.RevokedPerson: (*gatewayv1.Revocation).GetSub, store.RevokedClient: (*gatewayv1.Revocation).GetClientId,
	} {
		add(ctx, kind, "value of "+kind)
		var got []*gatewayv1.Revocation
		for len(got) == 0 {
			up, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			if up.SnapshotComplete {
				t.Error("a second snapshot")
			}
			got = up.Revocations
		}
		if len(got) != 1 || field(got[0]) != "value of "+kind || got[0].RevokedAtMs != now.UnixMilli() || got[0].ForgetAtMs != now.Add(time.Hour).UnixMilli() {
			t.Errorf("%s: got %v", kind, got)
		}
	}
}

// TestWait: news goes out at once, and a sign of life each second.
func TestWait(t *testing.T) {
	closed := make(chan struct{})
	close(closed)
	for changed, want := range map[chan struct{}]time.Duration{closed: 0, nil: heartbeat} {
		synctest.Test(t, func(t *testing.T) {
			begin := time.Now()
			if err := wait(t.Context(), nil, changed); err != nil || time.Since(begin) != want {
				t.Errorf("waited %v: %v, want %v", time.Since(begin), err, want)
			}
		})
	}
}
