package store

import (
	"context"
	"strings"
	"time"
)

// Family is one sign-in of a person in a client: everything that was issued from it has its TSID.
type Family struct {
	TSID        string
	ClientID    string
	Sub         string
	Scopes      []string
	Audience    string
	RedirectURI string
	AuthTime    time.Time
	Expires     time.Time // whatever is refreshed, it ends here
	Ended       time.Time // zero: it has not
}

// Code is an authorization code.
type Code struct {
	Challenge string    // code_challenge, S256
	Used      time.Time // zero: not yet
	Expires   time.Time
	Family    Family
}

// RefreshToken is one refresh token; of a family all but the newest are rotated.
type RefreshToken struct {
	Expires   time.Time
	Rotated   time.Time // zero: not yet
	Successor []byte    // see SetSuccessor
	Family    Family
}

const familyColumns = "f.tsid, f.client_id, f.sub, f.scopes, f.audience, f.redirect_uri, f.auth_time, f.expires_at, coalesce(f.ended_at, 0)"

// familyRow scans familyColumns.
type familyRow struct {
	Family
	scopes                string
	auth, expires, endeds int64
}

func (r *familyRow) into() []any {
	return []any{&r.TSID, &r.ClientID, &r.Sub, &r.scopes, &r.Audience, &r.RedirectURI, &r.auth, &r.expires, &r.endeds}
}

func (r *familyRow) family() Family {
	f := r.Family
	f.Scopes, f.AuthTime, f.Expires, f.Ended = strings.Fields(r.scopes), at(r.auth), at(r.expires), at(r.endeds)
	return f
}

// AddCode starts a family with its code.
func (d *DB) AddCode(ctx context.Context, code string, expires time.Time, f *Family) error {
	return d.Tx(ctx, func(ctx context.Context) error {
		if _, err := d.exec(ctx, "INSERT INTO families VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL)", f.TSID, f.ClientID, f.Sub,
			strings.Join(f.Scopes, " "), f.Audience, f.RedirectURI, micros(f.AuthTime), micros(f.Expires)); err != nil {
			return err
		}
		_, err := d.exec(ctx, "INSERT INTO codes VALUES (?, ?, '', NULL, NULL, ?)", Hash(code), f.TSID, micros(expires))
		return err
	})
}

// SetChallenge binds a code to the client's PKCE challenge.
func (d *DB) SetChallenge(ctx context.Context, code, challenge string) error {
	return d.change(ctx, ErrNotFound, "UPDATE codes SET challenge = ? WHERE hash = ?", challenge, Hash(code))
}

// Code finds a code, used or not. One that has expired unused is not found.
func (d *DB) Code(ctx context.Context, code string, now time.Time) (*Code, error) {
	c, r := &Code{}, familyRow{}
	var used, expires int64
	if err := d.row(ctx, "SELECT c.challenge, coalesce(c.used_at, 0), c.expires_at, "+familyColumns+
		" FROM codes c JOIN families f USING (tsid) WHERE c.hash = ? AND (c.expires_at > ? OR c.used_at IS NOT NULL)",
		[]any{Hash(code), micros(now)}, append([]any{&c.Challenge, &used, &expires}, r.into()...)...); err != nil {
		return nil, err
	}
	c.Used, c.Expires, c.Family = at(used), at(expires), r.family()
	return c, nil
}

// TakeChallenge gives a code's PKCE challenge, once: whoever brings the wrong verifier has spent the code.
func (d *DB) TakeChallenge(ctx context.Context, code string, now time.Time) (string, error) {
	var challenge string
	err := d.take(ctx, "UPDATE codes SET taken_at = ? WHERE hash = ? AND taken_at IS NULL AND challenge <> '' RETURNING challenge",
		[]any{micros(now), Hash(code)}, &challenge)
	return challenge, err
}

// UseCode marks a code used. Only one caller ever gets nil, the others ErrTaken.
func (d *DB) UseCode(ctx context.Context, code string, now time.Time) error {
	return d.change(ctx, ErrTaken, `UPDATE codes SET used_at = ? WHERE hash = ? AND used_at IS NULL AND expires_at > ?
		AND EXISTS (SELECT 1 FROM families f WHERE f.tsid = codes.tsid AND f.ended_at IS NULL)`, micros(now), Hash(code), micros(now))
}

// AddRefreshToken adds the newest token of a family that has not ended, else ErrTaken.
func (d *DB) AddRefreshToken(ctx context.Context, token, tsid string, expires time.Time) error {
	return d.change(ctx, ErrTaken, `INSERT INTO refresh_tokens (hash, tsid, expires_at)
		SELECT ?, tsid, min(?, expires_at) FROM families WHERE tsid = ? AND ended_at IS NULL`, Hash(token), micros(expires), tsid)
}

// RefreshToken finds a token, rotated or not.
func (d *DB) RefreshToken(ctx context.Context, token string) (*RefreshToken, error) {
	t, r := &RefreshToken{}, familyRow{}
	var expires, rotated int64
	if err := d.row(ctx, "SELECT t.expires_at, coalesce(t.rotated_at, 0), t.successor, "+familyColumns+
		" FROM refresh_tokens t JOIN families f USING (tsid) WHERE t.hash = ?", []any{Hash(token)},
		append([]any{&expires, &rotated, &t.Successor}, r.into()...)...); err != nil {
		return nil, err
	}
	t.Expires, t.Rotated, t.Family = at(expires), at(rotated), r.family()
	return t, nil
}

// RotateRefreshToken marks a token as replaced. Only one caller ever gets nil, the others ErrTaken.
func (d *DB) RotateRefreshToken(ctx context.Context, token string, now time.Time) error {
	return d.change(ctx, ErrTaken, `UPDATE refresh_tokens SET rotated_at = ? WHERE hash = ? AND rotated_at IS NULL
		AND EXISTS (SELECT 1 FROM families f WHERE f.tsid = refresh_tokens.tsid AND f.ended_at IS NULL)`, micros(now), Hash(token))
}

// SetSuccessor keeps, for a short grace, what the rotation of token answered. The caller has sealed it so that only who
// has the token can open it.
func (d *DB) SetSuccessor(ctx context.Context, token string, sealed []byte) error {
	return d.change(ctx, ErrNotFound, "UPDATE refresh_tokens SET successor = ? WHERE hash = ? AND rotated_at IS NOT NULL", sealed, Hash(token))
}

// EndFamily ends a family and revokes its access tokens, the last of which expires by forget. reason is for operators.
// It returns false if the family had ended before.
func (d *DB) EndFamily(ctx context.Context, tsid, reason string, now, forget time.Time) (ended bool, err error) {
	err = d.Tx(ctx, func(ctx context.Context) error {
		n, err := d.exec(ctx, "UPDATE families SET ended_at = ?, reason = ? WHERE tsid = ? AND ended_at IS NULL", micros(now), reason, tsid)
		if err != nil || n == 0 {
			return err
		}
		ended = true
		for _, q := range []string{"UPDATE refresh_tokens SET successor = NULL WHERE tsid = ?", "DELETE FROM grants WHERE tsid = ?"} {
			if _, err := d.exec(ctx, q, tsid); err != nil {
				return err
			}
		}
		return d.Revoke(ctx, Revocation{Kind: RevokedSession, Value: tsid, Revoked: now, Forget: forget})
	})
	return ended && err == nil, err
}
