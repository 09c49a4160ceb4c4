package store

import (
	"context"
	"time"
)

// SigningKey is a private key of ours.
type SigningKey struct {
	KID     string
	Private []byte    // PKCS #8
	Active  time.Time // signs from then on, until the next one does
}

// AddSigningKey adds k after the key that the caller found to be the newest, "" for none. If it is not, somebody was
// faster: ErrTaken.
func (d *DB) AddSigningKey(ctx context.Context, k *SigningKey, newest string) error {
	sealed := d.seal("signing_keys", k.KID, "private", k.Private)
	return d.change(ctx, ErrTaken, `INSERT INTO signing_keys SELECT ?, ?, ?
		WHERE coalesce((SELECT kid FROM signing_keys ORDER BY active_from DESC LIMIT 1), '') = ?`, k.KID, sealed, micros(k.Active), newest)
}

// SigningKeys lists all keys, the oldest first.
func (d *DB) SigningKeys(ctx context.Context) ([]SigningKey, error) {
	var list []SigningKey
	err := d.rows(ctx, "SELECT kid, private, active_from FROM signing_keys ORDER BY active_from", nil, func(scan func(...any) error) error {
		var k SigningKey
		var sealed []byte
		var active int64
		if err := scan(&k.KID, &sealed, &active); err != nil {
			return err
		}
		var err error
		k.Active = at(active)
		k.Private, err = d.open("signing_keys", k.KID, "private", sealed)
		list = append(list, k)
		return err
	})
	return list, err
}

// DeleteSigningKey forgets a key that nothing was signed with for long enough.
func (d *DB) DeleteSigningKey(ctx context.Context, kid string) error {
	_, err := d.exec(ctx, "DELETE FROM signing_keys WHERE kid = ?", kid)
	return err
}
