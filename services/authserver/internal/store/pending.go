package store

import (
	"context"
	"errors"
	"time"
)

// Stages of a sign-in that is under way.
const (
	StageConsent  = "consent"  // the page was shown
	StageUpstream = "upstream" // the browser was sent to the identity provider
)

// Pending is a sign-in that is under way.
type Pending struct {
	Stage    string
	Browser  int64
	Request  string // the authorization request as a query string
	Approved bool   // the person agreed on our page, in this sign-in
	KeyID    string // of the key that its secrets are derived with
	Expires  time.Time
}

// ErrBusy says that too many sign-ins are under way.
var ErrBusy = errors.New("too many sign-ins under way")

// AddPending keeps p under a value that only the browser will bring back. Of more than most, ErrBusy; of more than ten
// of one browser, its oldest goes.
func (d *DB) AddPending(ctx context.Context, secret string, p *Pending, most int) error {
	return d.Tx(ctx, func(ctx context.Context) error {
		var n int
		if err := d.row(ctx, "SELECT count(*) FROM pending", nil, &n); err != nil {
			return err
		}
		if n >= most {
			return ErrBusy
		}
		if _, err := d.exec(ctx, `DELETE FROM pending WHERE hash IN
			(SELECT hash FROM pending WHERE browser = ? ORDER BY expires_at DESC LIMIT -1 OFFSET 9)`, p.Browser); err != nil {
			return err
		}
		_, err := d.exec(ctx, "INSERT INTO pending VALUES (?, ?, ?, ?, ?, ?, ?)",
			Hash(secret), p.Stage, p.Browser, p.Request, p.Approved, p.KeyID, micros(p.Expires))
		return err
	})
}

// TakePending gives what was kept under secret, once.
func (d *DB) TakePending(ctx context.Context, stage, secret string, now time.Time) (*Pending, error) {
	p := &Pending{Stage: stage}
	var expires int64
	err := d.take(ctx, "DELETE FROM pending WHERE hash = ? AND stage = ? RETURNING browser, request, approved, key_id, expires_at",
		[]any{Hash(secret), stage}, &p.Browser, &p.Request, &p.Approved, &p.KeyID, &expires)
	if err != nil {
		return nil, err
	}
	if p.Expires = at(expires); !now.Before(p.Expires) {
		return nil, ErrNotFound
	}
	return p, nil
}
