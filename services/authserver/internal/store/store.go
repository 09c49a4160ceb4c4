// Package store keeps what the authorization server must remember: clients, browsers and their consents, sign-ins under
// way, sessions (families of tokens) with their codes and refresh tokens, what the identity provider granted,
// revocations and signing keys. It owns the SQL, what is atomic (each method is, see Tx for more), and how secrets lie on
// disk: codes, refresh tokens, states and cookies as SHA-256, upstream tokens and private keys sealed with AES-256-GCM.
// What the rows mean for OAuth is the oauth package's.
package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"net/url"
	"os"
	"sync"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"vmcp/internal/keyring"
)

// ErrNotFound says that there is no such row, or none any more.
var ErrNotFound = errors.New("not found")

// ErrTaken says that somebody else did first what only one may do: used the code, rotated the token.
var ErrTaken = errors.New("already taken")

// DB is an open store. It is safe for concurrent use.
type DB struct {
	write *sql.DB // one connection: writers queue here, not in SQLite
	read  *sql.DB
	keys  *keyring.Ring

	mu      sync.Mutex
	changed chan struct{} // closed at the next revocation
}

//go:embed *.sql
var scripts embed.FS

// schemaVersion is PRAGMA user_version. A change is made in schema.sql, for new files, and in a step migrateN.sql that
// brings files of version N-1 to the same; forward only.
const schemaVersion = 5

// Open opens the database file, and makes it where there is none. keys seal what must not lie in clear.
func Open(file string, keys *keyring.Ring) (*DB, error) {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600) // before SQLite makes it with the umask's mode
	if err != nil {
		return nil, fmt.Errorf("opening the database: %w", err)
	}
	f.Close()
	open := func(pragma ...string) (*sql.DB, error) {
		q := url.Values{"_pragma": append(pragma, "busy_timeout(5000)", "foreign_keys(1)", "synchronous(NORMAL)"), "_txlock": {"immediate"}}
		return sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: file, RawQuery: q.Encode()}).String())
	}
	d := &DB{keys: keys, changed: make(chan struct{})}
	if d.write, err = open("journal_mode(WAL)"); err != nil {
		return nil, fmt.Errorf("opening the database: %w", err)
	}
	d.write.SetMaxOpenConns(1)
	if d.read, err = open("query_only(1)"); err != nil {
		return nil, fmt.Errorf("opening the database: %w", err)
	}
	d.read.SetMaxOpenConns(8)
	d.read.SetMaxIdleConns(8)
	if err := d.migrate(); err != nil {
		d.Close()
		return nil, fmt.Errorf("opening the database %s: %w", file, err)
	}
	return d, nil
}

// Close closes the database.
func (d *DB) Close() error { return errors.Join(d.read.Close(), d.write.Close()) }

func (d *DB) migrate() error {
	var version int
	if err := d.write.QueryRow("PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	switch {
	case version == schemaVersion:
		return nil
	case version > schemaVersion:
		return fmt.Errorf("it was written by a newer version of this program (schema %d, this one knows %d)", version, schemaVersion)
	}
	steps := []string{"schema.sql"}
	if version > 0 {
		steps = nil
		for v := version + 1; v <= schemaVersion; v++ {
			steps = append(steps, fmt.Sprintf("migrate%d.sql", v))
		}
	}
	return d.Tx(context.Background(), func(ctx context.Context) error {
		for _, name := range steps {
			script, err := scripts.ReadFile(name)
			if err != nil {
				return err
			}
			if _, err := d.exec(ctx, string(script)); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		_, err := d.exec(ctx, fmt.Sprintf("PRAGMA user_version = %d", schemaVersion))
		return err
	})
}

// Run deletes what has expired, once a minute, until ctx ends. report is told of failures.
func (d *DB) Run(ctx context.Context, report func(error)) error {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		if err := d.Clean(ctx, time.Now()); err != nil && ctx.Err() == nil {
			report(fmt.Errorf("deleting what has expired: %w", err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Clean deletes what has expired by now.
func (d *DB) Clean(ctx context.Context, now time.Time) error {
	for _, q := range []string{
		"DELETE FROM pending WHERE expires_at <= ?",
		"DELETE FROM browsers WHERE expires_at <= ?", // consents go with them
		"DELETE FROM families WHERE expires_at <= ?", // codes, tokens and the grant go with them
		"DELETE FROM clients WHERE expires_at <= ?",
		"DELETE FROM revocations WHERE forget_at <= ?",
		"UPDATE refresh_tokens SET successor = NULL WHERE successor IS NOT NULL AND rotated_at <= ? - 60000000",
	} {
		if _, err := d.exec(ctx, q, micros(now)); err != nil {
			return err
		}
	}
	// A sign-in that cannot be refreshed any more needs no token of the identity provider.
	_, err := d.exec(ctx, `DELETE FROM grants WHERE NOT EXISTS (SELECT 1 FROM refresh_tokens t WHERE t.tsid = grants.tsid AND t.expires_at > ?1)
		AND NOT EXISTS (SELECT 1 FROM codes c WHERE c.tsid = grants.tsid AND c.expires_at > ?1)`, micros(now))
	return err
}

// Hash is how bearer values are kept.
func Hash(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

func micros(t time.Time) int64 { return t.UnixMicro() }

// at converts back; 0 is the zero time.
func at(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us)
}
