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

// ConfiguredKey is the public half of a key of the documents.
type ConfiguredKey struct {
	KID  string
	JWK  string    // RFC 7517
	Seen time.Time // published since then
	Gone time.Time // zero: it is in the documents
}

// SetConfiguredKey adds or replaces what is known of a key.
func (d *DB) SetConfiguredKey(ctx context.Context, k *ConfiguredKey) error {
	gone := int64(0)
	if !k.Gone.IsZero() {
		gone = micros(k.Gone)
	}
	_, err := d.exec(ctx, "INSERT OR REPLACE INTO configured_keys VALUES (?, ?, ?, ?)", k.KID, k.JWK, micros(k.Seen), gone)
	return err
}

// ConfiguredKeys lists all, the newest first.
func (d *DB) ConfiguredKeys(ctx context.Context) ([]ConfiguredKey, error) {
	var list []ConfiguredKey
	err := d.rows(ctx, "SELECT kid, jwk, seen_at, gone_at FROM configured_keys ORDER BY seen_at DESC, kid", nil, func(scan func(...any) error) error {
		var k ConfiguredKey
		var seen, gone int64
		err := scan(&k.KID, &k.JWK, &seen, &gone)
		k.Seen, k.Gone = at(seen), at(gone)
		list = append(list, k)
		return err
	})
	return list, err
}

// DeleteConfiguredKey forgets a key.
func (d *DB) DeleteConfiguredKey(ctx context.Context, kid string) error {
	_, err := d.exec(ctx, "DELETE FROM configured_keys WHERE kid = ?", kid)
	return err
}
