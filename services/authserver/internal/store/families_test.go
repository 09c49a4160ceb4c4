package store

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

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
