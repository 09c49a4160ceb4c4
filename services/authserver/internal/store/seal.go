package store

import (
	"crypto/rand"
	"fmt"
)

// A sealed value is: length of the key id, key id, nonce, ciphertext. The place it belongs to is authenticated, so a
// value moved to another row does not open.
const sealPurpose = "authserver store"

func (d *DB) seal(table, row, column string, plain []byte) []byte {
	key := d.keys.Newest()
	aead := key.AEAD(sealPurpose)
	out := append([]byte{byte(len(key.ID))}, key.ID...)
	nonce := make([]byte, aead.NonceSize())
	rand.Read(nonce) // never fails (crypto/rand)
	return aead.Seal(append(out, nonce...), nonce, plain, place(table, row, column))
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
	aead := key.AEAD(sealPurpose)
	if len(rest) < aead.NonceSize() {
		return fail("not a sealed value")
	}
	plain, err := aead.Open(nil, rest[:aead.NonceSize()], rest[aead.NonceSize():], place(table, row, column))
	if err != nil {
		return fail("it was changed, or belongs elsewhere")
	}
	return plain, nil
}

func place(table, row, column string) []byte { return []byte(table + "\x00" + row + "\x00" + column) }
