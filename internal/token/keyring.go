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
	refreshTime = 5 * time.Minute
	demandTime  = 10 * time.Second // between two fetches that unknown keys ask for
	fetchTime   = 10 * time.Second // limit of one fetch, discovery included
	firstRetry  = time.Second
	lastRetry   = 30 * time.Second
)

// keyring holds the issuer's keys and decides when they are fetched. Verifications read a snapshot and never wait for
// a fetch, except those with an unknown key.
type keyring struct {
	cfg    Config
	source *source
	kick   chan struct{} // wakes run; holds one
	keys   atomic.Pointer[[]*key]

	mu      sync.Mutex
	fetch   chan struct{} // closed when the fetch that was asked for or runs has ended; nil: none
	last    time.Time     // when demand last asked for one
	failure error         // of the last fetch

	setMu sync.Mutex // one set at a time; above the file KeysFile
}

func newKeyring(cfg Config) (*keyring, error) {
	source, err := newSource(cfg.Issuer)
	if err != nil {
		return nil, err
	}
	r := &keyring{cfg: cfg, source: source, kick: make(chan struct{}, 1)}
	r.load()
	return r, nil
}

func (r *keyring) ready() error {
	if r.keys.Load() != nil {
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
		timer := time.NewTimer(keyWait)
		defer timer.Stop()
		select {
		case <-done:
		case <-timer.C:
		}
		if k := r.known(h); k != nil {
			return k, nil
		}
	}
	if r.keys.Load() == nil {
		return nil, r.ready()
	}
	return nil, errors.New("token is signed with a key that the issuer does not publish")
}

// known returns the one key with the token's kid and algorithm. A token without kid needs an issuer with one such key.
func (r *keyring) known(h header) (found *key) {
	keys := r.keys.Load()
	if keys == nil {
		return nil
	}
	for _, k := range *keys {
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
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fetch == nil {
		if !r.last.IsZero() && time.Since(r.last) < demandTime {
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
		wait := refreshTime
		if err != nil {
			wait, retry = retry, min(2*retry, lastRetry)
			if ctx.Err() == nil {
				r.cfg.Log.Warn("fetching the issuer's keys", zap.String("issuer", r.cfg.Issuer.URL), zap.Duration("retry", wait), zap.Error(err))
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
	jwks, err := r.source.fetchKeys(ctx)
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
	r.keys.Store(&next)
	for _, k := range old { // after the store: nobody finds them any more
		k.gone.Store(true)
		changed = true
	}
	if changed {
		r.cfg.Log.Info("issuer's keys changed", zap.String("issuer", r.cfg.Issuer.URL), zap.Int("keys", len(next)), zap.Int("removed", len(old)))
		if err := r.save(next); err != nil {
			r.cfg.Log.Warn("keeping the issuer's keys for a restart", zap.Error(err))
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
	if r.cfg.KeysFile == "" {
		return
	}
	raw, err := os.ReadFile(r.cfg.KeysFile)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var k kept
	if err == nil {
		err = json.Unmarshal(raw, &k)
	}
	if err == nil && k.Issuer != r.cfg.Issuer.URL {
		return // of a configuration before this one
	}
	var keys []*key
	if err == nil {
		keys, err = parseKeys(raw)
	}
	if err != nil {
		r.cfg.Log.Warn("reading the kept keys of the issuer", zap.String("file", r.cfg.KeysFile), zap.Error(err))
		return
	}
	r.keys.Store(&keys)
}

func (r *keyring) save(keys []*key) error {
	if r.cfg.KeysFile == "" {
		return nil
	}
	k := kept{Issuer: r.cfg.Issuer.URL}
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
	tmp, err := os.CreateTemp(filepath.Dir(r.cfg.KeysFile), ".keys-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(raw)
	if err := errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), r.cfg.KeysFile)
}
