package revocation

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"vmcp/internal/await"
	gatewayv1 "vmcp/proto/gateway/v1"
)

// feed is authserver's side: it sends what it is given to every watcher.
type feed struct {
	updates chan *gatewayv1.RevocationsUpdate
}

func (f *feed) watchRevocations(stream grpc.ServerStreamingServer[gatewayv1.RevocationsUpdate]) error {
	for {
		select {
		case up := <-f.updates:
			if up == nil {
				return errors.New("gone")
			}
			if err := stream.Send(up); err != nil {
				return err
			}
		case <-stream.Context().Done():
			return nil
		}
	}
}

type revocations struct {
	gatewayv1.UnimplementedRevocationsServer
	*feed
}

func (r revocations) Watch(_ *gatewayv1.WatchRevocationsRequest, stream grpc.ServerStreamingServer[gatewayv1.RevocationsUpdate]) error {
	return r.watchRevocations(stream)
}

func serve(t *testing.T) (*feed, *grpc.ClientConn) {
	t.Helper()
	f := &feed{updates: make(chan *gatewayv1.RevocationsUpdate)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	gatewayv1.RegisterRevocationsServer(s, revocations{feed: f})
	var serving sync.WaitGroup
	serving.Go(func() { s.Serve(l) })
	t.Cleanup(func() { s.Stop(); serving.Wait() })
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return f, conn
}

func watch(t *testing.T, l *List, conn *grpc.ClientConn) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(func() { l.Watch(ctx, conn) })
	stop = sync.OnceFunc(func() { cancel(); watching.Wait() })
	t.Cleanup(stop)
	return stop
}

var now = time.Now()

func revoked(what *gatewayv1.Revocation) *gatewayv1.Revocation {
	what.RevokedAtMs, what.ForgetAtMs = now.UnixMilli(), now.Add(time.Hour).UnixMilli()
	return what
}

func tsid(v string) *gatewayv1.Revocation {
	return revoked(&gatewayv1.Revocation{What: &gatewayv1.Revocation_Tsid{Tsid: v}})
}

func TestWatch(t *testing.T) {
	f, conn := serve(t)
	l := New(Config{Log: zap.NewNop()})
	watch(t, l, conn)
	f.updates <- &gatewayv1.RevocationsUpdate{Revocations: []*gatewayv1.Revocation{tsid("s1")}}
	f.updates <- &gatewayv1.RevocationsUpdate{Revocations: []*gatewayv1.Revocation{tsid("s2"), {}}, SnapshotComplete: true}
	f.updates <- &gatewayv1.RevocationsUpdate{}
	f.updates <- &gatewayv1.RevocationsUpdate{Revocations: []*gatewayv1.Revocation{
		revoked(&gatewayv1.Revocation{What: &gatewayv1.Revocation_Jti{Jti: "j1"}}),
		revoked(&gatewayv1.Revocation{What: &gatewayv1.Revocation_Sub{Sub: "ann"}}),
		revoked(&gatewayv1.Revocation{What: &gatewayv1.Revocation_ClientId{ClientId: "c1"}}),
	}}
	f.updates <- &gatewayv1.RevocationsUpdate{} // now the one before was taken in
	before, after := now.Add(-time.Minute).Truncate(time.Second), now.Add(2*time.Second)
	for _, tt := range []struct {
		t    Token
		want bool
	}{
		{Token{TSID: "s1", IssuedAt: after}, true}, {Token{TSID: "s2", IssuedAt: before}, true}, {Token{TSID: "s3", IssuedAt: before}, false},
		{Token{JTI: "j1", IssuedAt: after}, true}, {Token{JTI: "s1", IssuedAt: before}, false}, {Token{}, false},
		{Token{Subject: "ann", IssuedAt: before}, true}, {Token{Subject: "ann", IssuedAt: after}, false}, {Token{Subject: "bob", IssuedAt: before}, false},
		{Token{Subject: "ann"}, true}, {Token{ClientID: "c1", IssuedAt: before}, true}, {Token{ClientID: "c1", IssuedAt: after}, false},
		{Token{TSID: "s3", JTI: "j3", Subject: "bob", ClientID: "c1", IssuedAt: before}, true},
	} {
		await.That(t, fmt.Sprintf("%+v: %t", tt.t, tt.want), func() bool { return l.Revoked(tt.t) == tt.want })
		payload := fmt.Sprintf(`{"tsid":%q,"jti":%q,"sub":%q,"client_id":%q,"iat":%d}`, tt.t.TSID, tt.t.JTI, tt.t.Subject, tt.t.ClientID, tt.t.IssuedAt.Unix())
		if got := l.RevokedPayload([]byte(payload)); got != tt.want {
			t.Errorf("%s: %t", payload, got)
		}
	}
	if !l.RevokedPayload([]byte("{")) {
		t.Error("a payload that cannot be read is let in")
	}
}

// A half snapshot does not count, and a broken stream is begun again.
func TestReconnect(t *testing.T) {
	f, conn := serve(t)
	l := New(Config{Log: zap.NewNop()})
	watch(t, l, conn)
	f.updates <- &gatewayv1.RevocationsUpdate{Revocations: []*gatewayv1.Revocation{tsid("s1")}, SnapshotComplete: true}
	await.That(t, "the snapshot", func() bool { return l.Revoked(Token{TSID: "s1"}) })
	f.updates <- nil
	// What the new snapshot does not have stays until its time.
	f.updates <- &gatewayv1.RevocationsUpdate{Revocations: []*gatewayv1.Revocation{tsid("s2")}, SnapshotComplete: true}
	await.That(t, "the next snapshot", func() bool { return l.Revoked(Token{TSID: "s2"}) })
	if !l.Revoked(Token{TSID: "s1"}) {
		t.Error("a revocation is forgotten before its time")
	}
}

// T55: what was revoked stays so over a restart without authserver, and is forgotten in time.
func TestKept(t *testing.T) {
	f, conn := serve(t)
	file := filepath.Join(t.TempDir(), "revocations.json")
	l := New(Config{File: file, Log: zap.NewNop()})
	stop := watch(t, l, conn)
	short := tsid("short")
	short.ForgetAtMs = now.Add(-time.Second).UnixMilli()
	f.updates <- &gatewayv1.RevocationsUpdate{Revocations: []*gatewayv1.Revocation{tsid("s1"), short}, SnapshotComplete: true}
	await.That(t, "the snapshot", func() bool { return l.Revoked(Token{TSID: "s1"}) })
	if l.Revoked(Token{TSID: "short"}) {
		t.Error("what may be forgotten is kept")
	}
	f.updates <- &gatewayv1.RevocationsUpdate{}
	stop()
	again := New(Config{File: file, Log: zap.NewNop()})
	if !again.Revoked(Token{TSID: "s1"}) || again.Revoked(Token{TSID: "s2"}) {
		t.Error("the kept list is not the one before")
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if New(Config{File: file, Log: zap.NewNop()}).Revoked(Token{TSID: "s1"}) {
		t.Error("a broken file says something")
	}
}

// T55: nobody is let in before a whole list is there, or when the last word of authserver is too long ago; a restart makes
// neither better.
func TestSilence(t *testing.T) {
	const limit = time.Minute
	f, conn := serve(t)
	cfg := Config{File: filepath.Join(t.TempDir(), "revocations.json"), Silence: limit, Log: zap.NewNop()}
	l := New(cfg)
	stop := watch(t, l, conn)
	f.updates <- &gatewayv1.RevocationsUpdate{Revocations: []*gatewayv1.Revocation{tsid("s1")}}
	for _, before := range []*List{l, New(cfg), New(Config{Log: zap.NewNop()})} {
		if before.Ready() == nil {
			t.Error("ready before the first list")
		}
	}
	f.updates <- &gatewayv1.RevocationsUpdate{SnapshotComplete: true}
	await.That(t, "the first list", func() bool { return l.Ready() == nil })
	stop()
	l.heard = l.heard.Add(-limit)
	if err := l.Ready(); err == nil || !strings.Contains(err.Error(), "revocations") {
		t.Errorf("a silent feed: %v", err)
	}
	for age, want := range map[time.Duration]bool{0: true, limit / 2: true, limit: false, -limit: false} { // of the kept word
		l.heard = time.Now().Add(-age)
		if err := l.save(); err != nil {
			t.Fatal(err)
		}
		if err := New(cfg).Ready(); (err == nil) != want {
			t.Errorf("restarted %v after the last word: %v, want ready %t", age, err, want)
		}
		unlimited := cfg
		unlimited.Silence = 0
		if err := New(unlimited).Ready(); (err == nil) != (age >= 0) {
			t.Errorf("restarted %v after the last word, without a limit: %v", age, err)
		}
	}
}

// What an idle feed says last is kept now and then, so that a restart after a quiet day is not a silent day.
func TestHeardIsKept(t *testing.T) {
	cfg := Config{File: filepath.Join(t.TempDir(), "revocations.json"), Silence: time.Minute, Log: zap.NewNop()}
	l := New(cfg)
	l.merge(nil)
	l.saved = l.saved.Add(-time.Hour)
	if err := os.Remove(cfg.File); err != nil {
		t.Fatal(err)
	}
	l.merge(nil)
	if err := New(cfg).Ready(); err != nil {
		t.Error(err)
	}
}
