package token

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"go.uber.org/zap"

	"vmcp/internal/durable"
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

// issuerKeys holds the issuer's keys and decides when they are fetched. Verifications read a snapshot and never wait for
// a fetch, except those with an unknown key.
type issuerKeys struct {
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

// open makes them usable and reads the file.
func (ks *issuerKeys) open() *issuerKeys {
	ks.kick = make(chan struct{}, 1)
	ks.load()
	return ks
}

// trusted returns the keys, nil when there are none or none that may still be trusted.
func (ks *issuerKeys) trusted() []*key {
	keys := ks.keys.Load()
	if keys == nil {
		return nil
	}
	if good := ks.good.Load(); ks.schedule.trust > 0 && (good == nil || time.Since(*good) > ks.schedule.trust) {
		return nil
	}
	return *keys
}

func (ks *issuerKeys) ready() error {
	if ks.trusted() != nil {
		return nil
	}
	ks.mu.Lock()
	defer ks.mu.Unlock()
	if ks.failure != nil {
		return fmt.Errorf("%w: %w", ErrNotReady, ks.failure)
	}
	return ErrNotReady
}

// find returns the key that a token says it was signed with.
func (ks *issuerKeys) find(h header) (*key, error) {
	if k := ks.known(h); k != nil {
		return k, nil
	}
	if done := ks.demand(); done != nil {
		timer := time.NewTimer(ks.schedule.wait)
		defer timer.Stop()
		select {
		case <-done:
		case <-timer.C:
		}
		if k := ks.known(h); k != nil {
			return k, nil
		}
	}
	if err := ks.ready(); err != nil {
		return nil, err
	}
	return nil, ErrUnknownKey
}

// known returns the one key with the token's kid and algorithm. A token without kid needs an issuer with one such key.
func (ks *issuerKeys) known(h header) (found *key) {
	for _, k := range ks.trusted() {
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
func (ks *issuerKeys) demand() <-chan struct{} {
	if ks.schedule.wait == 0 {
		return nil
	}
	ks.mu.Lock()
	defer ks.mu.Unlock()
	if ks.fetch == nil {
		if !ks.last.IsZero() && time.Since(ks.last) < ks.schedule.demand {
			return nil
		}
		ks.last = time.Now()
		ks.fetch = make(chan struct{})
		select {
		case ks.kick <- struct{}{}:
		default:
		}
	}
	return ks.fetch
}

func (ks *issuerKeys) run(ctx context.Context) error {
	retry := firstRetry
	for {
		err := ks.fetchNow(ctx)
		wait := ks.schedule.refresh
		if err != nil {
			wait, retry = retry, min(2*retry, lastRetry)
			if ctx.Err() == nil {
				ks.log.Warn("fetching the issuer's keys", zap.String("issuer", ks.issuer), zap.Duration("retry", wait), zap.Error(err))
			}
		} else {
			retry = firstRetry
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ks.kick:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}

func (ks *issuerKeys) fetchNow(ctx context.Context) error {
	ks.mu.Lock()
	if ks.fetch == nil {
		ks.fetch = make(chan struct{})
	}
	select {
	case <-ks.kick: // this fetch is the answer
	default:
	}
	ks.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	jwks, err := ks.fetchKeys(ctx)
	if err == nil {
		err = ks.set(jwks)
	}
	ks.mu.Lock()
	ks.failure = err
	close(ks.fetch)
	ks.fetch = nil
	ks.mu.Unlock()
	return err
}

// set replaces the keys. Equal keys stay the same object, so what the cache verified with them stays.
func (ks *issuerKeys) set(jwks []byte) error {
	next, err := parseKeys(jwks)
	if err != nil {
		return err
	}
	ks.setMu.Lock()
	defer ks.setMu.Unlock()
	changed := false
	old := map[publicJWK]*key{}
	if keys := ks.keys.Load(); keys != nil {
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
	ks.good.Store(&now)
	ks.keys.Store(&next)
	for _, k := range old { // after the store: nobody finds them any more
		k.gone.Store(true)
		changed = true
	}
	if changed {
		ks.log.Info("issuer's keys changed", zap.String("issuer", ks.issuer), zap.Int("keys", len(next)), zap.Int("removed", len(old)))
		if err := ks.save(next); err != nil {
			ks.log.Warn("keeping the issuer's keys for a restart", zap.Error(err))
		}
	}
	return nil
}

// kept is the form of KeysFile.
type kept struct {
	Issuer string           `json:"issuer"`
	Keys   []jsontext.Value `json:"keys"`
}

func (ks *issuerKeys) load() {
	if ks.file == "" {
		return
	}
	raw, err := os.ReadFile(ks.file)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var k kept
	if err == nil {
		err = json.Unmarshal(raw, &k)
	}
	if err == nil && k.Issuer != ks.issuer {
		return // of a configuration before this one
	}
	var keys []*key
	if err == nil {
		keys, err = parseKeys(raw)
	}
	if err != nil {
		ks.log.Warn("reading the kept keys of the issuer", zap.String("file", ks.file), zap.Error(err))
		return
	}
	ks.keys.Store(&keys)
}

func (ks *issuerKeys) save(keys []*key) error {
	if ks.file == "" {
		return nil
	}
	k := kept{Issuer: ks.issuer}
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
	return durable.Write(ks.file, raw)
}
