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

	"github.com/google/go-cmp/cmp"

	"vmcp/internal/keyring"
)

func ring(t testing.TB) *keyring.Ring {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "keys")
	if err := keyring.Ensure(dir); err != nil {
		t.Fatal(err)
	}
	r, err := keyring.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSQLite(t *testing.T) {
	contract(t, func(t *testing.T) *DB {
		d, err := Open(filepath.Join(t.TempDir(), "test.db"), ring(t))
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

func testClients(t *testing.T, d *DB) {
	c := &Client{ID: "c1", Name: "One", RedirectURIs: []string{"https://a/1", "http://localhost/2"}, Refresh: true, Scopes: []string{"openid", "email"},
		AuthMethod: "none", ApplicationType: "native", Created: now, Expires: now.Add(time.Hour)}
	must(t, d.AddClient(t.Context(), c, 10))
	got, err := d.Client(t.Context(), "c1", now)
	must(t, err)
	if diff := cmp.Diff(got, c); diff != "" {
		t.Error(diff)
	}
	_, err = d.Client(t.Context(), "c2", now)
	wantErr(t, err, ErrNotFound)
	_, err = d.Client(t.Context(), "c1", now.Add(time.Hour))
	wantErr(t, err, ErrNotFound)
	must(t, d.UseClient(t.Context(), "c1", now, now.Add(3*time.Hour)))
	must(t, d.UseClient(t.Context(), "c1", now, now.Add(2*time.Hour))) // never shorter
	got, err = d.Client(t.Context(), "c1", now.Add(2*time.Hour))
	must(t, err)
	if !got.Used.Equal(now) {
		t.Errorf("used %v, want %v", got.Used, now)
	}
}

func testClientsFull(t *testing.T, d *DB) {
	add := func(id string, age time.Duration) error {
		return d.AddClient(t.Context(), &Client{ID: id, Created: now.Add(-age), Expires: now.Add(time.Hour)}, 3)
	}
	must(t, add("oldest", 3*time.Minute))
	must(t, add("second", 2*time.Minute))
	must(t, add("third", time.Minute))
	must(t, d.UseClient(t.Context(), "oldest", now, now.Add(time.Hour)))
	must(t, add("fourth", 0))
	for id, there := range map[string]bool{"oldest": true, "second": false, "third": true, "fourth": true} {
		if _, err := d.Client(t.Context(), id, now); (err == nil) != there {
			t.Errorf("%s: %v, want there %t", id, err, there)
		}
	}
	for _, id := range []string{"third", "fourth"} {
		must(t, d.UseClient(t.Context(), id, now, now.Add(time.Hour)))
	}
	wantErr(t, add("fifth", 0), ErrFull)
}

func testBrowsers(t *testing.T, d *DB) {
	ctx := t.Context()
	b, err := d.AddBrowser(ctx, "cookie", now.Add(time.Hour), 10)
	must(t, err)
	got, err := d.Browser(ctx, "cookie", now)
	must(t, err)
	if diff := cmp.Diff(got, b); diff != "" {
		t.Error(diff)
	}
	_, err = d.Browser(ctx, "cookie", now.Add(time.Hour))
	wantErr(t, err, ErrNotFound)
	must(t, d.RenewBrowser(ctx, b.ID, "other", now.Add(time.Hour)))
	_, err = d.Browser(ctx, "cookie", now)
	wantErr(t, err, ErrNotFound)
	_, err = d.Browser(ctx, "other", now)
	must(t, err)

	agreed := func(client, digest string) bool {
		t.Helper()
		ok, err := d.Consented(ctx, b.ID, client, []byte(digest))
		must(t, err)
		return ok
	}
	must(t, d.SignIn(ctx, b.ID, "ann", "c1", "https://a", []byte("x")))
	must(t, d.SignIn(ctx, b.ID, "ann", "c2", "https://a", []byte("y")))
	if !agreed("c1", "x") || !agreed("c2", "y") || agreed("c1", "y") || agreed("c3", "x") {
		t.Error("consents of one person are mixed up")
	}
	for _, tt := range []struct {
		client, redirect string
		want             bool
	}{{"c1", "https://a", true}, {"c1", "https://b", false}, {"c3", "https://a", false}} {
		if got, err := d.Agreed(ctx, b.ID, tt.client, tt.redirect); got != tt.want || err != nil {
			t.Errorf("%s at %s: agreed %t, %v", tt.client, tt.redirect, got, err)
		}
	}
	must(t, d.SignIn(ctx, b.ID, "bob", "c2", "https://a", []byte("y")))
	if agreed("c1", "x") || !agreed("c2", "y") {
		t.Error("another person has the consents of the one before")
	}
	must(t, d.SwitchPerson(ctx, b.ID, "bob"))
	if !agreed("c2", "y") {
		t.Error("the same person again lost a consent")
	}
	must(t, d.SwitchPerson(ctx, b.ID, "ann"))
	if agreed("c2", "y") {
		t.Error("a consent outlived the change of persons")
	}
}

func testPending(t *testing.T, d *DB) {
	ctx := t.Context()
	b, err := d.AddBrowser(ctx, "cookie", now.Add(time.Hour), 10)
	must(t, err)
	p := &Pending{Browser: b.ID, Request: "a=b", Approved: true, KeyID: "k", Expires: now.Add(time.Minute)}
	must(t, d.AddPending(ctx, "state", p, 10))
	got, err := d.TakePending(ctx, "state", now)
	must(t, err)
	if diff := cmp.Diff(got, p); diff != "" {
		t.Error(diff)
	}
	_, err = d.TakePending(ctx, "state", now)
	wantErr(t, err, ErrNotFound)
	must(t, d.AddPending(ctx, "late", p, 10))
	_, err = d.TakePending(ctx, "late", now.Add(time.Minute))
	wantErr(t, err, ErrNotFound)
}

func testPendingBounded(t *testing.T, d *DB) {
	ctx := t.Context()
	one, err := d.AddBrowser(ctx, "one", now.Add(time.Hour), 10)
	must(t, err)
	for i := range 30 {
		must(t, d.AddPending(ctx, fmt.Sprint(i), &Pending{Browser: one.ID, Expires: now.Add(time.Duration(i) * time.Minute)}, 12))
	}
	_, err = d.TakePending(ctx, "19", now)
	wantErr(t, err, ErrNotFound)
	_, err = d.TakePending(ctx, "20", now)
	must(t, err)
	two, err := d.AddBrowser(ctx, "two", now.Add(time.Hour), 10)
	must(t, err)
	for i := range 4 { // of 9 + 4 rows the oldest goes
		must(t, d.AddPending(ctx, fmt.Sprint("two", i), &Pending{Browser: two.ID, Expires: now.Add(time.Hour)}, 12))
	}
	_, err = d.TakePending(ctx, "21", now)
	wantErr(t, err, ErrNotFound)
	for _, state := range []string{"22", "29", "two3"} {
		_, err = d.TakePending(ctx, state, now)
		must(t, err)
	}
}

// T24: browsers of strangers are bounded, the oldest goes; those of people stay.
func testBrowsersBounded(t *testing.T, d *DB) {
	ctx := t.Context()
	known, err := d.AddBrowser(ctx, "known", now.Add(time.Minute), 3)
	must(t, err)
	must(t, d.SwitchPerson(ctx, known.ID, "ann"))
	for i := range 5 {
		_, err := d.AddBrowser(ctx, fmt.Sprint(i), now.Add(time.Duration(i+2)*time.Minute), 3)
		must(t, err)
	}
	for cookie, there := range map[string]bool{"known": true, "0": false, "1": false, "2": true, "3": true, "4": true} {
		if _, err := d.Browser(ctx, cookie, now); (err == nil) != there {
			t.Errorf("%s: %v, want there %t", cookie, err, there)
		}
	}
}

func family(tsid string) *Family {
	return &Family{TSID: tsid, ClientID: "c1", Sub: "ann", Scopes: []string{"openid", "email"}, Audience: "https://mcp", RedirectURI: "http://localhost:1/cb",
		AuthTime: now, Expires: now.Add(24 * time.Hour)}
}

func testCodes(t *testing.T, d *DB) {
	ctx := t.Context()
	must(t, d.AddCode(ctx, "code", now.Add(time.Minute), family("f1")))
	must(t, d.SetChallenge(ctx, "code", "challenge"))
	got, err := d.Code(ctx, "code", now)
	must(t, err)
	if diff := cmp.Diff(got, &Code{Challenge: "challenge", Expires: now.Add(time.Minute), Family: *family("f1")}); diff != "" {
		t.Error(diff)
	}
	_, err = d.Code(ctx, "code", now.Add(time.Minute))
	wantErr(t, err, ErrNotFound)

	challenge, err := d.TakeChallenge(ctx, "code", now)
	must(t, err)
	if challenge != "challenge" {
		t.Errorf("challenge %q", challenge)
	}
	_, err = d.TakeChallenge(ctx, "code", now)
	wantErr(t, err, ErrNotFound)

	wantErr(t, d.UseCode(ctx, "code", now.Add(time.Minute)), ErrTaken) // expired
	must(t, d.UseCode(ctx, "code", now))
	wantErr(t, d.UseCode(ctx, "code", now), ErrTaken)
	got, err = d.Code(ctx, "code", now.Add(time.Hour)) // a used one is remembered
	must(t, err)
	if !got.Used.Equal(now) {
		t.Errorf("used %v, want %v", got.Used, now)
	}

	must(t, d.AddCode(ctx, "code 2", now.Add(time.Minute), family("f2")))
	_, err = d.EndFamily(ctx, "f2", "test", now, now)
	must(t, err)
	wantErr(t, d.UseCode(ctx, "code 2", now), ErrTaken)
}

func testRefreshTokens(t *testing.T, d *DB) {
	ctx := t.Context()
	must(t, d.AddCode(ctx, "code", now.Add(time.Minute), family("f1")))
	must(t, d.AddRefreshToken(ctx, "r1", "f1", now.Add(time.Hour)))
	got, err := d.RefreshToken(ctx, "r1")
	must(t, err)
	if diff := cmp.Diff(got, &RefreshToken{Expires: now.Add(time.Hour), Family: *family("f1")}); diff != "" {
		t.Error(diff)
	}
	wantErr(t, d.SetSuccessor(ctx, "r1", []byte("x")), ErrNotFound) // not rotated
	must(t, d.RotateRefreshToken(ctx, "r1", now))
	wantErr(t, d.RotateRefreshToken(ctx, "r1", now), ErrTaken)
	must(t, d.SetSuccessor(ctx, "r1", []byte("sealed")))
	got, err = d.RefreshToken(ctx, "r1")
	must(t, err)
	if !got.Rotated.Equal(now) || string(got.Successor) != "sealed" {
		t.Errorf("rotated token: %+v", got)
	}
	// Never beyond the end of the sign-in.
	must(t, d.AddRefreshToken(ctx, "r2", "f1", now.Add(1000*time.Hour)))
	got, err = d.RefreshToken(ctx, "r2")
	must(t, err)
	if !got.Expires.Equal(now.Add(24 * time.Hour)) {
		t.Errorf("expires %v", got.Expires)
	}
	_, err = d.RefreshToken(ctx, "none")
	wantErr(t, err, ErrNotFound)
	wantErr(t, d.AddRefreshToken(ctx, "r3", "none", now.Add(time.Hour)), ErrTaken)
}

func testEnd(t *testing.T, d *DB) {
	ctx := t.Context()
	must(t, d.AddCode(ctx, "code", now.Add(time.Minute), family("f1")))
	must(t, d.AddRefreshToken(ctx, "r1", "f1", now.Add(time.Hour)))
	must(t, d.RotateRefreshToken(ctx, "r1", now))
	must(t, d.SetSuccessor(ctx, "r1", []byte("sealed")))
	must(t, d.AddRefreshToken(ctx, "r2", "f1", now.Add(time.Hour)))
	ended, err := d.EndFamily(ctx, "f1", "test", now, now.Add(time.Hour))
	must(t, err)
	if !ended {
		t.Error("not ended")
	}
	if ended, err = d.EndFamily(ctx, "f1", "test", now, now.Add(time.Hour)); ended || err != nil {
		t.Errorf("ended twice: %t, %v", ended, err)
	}
	wantErr(t, d.RotateRefreshToken(ctx, "r2", now), ErrTaken)
	wantErr(t, d.AddRefreshToken(ctx, "r3", "f1", now.Add(time.Hour)), ErrTaken)
	got, err := d.RefreshToken(ctx, "r1")
	must(t, err)
	if got.Successor != nil || !got.Family.Ended.Equal(now) {
		t.Errorf("token of an ended family: %+v", got)
	}
	list, err := d.RevocationsAfter(ctx, 0, now)
	must(t, err)
	if diff := cmp.Diff(list, []Revocation{{Seq: 1, Kind: RevokedSession, Value: "f1", Revoked: now, Forget: now.Add(time.Hour)}}); diff != "" {
		t.Error(diff)
	}
}

func testGrants(t *testing.T, d *DB) {
	ctx := t.Context()
	must(t, d.AddCode(ctx, "code 1", now.Add(time.Minute), family("f1")))
	must(t, d.AddCode(ctx, "code 2", now.Add(time.Minute), family("f2"))) // the same person
	g := &Grant{TSID: "f1", TID: "t", OID: "o", Name: "Ann", Email: "ann@example.com", Roles: []string{"a", "b"}, RefreshToken: "canary-upstream", Checked: now}
	must(t, d.SetGrant(ctx, g))
	got, err := d.Grant(ctx, "f1")
	must(t, err)
	if diff := cmp.Diff(got, g); diff != "" {
		t.Error(diff)
	}
	g.Roles, g.RefreshToken = []string{}, ""
	must(t, d.SetGrant(ctx, g))
	got, err = d.Grant(ctx, "f1")
	must(t, err)
	if diff := cmp.Diff(got, g); diff != "" {
		t.Error(diff)
	}
	_, err = d.Grant(ctx, "f2")
	wantErr(t, err, ErrNotFound)

	// A sealed value belongs to its row (T70).
	g.RefreshToken = "canary-upstream"
	must(t, d.SetGrant(ctx, g))
	must(t, d.SetGrant(ctx, &Grant{TSID: "f2", RefreshToken: "other", Checked: now}))
	_, err = d.exec(ctx, "UPDATE grants SET refresh_token = (SELECT refresh_token FROM grants WHERE tsid = 'f1') WHERE tsid = 'f2'")
	must(t, err)
	if got, err := d.Grant(ctx, "f2"); err == nil {
		t.Errorf("a value of another row opens: %q", got.RefreshToken)
	}
	_, err = d.exec(ctx, "UPDATE grants SET refresh_token = substr(refresh_token, 1, 5)")
	must(t, err)
	if _, err := d.Grant(ctx, "f1"); err == nil {
		t.Error("a cut value opens")
	}

	// What has ended keeps nothing, and gets nothing.
	_, err = d.EndFamily(ctx, "f1", "test", now, now)
	must(t, err)
	_, err = d.Grant(ctx, "f1")
	wantErr(t, err, ErrNotFound)
	wantErr(t, d.SetGrant(ctx, g), ErrTaken)
}

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
	dir, keys := t.TempDir(), ring(t)
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
	d, err := Open(file, ring(t))
	must(t, err)
	_, err = d.exec(t.Context(), "PRAGMA user_version = 99")
	must(t, err)
	must(t, d.Close())
	if _, err := Open(file, ring(t)); err == nil || !strings.Contains(err.Error(), "newer") {
		t.Errorf("a newer schema: %v", err)
	}
}
