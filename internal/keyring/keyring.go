// Package keyring is a ring of secret keys shared by processes: a directory with one file a key. The file name is the
// key id, the newest settled file signs, all verify, and changes are noticed while running. It owns the files and the two uses
// of a key, a MAC and an AEAD; what is sealed with them is its callers'.
package keyring

import (
	"cmp"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"vmcp/internal/durable"
)

// Ring holds the keys of a directory. A key file is one line of base64 with at least 32 bytes.
type Ring struct {
	dir  string
	keys atomic.Pointer[keys]
}

type keys struct {
	list []*Key // the one that signs first
	byID map[string]*Key
}

// Key is one secret key.
type Key struct {
	ID     string
	secret []byte
	aeads  sync.Map // purpose → cipher.AEAD
}

// IDLayout is how a key's id tells when it was made (UTC): the last by name is the newest.
const IDLayout = "20060102t150405"

// settle is how old a key has to be before it signs: by then every process that shares the directory has read it, also
// where a kubelet copies it to each pod in its own time. It verifies at once.
const settle = 2 * time.Minute

// Newest is the key that signs: of those that have settled the newest; where none has, the oldest of all.
func (r *Ring) Newest() *Key { return r.keys.Load().list[0] }

// ByID returns the key with this id, nil where there is none.
func (r *Ring) ByID(id string) *Key { return r.keys.Load().byID[id] }

// All lists the keys, the one that signs first.
func (r *Ring) All() []*Key { return slices.Clone(r.keys.Load().list) }

// MAC is the HMAC-SHA256 over domain, key id and payload. domain separates uses and holds no NUL.
func (k *Key) MAC(domain string, payload []byte) []byte {
	h := hmac.New(sha256.New, k.secret)
	h.Write([]byte(domain))
	h.Write([]byte{0})
	h.Write([]byte(k.ID))
	h.Write([]byte{0})
	h.Write(payload)
	return h.Sum(nil)
}

// AEAD is AES-256-GCM under a key derived for one purpose (HKDF, RFC 5869).
func (k *Key) AEAD(purpose string) cipher.AEAD {
	if a, ok := k.aeads.Load(purpose); ok {
		return a.(cipher.AEAD)
	}
	derived, err := hkdf.Key(sha256.New, k.secret, nil, purpose, 32)
	if err != nil {
		panic(err) // only for absurd lengths
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		panic(err) // 32 bytes are a key
	}
	a, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // AES has the block size
	}
	got, _ := k.aeads.LoadOrStore(purpose, a)
	return got.(cipher.AEAD)
}

// nonceSize is that of GCM. Nonces are random: far fewer than 2^32 texts are sealed under one key (NIST SP 800-38D 8.3).
const nonceSize = 12

// Seal encrypts plain for one purpose and binds it to bound: nonce, ciphertext.
func (k *Key) Seal(purpose string, plain, bound []byte) []byte {
	nonce := make([]byte, nonceSize)
	rand.Read(nonce) // never fails (crypto/rand)
	return k.AEAD(purpose).Seal(nonce, nonce, plain, bound)
}

// Open undoes Seal; false for anything that was not sealed by this key for this purpose and bound.
func (k *Key) Open(purpose string, sealed, bound []byte) ([]byte, bool) {
	if len(sealed) < nonceSize {
		return nil, false
	}
	plain, err := k.AEAD(purpose).Open(nil, sealed[:nonceSize], sealed[nonceSize:], bound)
	return plain, err == nil
}

// Seal is that of the key that signs, as text: "<key id>.<sealed>" in base64url without padding.
func (r *Ring) Seal(purpose string, plain, bound []byte) string {
	key := r.Newest()
	return key.ID + "." + base64.RawURLEncoding.EncodeToString(key.Seal(purpose, plain, append([]byte(key.ID), bound...)))
}

// Open undoes Seal; false for anything that was not sealed by a key of the ring for this purpose and bound.
func (r *Ring) Open(purpose, sealed string, bound []byte) ([]byte, bool) {
	id, text, ok := strings.Cut(sealed, ".")
	if !ok {
		return nil, false
	}
	key := r.ByID(id)
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if key == nil || err != nil {
		return nil, false
	}
	return key.Open(purpose, b, append([]byte(id), bound...))
}

// Load reads dir. At least one key must be there.
func Load(dir string) (*Ring, error) {
	r := &Ring{dir: dir}
	if err := r.reload(); err != nil {
		return nil, err
	}
	return r, nil
}

// Run rereads the directory every second until ctx ends. What cannot be read leaves the ring as it was. It logs the ids
// whenever they or the one that signs, the first, are others: so whoever rotates keys sees where a new one has arrived.
func (r *Ring) Run(ctx context.Context, log *zap.Logger) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	last, known := "", r.ids()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := r.reload()
		if err == nil {
			last = ""
		} else if err.Error() != last { // once per trouble, not once a second
			last = err.Error()
			log.Error("keys not reloaded", zap.Error(err))
		}
		if now := r.ids(); !slices.Equal(now, known) {
			known = now
			log.Info("keys", zap.String("dir", r.dir), zap.Strings("keys", now))
		}
	}
}

func (r *Ring) ids() []string {
	var ids []string
	for _, k := range r.keys.Load().list {
		ids = append(ids, k.ID)
	}
	return ids
}

func (r *Ring) reload() error {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return fmt.Errorf("reading keys: %w", err)
	}
	next := &keys{byID: map[string]*Key{}}
	times := map[*Key]time.Time{}
	for _, e := range entries {
		if hidden(e) || e.IsDir() {
			continue
		}
		path := filepath.Join(r.dir, e.Name())
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return fmt.Errorf("reading keys: %w", err)
		}
		if info.IsDir() {
			continue
		}
		if strings.ContainsAny(e.Name(), ". ") {
			return fmt.Errorf("reading keys: %s: a key id may hold neither dot nor blank", path)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("reading keys: %w", err)
		}
		secret, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
		if err != nil || len(secret) < 32 {
			return fmt.Errorf("reading keys: %s: want one line of base64 with at least 32 bytes", path)
		}
		one := &Key{ID: e.Name(), secret: secret}
		times[one] = info.ModTime()
		next.list = append(next.list, one)
		next.byID[one.ID] = one
	}
	if len(next.list) == 0 {
		return fmt.Errorf("reading keys: %s holds no key", r.dir)
	}
	settled := func(k *Key) bool { return time.Since(times[k]) >= settle }
	slices.SortFunc(next.list, func(a, b *Key) int { // of two with one time the greater id is the newer
		newer := cmp.Or(times[b].Compare(times[a]), strings.Compare(b.ID, a.ID))
		switch {
		case settled(a) && settled(b):
			return newer
		case settled(a):
			return -1
		case settled(b):
			return 1
		}
		return -newer
	})
	r.keys.Store(next)
	return nil
}

// New makes the text of a key file.
func New() string {
	b := make([]byte, 32)
	rand.Read(b) // never fails (crypto/rand)
	return base64.StdEncoding.EncodeToString(b) + "\n"
}

// Ensure makes the directory with one key in it where there is none.
func Ensure(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making keys: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("making keys: %w", err)
	}
	if slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return !hidden(e) }) {
		return nil
	}
	name := filepath.Join(dir, time.Now().UTC().Format(IDLayout))
	if err := durable.Write(name, []byte(New())); err != nil {
		return fmt.Errorf("making keys: %w", err)
	}
	return nil
}

// hidden files are no keys: Kubernetes keeps ..data beside them, and durable a text that is not whole yet.
func hidden(e fs.DirEntry) bool { return strings.HasPrefix(e.Name(), ".") }
