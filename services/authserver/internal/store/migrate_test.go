package store

import (
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"vmcp/internal/keyring/keyringtest"

	"github.com/google/go-cmp/cmp"
)

// old makes a database file as the first version left it, with one sign-in in it.
func old(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "test.db")
	script, err := os.ReadFile("testdata/schema1.sql")
	must(t, err)
	db, err := sql.Open("sqlite", "file:"+file)
	must(t, err)
	_, err = db.Exec(string(script) + `PRAGMA user_version = 1;
		INSERT INTO families VALUES ('f1', 'c1', 'ann', 'openid', 'https://mcp', 'http://localhost/cb', 1, 9000000000000000, NULL, NULL);
		INSERT INTO refresh_tokens VALUES (x'01', 'f1', 9000000000000000, NULL, NULL);
		INSERT INTO grants VALUES ('ann', 't', 'o', 'Ann', '', '[]', x'01', 1);`)
	must(t, err)
	must(t, db.Close())
	return file
}

func schemaOf(t *testing.T, d *DB) string {
	t.Helper()
	var b strings.Builder
	must(t, d.rows(t.Context(), "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name", nil, func(scan func(...any) error) error {
		var one string
		err := scan(&one)
		b.WriteString(one + "\n")
		return err
	}))
	return b.String()
}

// T33: a file of an older version gets the schema of a new one and keeps its sign-ins; which of them an upstream token
// belonged to is not known, so none has one.
func TestMigrate(t *testing.T) {
	keys := keyringtest.New(t)
	d, err := Open(old(t), keys)
	must(t, err)
	defer d.Close()
	fresh, err := Open(filepath.Join(t.TempDir(), "test.db"), keys)
	must(t, err)
	defer fresh.Close()
	if diff := cmp.Diff(schemaOf(t, d), schemaOf(t, fresh)); diff != "" {
		t.Errorf("migrated, not fresh: %s", diff)
	}
	var families, version int
	must(t, d.row(t.Context(), "SELECT count(*) FROM families JOIN refresh_tokens USING (tsid)", nil, &families))
	must(t, d.row(t.Context(), "PRAGMA user_version", nil, &version))
	if families != 1 || version != schemaVersion {
		t.Errorf("%d sign-ins are left, want 1; version %d", families, version)
	}
	_, err = d.Grant(t.Context(), "f1")
	wantErr(t, err, ErrNotFound)
}
