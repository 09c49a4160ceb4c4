package store

import (
	"context"
	"encoding/json"
	"time"
)

// Grant is what the identity provider said of a person, and gave us to ask again.
type Grant struct {
	Sub          string
	TID, OID     string
	Name, Email  string
	Roles        []string
	RefreshToken string // empty: the provider gave none
	Checked      time.Time
}

// SetGrant replaces what is known of a person.
func (d *DB) SetGrant(ctx context.Context, g *Grant) error {
	roles, err := json.Marshal(g.Roles)
	if err != nil {
		return err
	}
	var token []byte
	if g.RefreshToken != "" {
		token = d.seal("grants", g.Sub, "refresh_token", []byte(g.RefreshToken))
	}
	_, err = d.exec(ctx, `INSERT INTO grants VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (sub) DO UPDATE SET tid = excluded.tid,
		oid = excluded.oid, name = excluded.name, email = excluded.email, roles = excluded.roles,
		refresh_token = excluded.refresh_token, checked_at = excluded.checked_at`,
		g.Sub, g.TID, g.OID, g.Name, g.Email, string(roles), token, micros(g.Checked))
	return err
}

// Grant finds what is known of a person.
func (d *DB) Grant(ctx context.Context, sub string) (*Grant, error) {
	g := &Grant{Sub: sub}
	var roles string
	var token []byte
	var checked int64
	if err := d.row(ctx, "SELECT tid, oid, name, email, roles, refresh_token, checked_at FROM grants WHERE sub = ?", []any{sub},
		&g.TID, &g.OID, &g.Name, &g.Email, &roles, &token, &checked); err != nil {
		return nil, err
	}
	g.Checked = at(checked)
	if token != nil {
		plain, err := d.open("grants", sub, "refresh_token", token)
		if err != nil {
			return nil, err
		}
		g.RefreshToken = string(plain)
	}
	return g, json.Unmarshal([]byte(roles), &g.Roles)
}
