package store

import "fmt"

// A sealed value is: length of the key id, key id, what the key sealed. The place it belongs to is authenticated, so a
// value moved to another row does not open.
const sealPurpose = "authserver store"

func (d *DB) seal(table, row, column string, plain []byte) []byte {
	key := d.keys.Newest()
	out := append([]byte{byte(len(key.ID))}, key.ID...)
	return append(out, key.Seal(sealPurpose, plain, place(table, row, column))...)
}

func (d *DB) open(table, row, column string, sealed []byte) ([]byte, error) {
	fail := func(why string) ([]byte, error) {
		return nil, fmt.Errorf("opening %s of %s: %s", column, table, why)
	}
	if len(sealed) < 1 || len(sealed) < 1+int(sealed[0]) {
		return fail("not a sealed value")
	}
	id, rest := string(sealed[1:1+sealed[0]]), sealed[1+sealed[0]:]
	key := d.keys.ByID(id)
	if key == nil {
		return fail("the key " + id + " it was sealed with is gone")
	}
	plain, ok := key.Open(sealPurpose, rest, place(table, row, column))
	if !ok {
		return fail("it was changed, or belongs elsewhere")
	}
	return plain, nil
}

func place(table, row, column string) []byte { return []byte(table + "\x00" + row + "\x00" + column) }
