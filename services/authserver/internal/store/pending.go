package store

import (
	"context"
	"time"
)

// Pending is a sign-in for which the browser was sent to the identity provider.
type Pending struct {
	Browser  int64
	Request  string // the authorization request as a query string
	Approved bool   // the person agreed on our page, in this sign-in
	KeyID    string // of the key that its secrets are derived with
	Expires  time.Time
}

// AddPending keeps p under a value that only the browser will bring back. Of more than most, the oldest goes, so whoever
// fills the table shuts nobody out who is quick; of more than ten of one browser, its oldest.
func (d *DB) AddPending(ctx context.Context, secret string, p *Pending, most int) error {
	return d.Tx(ctx, func(ctx context.Context) error {
		if _, err := d.exec(ctx, "DELETE FROM pending WHERE hash IN (SELECT hash FROM pending ORDER BY expires_at DESC LIMIT -1 OFFSET ?)", most-1); err != nil {
			return err
		}
		if _, err := d.exec(ctx, `DELETE FROM pending WHERE hash IN
			(SELECT hash FROM pending WHERE browser = ? ORDER BY expires_at DESC LIMIT -1 OFFSET 9)`, p.Browser); err != nil {
			return err
		}
		_, err := d.exec(ctx, "INSERT INTO pending VALUES (?, ?, ?, ?, ?, ?)",
			Hash(secret), p.Browser, p.Request, p.Approved, p.KeyID, micros(p.Expires))
		return err
	})
}

// TakePending gives what was kept under secret, once.
func (d *DB) TakePending(ctx context.Context, secret string, now time.Time) (*Pending, error) {
	p := &Pending{}
	var expires int64
	err := d.take(ctx, "DELETE FROM pending WHERE hash = ? RETURNING browser, request, approved, key_id, expires_at",
		[]any{Hash(secret)}, &p.Browser, &p.Request, &p.Approved, &p.KeyID, &expires)
	if err != nil {
		return nil, err
	}
	if p.Expires = at(expires); !now.Before(p.Expires) {
		return nil, ErrNotFound
	}
	return p, nil
}
