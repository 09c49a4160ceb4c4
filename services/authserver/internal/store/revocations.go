package store

import (
	"context"
	"time"
)

// Kinds of revocations.
const (
	RevokedSession = "tsid"
	RevokedToken   = "jti"
	RevokedPerson  = "sub"
	RevokedClient  = "client_id"
)

// Revocation ends access tokens before they expire.
type Revocation struct {
	Seq     int64 // ascending
	Kind    string
	Value   string
	Revoked time.Time
	Forget  time.Time // no such token is good any more
}

// Revoke adds a revocation and wakes who waits for one.
func (d *DB) Revoke(ctx context.Context, r Revocation) error {
	if _, err := d.exec(ctx, "INSERT INTO revocations (kind, value, revoked_at, forget_at) VALUES (?, ?, ?, ?)",
		r.Kind, r.Value, micros(r.Revoked), micros(r.Forget)); err != nil {
		return err
	}
	if t := current(ctx); t != nil {
		t.revoked = true // nobody sees it before the commit
	} else {
		d.wake()
	}
	return nil
}

func (d *DB) wake() {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.changed)
	d.changed = make(chan struct{})
}

// Revoked is closed when the next revocation is there.
func (d *DB) Revoked() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.changed
}

// RevocationsAfter lists, in order, those after seq that still matter.
func (d *DB) RevocationsAfter(ctx context.Context, seq int64, now time.Time) ([]Revocation, error) {
	var list []Revocation
	err := d.rows(ctx, "SELECT seq, kind, value, revoked_at, forget_at FROM revocations WHERE seq > ? AND forget_at > ? ORDER BY seq",
		[]any{seq, micros(now)}, func(scan func(...any) error) error {
			var r Revocation
			var revoked, forget int64
			if err := scan(&r.Seq, &r.Kind, &r.Value, &revoked, &forget); err != nil {
				return err
			}
			r.Revoked, r.Forget = at(revoked), at(forget)
			list = append(list, r)
			return nil
		})
	return list, err
}
