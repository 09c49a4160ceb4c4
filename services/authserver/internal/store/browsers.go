package store

import (
	"context"
	"crypto/subtle"
	"errors"
	"time"
)

// Browser is one browser, known by its cookie.
type Browser struct {
	ID  int64
	Sub string // who signed in last, empty: nobody yet
}

// AddBrowser makes a browser with this cookie. Of more than most where nobody has signed in yet, the oldest goes.
func (d *DB) AddBrowser(ctx context.Context, cookie string, until time.Time, most int) (*Browser, error) {
	b := &Browser{}
	return b, d.Tx(ctx, func(ctx context.Context) error {
		if _, err := d.exec(ctx, `DELETE FROM browsers WHERE id IN
			(SELECT id FROM browsers WHERE sub = '' ORDER BY expires_at DESC LIMIT -1 OFFSET ?)`, most-1); err != nil {
			return err
		}
		return d.take(ctx, "INSERT INTO browsers (cookie_hash, sub, expires_at) VALUES (?, '', ?) RETURNING id", []any{Hash(cookie), micros(until)}, &b.ID)
	})
}

// Browser finds a browser by its cookie.
func (d *DB) Browser(ctx context.Context, cookie string, now time.Time) (*Browser, error) {
	b := &Browser{}
	err := d.row(ctx, "SELECT id, sub FROM browsers WHERE cookie_hash = ? AND expires_at > ?", []any{Hash(cookie), micros(now)}, &b.ID, &b.Sub)
	return b, err
}

// RenewBrowser gives a browser another cookie; the old one is worth nothing from then on.
func (d *DB) RenewBrowser(ctx context.Context, id int64, cookie string, until time.Time) error {
	return d.change(ctx, ErrNotFound, "UPDATE browsers SET cookie_hash = ?, expires_at = ? WHERE id = ?", Hash(cookie), micros(until), id)
}

// SignIn notes who signed in, and what they agreed to for which client, which is answered at redirect. What another person
// agreed to is forgotten.
func (d *DB) SignIn(ctx context.Context, browser int64, sub, clientID, redirect string, consent []byte) error {
	return d.Tx(ctx, func(ctx context.Context) error {
		if err := d.forgetOthers(ctx, browser, sub); err != nil {
			return err
		}
		_, err := d.exec(ctx, `INSERT OR REPLACE INTO consents VALUES (?, ?, ?, ?)`, browser, clientID, consent, redirect)
		return err
	})
}

// SwitchPerson notes who signed in and forgets what another person agreed to.
func (d *DB) SwitchPerson(ctx context.Context, browser int64, sub string) error {
	return d.Tx(ctx, func(ctx context.Context) error { return d.forgetOthers(ctx, browser, sub) })
}

func (d *DB) forgetOthers(ctx context.Context, browser int64, sub string) error {
	if _, err := d.exec(ctx, "DELETE FROM consents WHERE browser = (SELECT id FROM browsers WHERE id = ? AND sub <> ?)", browser, sub); err != nil {
		return err
	}
	return d.change(ctx, ErrNotFound, "UPDATE browsers SET sub = ? WHERE id = ?", sub, browser)
}

// Consented says whether exactly this was agreed to in that browser.
func (d *DB) Consented(ctx context.Context, browser int64, clientID string, consent []byte) (bool, error) {
	var agreed []byte
	err := d.row(ctx, "SELECT digest FROM consents WHERE browser = ? AND client_id = ?", []any{browser, clientID}, &agreed)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return subtle.ConstantTimeCompare(agreed, consent) == 1, err
}

// Agreed says whether somebody agreed in that browser that this client is answered at redirect, whatever else it asked for.
func (d *DB) Agreed(ctx context.Context, browser int64, clientID, redirect string) (bool, error) {
	var n int
	err := d.row(ctx, "SELECT count(*) FROM consents WHERE browser = ? AND client_id = ? AND redirect = ?", []any{browser, clientID, redirect}, &n)
	return n == 1, err
}
