package store

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"
)

// Client is a registered application.
type Client struct {
	ID              string
	Name            string
	RedirectURIs    []string
	Refresh         bool // may use refresh tokens
	Scopes          []string
	AuthMethod      string // none, client_secret_basic or client_secret_post
	SecretHash      []byte // SHA-256; nil for none
	ApplicationType string // native or web
	Created         time.Time
	Used            time.Time // zero: never
	Expires         time.Time
}

// ErrFull says that no more clients can be registered: none of those that are there may go.
var ErrFull = errors.New("no room for another client")

// AddClient registers c. Of more than most clients, the one that was never used and is the oldest goes; if all are in
// use, ErrFull.
func (d *DB) AddClient(ctx context.Context, c *Client, most int) error {
	uris, err := json.Marshal(c.RedirectURIs)
	if err != nil {
		return err
	}
	return d.Tx(ctx, func(ctx context.Context) error {
		var n int
		if err := d.row(ctx, "SELECT count(*) FROM clients", nil, &n); err != nil {
			return err
		}
		if n >= most {
			if err := d.change(ctx, ErrFull, `DELETE FROM clients WHERE id =
				(SELECT id FROM clients WHERE used_at = 0 ORDER BY created_at LIMIT 1)`); err != nil {
				return err
			}
		}
		_, err := d.exec(ctx, "INSERT INTO clients VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?)", c.ID, c.Name, string(uris), c.Refresh,
			strings.Join(c.Scopes, " "), c.AuthMethod, c.SecretHash, c.ApplicationType, micros(c.Created), micros(c.Expires))
		return err
	})
}

// Client finds a client that has not expired at now.
func (d *DB) Client(ctx context.Context, id string, now time.Time) (*Client, error) {
	c := Client{ID: id}
	var uris, scopes string
	var created, used, expires int64
	err := d.row(ctx, `SELECT name, redirect_uris, refresh, scopes, auth_method, secret_hash, application_type, created_at, used_at, expires_at
		FROM clients WHERE id = ? AND expires_at > ?`, []any{id, micros(now)},
		&c.Name, &uris, &c.Refresh, &scopes, &c.AuthMethod, &c.SecretHash, &c.ApplicationType, &created, &used, &expires)
	if err != nil {
		return nil, err
	}
	c.Scopes, c.Created, c.Used, c.Expires = strings.Fields(scopes), at(created), at(used), at(expires)
	return &c, json.Unmarshal([]byte(uris), &c.RedirectURIs)
}

// UseClient notes that a client was used and keeps it until then.
func (d *DB) UseClient(ctx context.Context, id string, now, until time.Time) error {
	_, err := d.exec(ctx, "UPDATE clients SET used_at = ?, expires_at = max(expires_at, ?) WHERE id = ?", micros(now), micros(until), id)
	return err
}
