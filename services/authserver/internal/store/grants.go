package store

import (
	"context"
	"encoding/json"
	"time"
)

// Grant is what the identity provider said of a person at one sign-in, and gave us to ask again. No other sign-in
// changes it (T33): what the provider takes back stays taken back.
type Grant struct {
	TSID         string // of the family
	TID, OID     string
	Name, Email  string
	Roles        []string
	RefreshToken string // empty: the provider gave none
	Checked      time.Time
}

// SetGrant replaces the grant of a family that has not ended, else ErrTaken.
func (d *DB) SetGrant(ctx context.Context, g *Grant) error {
	roles, err := json.Marshal(g.Roles)
	if err != nil {
		return err
	}
	var token []byte
	if g.RefreshToken != "" {
		token = d.seal("grants", g.TSID, "refresh_token", []byte(g.RefreshToken))
	}
	return d.change(ctx, ErrTaken, `INSERT OR REPLACE INTO grants SELECT tsid, ?, ?, ?, ?, ?, ?, ? FROM families WHERE tsid = ? AND ended_at IS NULL`,
		g.TID, g.OID, g.Name, g.Email, string(roles), token, micros(g.Checked), g.TSID)
}

// Grant finds the grant of a family. One that has ended has none.
func (d *DB) Grant(ctx context.Context, tsid string) (*Grant, error) {
	g := &Grant{TSID: tsid}
	var roles string
	var token []byte
	var checked int64
	if err := d.row(ctx, "SELECT tid, oid, name, email, roles, refresh_token, checked_at FROM grants WHERE tsid = ?", []any{tsid},
		&g.TID, &g.OID, &g.Name, &g.Email, &roles, &token, &checked); err != nil {
		return nil, err
	}
	g.Checked = at(checked)
	if token != nil {
		plain, err := d.open("grants", tsid, "refresh_token", token)
		if err != nil {
			return nil, err
		}
		g.RefreshToken = string(plain)
	}
	return g, json.Unmarshal([]byte(roles), &g.Roles)
}
