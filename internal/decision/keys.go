package decision

import (
	"context"
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
	"sync/atomic"
	"time"
)

// Keys is a ring of secret keys, read from a directory: the file name is the key id, the newest file signs, all
// verify. A key file holds at least 32 bytes in base64, on one line.
type Keys struct {
	dir  string
	ring atomic.Pointer[ring]
}

type ring struct {
	keys []*key // newest first
	byID map[string]*key
}

type key struct {
	id     string
	secret []byte
}

func (r *ring) newest() *key {
	if len(r.keys) == 0 {
		return nil
	}
	return r.keys[0]
}

func (k *key) mac(payload []byte) []byte {
	h := hmac.New(sha256.New, k.secret)
	h.Write([]byte(domain))
	h.Write([]byte(k.id))
	h.Write([]byte{0})
	h.Write(payload)
	return h.Sum(nil)
}

// LoadKeys reads the directory. At least one key must be there.
func LoadKeys(dir string) (*Keys, error) {
	k := &Keys{dir: dir}
	if err := k.reload(); err != nil {
		return nil, err
	}
	return k, nil
}

// Secrets returns the keys' bytes by id, newest first, for other uses of the same directory form (session ids).
func (k *Keys) Secrets() (ids []string, secrets [][]byte) {
	for _, key := range k.ring.Load().keys {
		ids = append(ids, key.id)
		secrets = append(secrets, key.secret)
	}
	return ids, secrets
}

// Run rereads the directory every second until ctx ends. What cannot be read leaves the ring as it was; report is told.
func (k *Keys) Run(ctx context.Context, report func(error)) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	last := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := k.reload()
		if err == nil {
			last = ""
		} else if err.Error() != last { // once per trouble, not once a second
			last = err.Error()
			report(err)
		}
	}
}

func (k *Keys) reload() error {
	entries, err := os.ReadDir(k.dir)
	if err != nil {
		return fmt.Errorf("reading keys: %w", err)
	}
	r := &ring{byID: map[string]*key{}}
	var times []time.Time
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || e.IsDir() { // Kubernetes keeps ..data beside the keys
			continue
		}
		path := filepath.Join(k.dir, e.Name())
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
		one := &key{e.Name(), secret}
		at := len(r.keys)
		for i, t := range times { // newest first; of two with one time the greater name
			if info.ModTime().After(t) || info.ModTime().Equal(t) && one.id > r.keys[i].id {
				at = i
				break
			}
		}
		r.keys = slices.Insert(r.keys, at, one)
		times = slices.Insert(times, at, info.ModTime())
		r.byID[one.id] = one
	}
	if len(r.keys) == 0 {
		return fmt.Errorf("reading keys: %s holds no key", k.dir)
	}
	k.ring.Store(r)
	return nil
}

// NewKey makes the text of a key file.
func NewKey() string {
	b := make([]byte, 32)
	rand.Read(b) // never fails (crypto/rand)
	return base64.StdEncoding.EncodeToString(b) + "\n"
}

// EnsureKeys makes the directory with one key in it where there is none.
func EnsureKeys(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making keys: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("making keys: %w", err)
	}
	if len(entries) > 0 {
		return nil
	}
	name := filepath.Join(dir, time.Now().UTC().Format("20060102t150405"))
	if err := os.WriteFile(name, []byte(NewKey()), 0o600); err != nil {
		return fmt.Errorf("making keys: %w", err)
	}
	return nil
}
