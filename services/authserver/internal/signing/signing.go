// Package signing is the keys that access tokens are signed with. It owns making, keeping and rotating them, the
// documents that publish them, and signing; what a token says is internal/token's.
//
// Without keys in the configuration it makes its own, an ES256 key per month, and keeps them sealed in the store.
// A key is published before it signs (lead) and after the next one does (overlap), so nobody ever meets a token whose
// key is not there. What is current is a function of the stored times alone: several replicas agree without a leader.
package signing

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"go.uber.org/zap"

	"vmcp/internal/secret"
	"vmcp/services/authserver/internal/store"
)

const (
	period = 30 * 24 * time.Hour // a key signs
	lead   = 15 * time.Minute    // it is published before: three times the max-age of the JWKS document
)

// Config says where keys come from.
type Config struct {
	Store   *store.DB
	PEM     []secret.Value // signingKeySecretRefs: the first signs, all are published; empty: keys of our own
	Overlap time.Duration  // how long the last token of a replaced key is good
	Log     *zap.Logger
}

// Keys are those in force and published. Safe for concurrent use.
type Keys struct {
	cfg  Config
	set  atomic.Pointer[set]
	pems [][]secret.Value // what was configured, the newest first; guarded by mu

	mu      sync.Mutex
	changed chan struct{} // closed when JWKS changes
}

// key is one private key and what is published of it.
type key struct {
	kid    string
	public jose.JSONWebKey
	signer jose.Signer
	active time.Time // signs from then on, until the next one does; zero for configured keys
}

// set is what is published and signed with. Immutable.
type set struct {
	keys       []key // by time of activity; of configured ones the last signs
	jwks, etag string
}

// Open reads or makes the keys. Start Run to rotate them.
func Open(ctx context.Context, cfg Config) (*Keys, error) {
	ks := &Keys{cfg: cfg, changed: make(chan struct{})}
	if err := ks.Configure(cfg.PEM); err != nil {
		return nil, err
	}
	if err := ks.Update(ctx, time.Now()); err != nil {
		return nil, err
	}
	return ks, nil
}

// Run rotates and notices what other replicas did, once a minute, until ctx ends.
func (ks *Keys) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := ks.Update(ctx, time.Now()); err != nil && ctx.Err() == nil {
			ks.cfg.Log.Error("signing keys not updated, the last ones stay in use", zap.Error(err))
		}
	}
}

// Update brings the keys to what they must be at now.
func (ks *Keys) Update(ctx context.Context, now time.Time) error {
	ks.mu.Lock()
	configured := len(ks.pems) > 0
	ks.mu.Unlock()
	if configured {
		return nil
	}
	stored, err := ks.cfg.Store.SigningKeys(ctx)
	if err != nil {
		return fmt.Errorf("reading signing keys: %w", err)
	}
	if active, due := next(stored, now); due {
		added, err := ks.add(ctx, active, newest(stored))
		if err != nil {
			return fmt.Errorf("making a signing key: %w", err)
		}
		if added != nil {
			stored = append(stored, *added)
		} else if stored, err = ks.cfg.Store.SigningKeys(ctx); err != nil {
			return fmt.Errorf("reading signing keys: %w", err)
		}
	}
	var keys []key
	for i, s := range stored {
		if i+1 < len(stored) && now.After(stored[i+1].Active.Add(ks.cfg.Overlap)) {
			if err := ks.cfg.Store.DeleteSigningKey(ctx, s.KID); err != nil {
				return fmt.Errorf("deleting a signing key: %w", err)
			}
			continue
		}
		private, err := x509.ParsePKCS8PrivateKey(s.Private)
		if err != nil {
			return fmt.Errorf("signing key %s: %w", s.KID, err)
		}
		k, err := newKey(private)
		if err != nil {
			return fmt.Errorf("signing key %s: %w", s.KID, err)
		}
		k.active = s.Active
		keys = append(keys, k)
	}
	return ks.publish(keys)
}

// next says whether a key is missing at now, and from when on it would sign.
func next(stored []store.SigningKey, now time.Time) (active time.Time, due bool) {
	if len(stored) == 0 {
		return now, true
	}
	change := stored[len(stored)-1].Active.Add(period)
	if now.Before(change.Add(-lead)) {
		return time.Time{}, false
	}
	if soonest := now.Add(lead); change.Before(soonest) { // we slept over it
		change = soonest
	}
	return change, true
}

func newest(stored []store.SigningKey) string {
	if len(stored) == 0 {
		return ""
	}
	return stored[len(stored)-1].KID
}

// add makes a key; nil if another replica was faster.
func (ks *Keys) add(ctx context.Context, active time.Time, newest string) (*store.SigningKey, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	k, err := newKey(private)
	if err != nil {
		return nil, err
	}
	s := &store.SigningKey{KID: k.kid, Active: active.Truncate(time.Microsecond)}
	if s.Private, err = x509.MarshalPKCS8PrivateKey(private); err != nil {
		return nil, err
	}
	err = ks.cfg.Store.AddSigningKey(ctx, s, newest)
	if errors.Is(err, store.ErrTaken) {
		return nil, nil
	}
	if err == nil {
		ks.cfg.Log.Info("new signing key", zap.String("kid", s.KID), zap.Time("signs from", s.Active))
	}
	return s, err
}

// Rotate makes a new key now that signs after lead. For `vmcp` and tests; Run does it by itself in time.
func (ks *Keys) Rotate(ctx context.Context, now time.Time) error {
	stored, err := ks.cfg.Store.SigningKeys(ctx)
	if err != nil {
		return fmt.Errorf("reading signing keys: %w", err)
	}
	if _, err := ks.add(ctx, now.Add(lead), newest(stored)); err != nil {
		return fmt.Errorf("making a signing key: %w", err)
	}
	return ks.Update(ctx, now)
}

// publish puts keys in force.
func (ks *Keys) publish(keys []key) error {
	published := jose.JSONWebKeySet{}
	for _, k := range slices.Backward(keys) { // the newest first
		published.Keys = append(published.Keys, k.public)
	}
	jwks, err := json.Marshal(published)
	if err != nil {
		return fmt.Errorf("encoding the keys: %w", err)
	}
	sum := sha256.Sum256(jwks)
	old := ks.set.Swap(&set{keys: keys, jwks: string(jwks), etag: `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`})
	if old != nil && old.jwks == string(jwks) {
		return nil
	}
	ks.mu.Lock()
	defer ks.mu.Unlock()
	close(ks.changed)
	ks.changed = make(chan struct{})
	return nil
}

// JWKS is the public key set (RFC 7517) and its entity tag.
func (ks *Keys) JWKS() (jwks []byte, etag string) {
	s := ks.set.Load()
	return []byte(s.jwks), s.etag
}

// Changed is closed when JWKS next changes.
func (ks *Keys) Changed() <-chan struct{} {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	return ks.changed
}

// Sign makes an access token of a payload (RFC 9068: typ at+jwt).
func (ks *Keys) Sign(payload []byte) (string, error) {
	keys := ks.set.Load().keys
	now := time.Now()
	for _, k := range slices.Backward(keys) {
		if k.active.After(now) {
			continue
		}
		jws, err := k.signer.Sign(payload)
		if err != nil {
			return "", fmt.Errorf("signing with %s: %w", k.kid, err)
		}
		return jws.CompactSerialize()
	}
	return "", errors.New("no signing key is active: is the clock right?")
}

// Open returns the payload of a token that one of these keys signed and whose key is still published.
func (ks *Keys) Open(token string) ([]byte, error) {
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256, jose.ES384, jose.RS256, jose.EdDSA})
	if err != nil {
		return nil, errors.New("not a token of ours")
	}
	for _, k := range ks.set.Load().keys {
		if k.kid == jws.Signatures[0].Header.KeyID {
			return jws.Verify(k.public.Key)
		}
	}
	return nil, errors.New("signed with an unknown key")
}
