package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"vmcp/internal/keyring/keyringtest"

	"github.com/google/go-cmp/cmp"
)

func TestSQLite(t *testing.T) {
	contract(t, func(t *testing.T) *DB {
		d, err := Open(filepath.Join(t.TempDir(), "test.db"), keyringtest.New(t))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
		return d
	})
}

// contract is what every store must hold.
func contract(t *testing.T, open func(*testing.T) *DB) {
	for name, test := range map[string]func(*testing.T, *DB){
		"clients": testClients, "clients full": testClientsFull, "browsers": testBrowsers, "browsers bounded": testBrowsersBounded, "pending": testPending, "pending bounded": testPendingBounded,
		"codes": testCodes, "refresh tokens": testRefreshTokens, "families end": testEnd, "grants": testGrants, "revocations": testRevocations,
		"signing keys": testSigningKeys, "keys of the documents": testConfiguredKeys, "transactions": testTransactions, "races": testRaces, "cleaning": testClean,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

var now = time.Now().Truncate(time.Microsecond)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// T24: browsers of strangers are bounded, the oldest goes; those of people stay.
func testRevocations(t *testing.T, d *DB) {
	ctx := t.Context()
	changed := d.Revoked()
	must(t, d.Revoke(ctx, Revocation{Kind: RevokedToken, Value: "j1", Revoked: now, Forget: now.Add(time.Minute)}))
	<-changed
	must(t, d.Revoke(ctx, Revocation{Kind: RevokedPerson, Value: "ann", Revoked: now, Forget: now.Add(time.Hour)}))
	list, err := d.RevocationsAfter(ctx, 0, now)
	must(t, err)
	if len(list) != 2 || list[0].Value != "j1" || list[1].Value != "ann" {
		t.Errorf("%+v", list)
	}
	list, err = d.RevocationsAfter(ctx, list[0].Seq, now)
	must(t, err)
	if len(list) != 1 || list[0].Value != "ann" {
		t.Errorf("%+v", list)
	}
	list, err = d.RevocationsAfter(ctx, 0, now.Add(time.Minute))
	must(t, err)
	if len(list) != 1 {
		t.Errorf("what may be forgotten is told: %+v", list)
	}
	// Sequence numbers are never used again: a watcher would miss the second.
	last := list[0].Seq
	must(t, d.Clean(ctx, now.Add(2*time.Hour)))
	must(t, d.Revoke(ctx, Revocation{Kind: RevokedToken, Value: "j2", Revoked: now, Forget: now.Add(time.Hour)}))
	list, err = d.RevocationsAfter(ctx, last, now)
	must(t, err)
	if len(list) != 1 {
		t.Errorf("a number was used again: %+v", list)
	}
	// Inside a transaction nobody is woken before it ends.
	changed = d.Revoked()
	must(t, d.Tx(ctx, func(ctx context.Context) error {
		must(t, d.Revoke(ctx, Revocation{Kind: RevokedToken, Value: "j3", Revoked: now, Forget: now.Add(time.Hour)}))
		select {
		case <-changed:
			t.Error("woken before the commit")
		default:
		}
		return nil
	}))
	<-changed
}

func testSigningKeys(t *testing.T, d *DB) {
	ctx := t.Context()
	one, two := &SigningKey{KID: "k1", Private: []byte("canary-private-1"), Active: now}, &SigningKey{KID: "k2", Private: []byte("canary-private-2"), Active: now.Add(time.Hour)}
	must(t, d.AddSigningKey(ctx, one, ""))
	must(t, d.AddSigningKey(ctx, two, "k1"))
	wantErr(t, d.AddSigningKey(ctx, &SigningKey{KID: "k3", Active: now.Add(2 * time.Hour)}, "k1"), ErrTaken)
	wantErr(t, d.AddSigningKey(ctx, &SigningKey{KID: "k3", Active: now.Add(2 * time.Hour)}, ""), ErrTaken)
	list, err := d.SigningKeys(ctx)
	must(t, err)
	if diff := cmp.Diff(list, []SigningKey{*one, *two}); diff != "" {
		t.Error(diff)
	}
	must(t, d.DeleteSigningKey(ctx, "k1"))
	list, err = d.SigningKeys(ctx)
	must(t, err)
	if len(list) != 1 || list[0].KID != "k2" {
		t.Errorf("%+v", list)
	}
}

func testConfiguredKeys(t *testing.T, d *DB) {
	ctx := t.Context()
	older, newer := ConfiguredKey{KID: "a", JWK: "{}", Seen: now.Add(-time.Hour)}, ConfiguredKey{KID: "b", JWK: "{}", Seen: now}
	for _, k := range []ConfiguredKey{older, newer} {
		must(t, d.SetConfiguredKey(ctx, &k))
	}
	older.Gone = now
	must(t, d.SetConfiguredKey(ctx, &older))
	for _, want := range [][]ConfiguredKey{{newer, older}, {older}} {
		got, err := d.ConfiguredKeys(ctx)
		must(t, err)
		if diff := cmp.Diff(got, want); diff != "" {
			t.Error(diff)
		}
		must(t, d.DeleteConfiguredKey(ctx, "b"))
	}
}

func testTransactions(t *testing.T, d *DB) {
	ctx := t.Context()
	stop := errors.New("stop")
	wantErr(t, d.Tx(ctx, func(ctx context.Context) error {
		must(t, d.AddCode(ctx, "c1", now.Add(time.Minute), family("f1")))
		if _, err := d.Code(ctx, "c1", now); err != nil {
			t.Errorf("not seen inside: %v", err)
		}
		if _, err := d.Code(t.Context(), "c1", now); !errors.Is(err, ErrNotFound) {
			t.Errorf("seen outside: %v", err)
		}
		return stop
	}), stop)
	_, err := d.Code(ctx, "c1", now)
	wantErr(t, err, ErrNotFound)

	// What is rolled back inside takes the outside along, whatever the outside thinks.
	if err := d.Tx(ctx, func(ctx context.Context) error {
		must(t, d.AddCode(ctx, "c1", now.Add(time.Minute), family("f1")))
		inner, err := d.Begin(ctx)
		must(t, err)
		must(t, d.Rollback(inner))
		return nil
	}); err == nil {
		t.Error("committed although an inner transaction was rolled back")
	}
	_, err = d.Code(ctx, "c1", now)
	wantErr(t, err, ErrNotFound)

	must(t, d.Tx(ctx, func(ctx context.Context) error {
		inner, err := d.Begin(ctx)
		must(t, err)
		must(t, d.AddCode(inner, "c1", now.Add(time.Minute), family("f1")))
		return d.Commit(inner)
	}))
	_, err = d.Code(ctx, "c1", now)
	must(t, err)
}

// Of 64 that want the same, one gets it (A1, A2, A3, A8).
func testRaces(t *testing.T, d *DB) {
	ctx := t.Context()
	b, err := d.AddBrowser(ctx, "cookie", now.Add(time.Hour), 10)
	must(t, err)
	must(t, d.AddCode(ctx, "code", now.Add(time.Hour), family("f1")))
	must(t, d.SetChallenge(ctx, "code", "challenge"))
	must(t, d.AddRefreshToken(ctx, "refresh", "f1", now.Add(time.Hour)))
	must(t, d.AddPending(ctx, "state", &Pending{Browser: b.ID, Expires: now.Add(time.Hour)}, 10))
	for name, try := range map[string]func(i int) error{
		"code":      func(int) error { return d.UseCode(ctx, "code", now) },
		"challenge": func(int) error { _, err := d.TakeChallenge(ctx, "code", now); return err },
		"refresh":   func(int) error { return d.RotateRefreshToken(ctx, "refresh", now) },
		"state":     func(int) error { _, err := d.TakePending(ctx, "state", now); return err },
		"key": func(i int) error {
			return d.AddSigningKey(ctx, &SigningKey{KID: fmt.Sprint(i), Active: now.Add(time.Duration(i))}, "")
		},
		"end": func(int) error {
			if ended, err := d.EndFamily(ctx, "f1", "test", now, now.Add(time.Hour)); err != nil || ended {
				return err
			}
			return ErrTaken
		},
	} {
		if name == "end" {
			defer race(t, name, try) // nothing else works after it
			continue
		}
		race(t, name, try)
	}
}

func race(t *testing.T, name string, try func(i int) error) {
	t.Helper()
	var wg sync.WaitGroup
	var won atomic.Int32
	start := make(chan struct{})
	for i := range 64 {
		wg.Go(func() {
			<-start
			switch err := try(i); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, ErrTaken) && !errors.Is(err, ErrNotFound):
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	close(start)
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%s: %d winners, want 1", name, won.Load())
	}
}

func testClean(t *testing.T, d *DB) {
	ctx := t.Context()
	b, err := d.AddBrowser(ctx, "cookie", now.Add(time.Minute), 10)
	must(t, err)
	must(t, d.SignIn(ctx, b.ID, "ann", "c1", "https://a", []byte("x")))
	must(t, d.AddPending(ctx, "state", &Pending{Browser: b.ID, Expires: now.Add(time.Minute)}, 10))
	must(t, d.AddClient(ctx, &Client{ID: "c1", Created: now, Expires: now.Add(time.Minute)}, 10))
	f := family("f1")
	f.Expires = now.Add(time.Minute)
	must(t, d.AddCode(ctx, "code", now.Add(time.Minute), f))
	must(t, d.AddRefreshToken(ctx, "refresh", "f1", now.Add(time.Minute)))
	must(t, d.SetGrant(ctx, &Grant{TSID: "f1", Checked: now}))
	must(t, d.AddCode(ctx, "unused", now.Add(-time.Second), family("f2")))
	must(t, d.SetGrant(ctx, &Grant{TSID: "f2", Checked: now}))
	must(t, d.Revoke(ctx, Revocation{Kind: RevokedToken, Value: "j", Revoked: now, Forget: now.Add(time.Minute)}))
	count := func() (n int) {
		for _, table := range []string{"browsers", "consents", "pending", "clients", "families", "codes", "refresh_tokens", "grants", "revocations"} {
			var one int
			must(t, d.row(ctx, "SELECT count(*) FROM "+table, nil, &one))
			n += one
		}
		return n
	}
	must(t, d.Clean(ctx, now))
	if got := count(); got != 9+2 { // the family f2 and its code
		t.Errorf("%d rows, want 11", got)
	}
	must(t, d.Clean(ctx, now.Add(24*time.Hour)))
	if got := count(); got != 0 {
		t.Errorf("%d rows after their time, want 0", got)
	}
}

// What lies on disk opens nothing (T70, T71).
func TestNothingInClear(t *testing.T) {
	dir, keys := t.TempDir(), keyringtest.New(t)
	d, err := Open(filepath.Join(dir, "test.db"), keys)
	must(t, err)
	ctx := t.Context()
	canary := func() string { return "canary" + rand.Text() }
	cookie, state, code, refresh, upstream, private := canary(), canary(), canary(), canary(), canary(), canary()
	b, err := d.AddBrowser(ctx, cookie, now.Add(time.Hour), 10)
	must(t, err)
	must(t, d.AddPending(ctx, state, &Pending{Browser: b.ID, Expires: now.Add(time.Hour)}, 10))
	must(t, d.AddCode(ctx, code, now.Add(time.Minute), family("f1")))
	must(t, d.AddRefreshToken(ctx, refresh, "f1", now.Add(time.Hour)))
	must(t, d.SetGrant(ctx, &Grant{TSID: "f1", RefreshToken: upstream, Checked: now}))
	must(t, d.AddSigningKey(ctx, &SigningKey{KID: "k", Private: []byte(private), Active: now}, ""))
	files, err := filepath.Glob(filepath.Join(dir, "*")) // with the write-ahead log
	must(t, err)
	must(t, d.Close())
	more, err := filepath.Glob(filepath.Join(dir, "*"))
	must(t, err)
	files = append(files, more...)
	slices.Sort(files)
	for _, name := range slices.Compact(files) {
		info, err := os.Stat(name)
		if os.IsNotExist(err) {
			continue
		}
		must(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", filepath.Base(name), info.Mode())
		}
		raw, err := os.ReadFile(name)
		must(t, err)
		if bytes.Contains(raw, []byte("canary")) {
			t.Errorf("a secret is in %s", filepath.Base(name))
		}
	}
	// All of it is there after a restart.
	d, err = Open(filepath.Join(dir, "test.db"), keys)
	must(t, err)
	defer d.Close()
	g, err := d.Grant(ctx, "f1")
	must(t, err)
	if g.RefreshToken != upstream {
		t.Error("the upstream token changed")
	}
	_, err = d.Code(ctx, code, now)
	must(t, err)
}

func TestNewerSchema(t *testing.T) {
	file := filepath.Join(t.TempDir(), "test.db")
	d, err := Open(file, keyringtest.New(t))
	must(t, err)
	_, err = d.exec(t.Context(), "PRAGMA user_version = 99")
	must(t, err)
	must(t, d.Close())
	if _, err := Open(file, keyringtest.New(t)); err == nil || !strings.Contains(err.Error(), "newer") {
		t.Errorf("a newer schema: %v", err)
	}
}
