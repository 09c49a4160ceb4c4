package token

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"go.uber.org/zap"
)

const (
	fetchTime  = 10 * time.Second // limit of one fetch, discovery included
	firstRetry = time.Second
	lastRetry  = 30 * time.Second
)

// schedule says when keys are fetched and how long they are trusted.
type schedule struct {
	refresh time.Duration // between two fetches
	demand  time.Duration // between two fetches that unknown keys ask for
	wait    time.Duration // how long a token with an unknown key waits for a fetch; 0: there are none
	trust   time.Duration // after the last good fetch; 0: until the next
}

// keyring holds the issuer's keys and decides when they are fetched. Verifications read a snapshot and never wait for
// a fetch, except those with an unknown key.
type keyring struct {
	issuer    string // in logs and in the file
	fetchKeys func(context.Context) ([]byte, error)
	file      string // where the last good keys are kept; empty: nowhere
	schedule  schedule
	log       *zap.Logger
	kick      chan struct{} // wakes run; holds one
	keys      atomic.Pointer[[]*key]
	good      atomic.Pointer[time.Time] // when keys was last confirmed; nil for those of the file

	mu      sync.Mutex
	fetch   chan struct{} // closed when the fetch that was asked for or runs has ended; nil: none
	last    time.Time     // when demand last asked for one
	failure error         // of the last fetch

	setMu sync.Mutex // one set at a time; above the file KeysFile
}

// open makes the ring usable and reads the file.
func (r *keyring) open() *keyring {
	r.kick = make(chan struct{}, 1)
	r.load()
	return r
}

// trusted returns the keys, nil when there are none or none that may still be trusted.
func (r *keyring) trusted() []*key {
	keys := r.keys.Load()
	if keys == nil {
		return nil
	}
	if good := r.good.Load(); r.schedule.trust > 0 && (good == nil || time.Since(*good) > r.schedule.trust) {
		return nil
	}
	return *keys
}

func (r *keyring) ready() error {
	if r.trusted() != nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failure != nil {
		return fmt.Errorf("%w: %w", ErrNotReady, r.failure)
	}
	return ErrNotReady
}

// find returns the key that a token says it was signed with.
func (r *keyring) find(h header) (*key, error) {
	if k := r.known(h); k != nil {
		return k, nil
	}
	if done := r.demand(); done != nil {
		timer := time.NewTimer(r.schedule.wait)
		defer timer.Stop()
		select {
		case <-done:
		case <-timer.C:
		}
		if k := r.known(h); k != nil {
			return k, nil
		}
	}
	if err := r.ready(); err != nil {
		return nil, err
	}
	return nil, ErrUnknownKey
}

// known returns the one key with the token's kid and algorithm. A token without kid needs an issuer with one such key.
func (r *keyring) known(h header) (found *key) {
	for _, k := range r.trusted() {
		if !k.fits(h.alg) || h.kid != "" && k.jwk.Kid != h.kid {
			continue
		}
		if found != nil {
			return nil
		}
		found = k
	}
	return found
}

// demand asks for a fetch and returns what is closed after it; nil when one was made too recently.
func (r *keyring) demand() <-chan struct{} {
	if r.schedule.wait == 0 {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fetch == nil {
		if !r.last.IsZero() && time.Since(r.last) < r.schedule.demand {
			return nil
		}
		r.last = time.Now()
		r.fetch = make(chan struct{})
		select {
		case r.kick <- struct{}{}:
		default:
		}
	}
	return r.fetch
}

func (r *keyring) run(ctx context.Context) error {
	retry := firstRetry
	for {
		err := r.fetchNow(ctx)
		wait := r.schedule.refresh
		if err != nil {
			wait, retry = retry, min(2*retry, lastRetry)
			if ctx.Err() == nil {
				r.log.Warn("fetching the issuer's keys", zap.String("issuer", r.issuer), zap.Duration("retry", wait), zap.Error(err))
			}
		} else {
			retry = firstRetry
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-r.kick:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}

func (r *keyring) fetchNow(ctx context.Context) error {
	r.mu.Lock()
	if r.fetch == nil {
		r.fetch = make(chan struct{})
	}
	select {
	case <-r.kick: // this fetch is the answer
	default:
	}
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	jwks, err := r.fetchKeys(ctx)
	if err == nil {
		err = r.set(jwks)
	}
	r.mu.Lock()
	r.failure = err
	close(r.fetch)
	r.fetch = nil
	r.mu.Unlock()
	return err
}

// set replaces the keys. Equal keys stay the same object, so what the cache verified with them stays.
func (r *keyring) set(jwks []byte) error {
	next, err := parseKeys(jwks)
	if err != nil {
		return err
	}
	r.setMu.Lock()
	defer r.setMu.Unlock()
	changed := false
	old := map[publicJWK]*key{}
	if keys := r.keys.Load(); keys != nil {
		for _, k := range *keys {
			old[k.jwk] = k
		}
	}
	for i, k := range next {
		if same := old[k.jwk]; same != nil {
			next[i] = same
			delete(old, k.jwk)
		} else {
			changed = true
		}
	}
	now := time.Now()
	r.good.Store(&now)
	r.keys.Store(&next)
	for _, k := range old { // after the store: nobody finds them any more
		k.gone.Store(true)
		changed = true
	}
	if changed {
		r.log.Info("issuer's keys changed", zap.String("issuer", r.issuer), zap.Int("keys", len(next)), zap.Int("removed", len(old)))
		if err := r.save(next); err != nil {
			r.log.Warn("keeping the issuer's keys for a restart", zap.Error(err))
		}
	}
	return nil
}

// kept is the form of KeysFile.
type kept struct {
	Issuer string           `json:"issuer"`
	Keys   []jsontext.Value `json:"keys"`
}

func (r *keyring) load() {
	if r.file == "" {
		return
	}
	raw, err := os.ReadFile(r.file)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var k kept
	if err == nil {
		err = json.Unmarshal(raw, &k)
	}
	if err == nil && k.Issuer != r.issuer {
		return // of a configuration before this one
	}
	var keys []*key
	if err == nil {
		keys, err = parseKeys(raw)
	}
	if err != nil {
		r.log.Warn("reading the kept keys of the issuer", zap.String("file", r.file), zap.Error(err))
		return
	}
	r.keys.Store(&keys)
}

func (r *keyring) save(keys []*key) error {
	if r.file == "" {
		return nil
	}
	k := kept{Issuer: r.issuer}
	for _, key := range keys {
		raw, err := json.Marshal(key.jwk)
		if err != nil {
			return err
		}
		k.Keys = append(k.Keys, raw)
	}
	raw, err := json.Marshal(k)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(r.file), ".keys-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(raw)
	if err := errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), r.file)
}
