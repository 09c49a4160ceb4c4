package store

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

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
