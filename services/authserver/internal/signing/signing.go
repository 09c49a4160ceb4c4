// Package signing is the keys that access tokens are signed with. It owns making, keeping and rotating them, the
// documents that publish them, and signing; what a token says is internal/token's.
//
// Without keys in the documents it makes its own, an ES256 key per month, and keeps them sealed in the store (own.go);
// those of the documents stay there, and the store has the times of their public halves (configured.go). Either way a key
// is published before it signs (lead) and after the next one does (overlap), so nobody ever meets a token whose key is
// not there (T54). What is current is a function of the stored times alone: several replicas agree without a leader.
package signing

import (
	"context"
	"crypto/sha256"
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

	"vmcp/services/authserver/internal/store"
)

const (
	period = 30 * 24 * time.Hour // a key signs
	lead   = 15 * time.Minute    // it is published before: three times the max-age of the JWKS document
)

// Config says where keys come from.
type Config struct {
	Store   *store.DB
	Overlap time.Duration // how long the last token of a replaced key is good
	Log     *zap.Logger
}

// Keys are those in force and published. Safe for concurrent use.
type Keys struct {
	cfg Config
	set atomic.Pointer[set]

	updating   sync.Mutex // guards the documents' part; above mu
	configured []key      // of the documents, the first is to sign
	removed    []key      // that were, in this process: the last resort for signing
	drop       bool       // what is removed from the documents is not published any more

	mu      sync.Mutex
	changed chan struct{} // closed when JWKS changes
}

// key is one private key and what is published of it.
type key struct {
	kid    string
	public jose.JSONWebKey
	signer jose.Signer // nil: it is published and signs nothing
	active time.Time   // may sign from then on
}

func (k key) signs(now time.Time) bool { return k.signer != nil && !k.active.After(now) }

// set is what is published and signed with. Immutable.
type set struct {
	keys       []key // the first one that is active signs
	jwks, etag string
}

// Open puts the keys of the documents in force, or reads or makes its own. Start Run to rotate them.
func Open(ctx context.Context, cfg Config, d Documents) (*Keys, error) {
	ks := &Keys{cfg: cfg, changed: make(chan struct{})}
	if err := ks.Configure(ctx, d); err != nil {
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
	ks.updating.Lock()
	defer ks.updating.Unlock()
	return ks.update(ctx, now)
}

// update needs updating.
func (ks *Keys) update(ctx context.Context, now time.Time) error {
	configured, gone, err := ks.documents(ctx, now)
	if err != nil {
		return fmt.Errorf("keys of the documents: %w", err)
	}
	own, err := ks.own(ctx, now, configured, gone)
	if err != nil {
		return err
	}
	all := slices.Concat(configured, own, gone)
	// Until a new key has been published for long enough another one signs, also one that was just removed from the
	// documents. If there is none, the new one does.
	if !slices.ContainsFunc(all, func(k key) bool { return k.signs(now) }) {
		if i := slices.IndexFunc(all, func(k key) bool { return k.signer != nil }); i >= 0 {
			all[i].active = now
		}
	}
	return ks.publish(all)
}

// publish puts keys in force.
func (ks *Keys) publish(keys []key) error {
	published := jose.JSONWebKeySet{}
	for _, k := range keys {
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
	for _, k := range keys {
		if !k.signs(now) {
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
