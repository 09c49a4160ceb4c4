// Package token verifies the JWT access tokens of one issuer and remembers those it has verified.
//
// It owns what makes a token good (signature with a pinned algorithm, issuer, audience, times, type; RFC 7519, 8725,
// 9068; AU-6), the issuer's keys with their refresh and their copy on disk, and the cache. It leaves to authz
// what claims mean (roles, policies), revocation, and the answers that clients see.
//
// A verification that was done once costs a SHA-256 and a look-up the next time. What the caller computes from the
// claims is kept beside them: V, made by the build function once per verification. A V that depends on more than the
// claims (policies that reload) must notice by itself that it is outdated.
package token

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"vmcp/internal/gatewayconfig"
)

const (
	maxToken   = 16 << 10 // bytes of the compact form
	maxPayload = 4 << 10  // bytes of JSON; what fits into a sealed decision
	skew       = 60 * time.Second
	cacheTime  = 5 * time.Minute // longest life of a remembered verification
)

// Margin is how long after its exp somebody may still take a token, since clocks differ: keys and revocations outlive
// tokens by it.
const Margin = 2 * time.Minute

// fetching is for Verify: keys are fetched often, and a token with an unknown one waits less than the second that Envoy
// gives a check.
var fetching = schedule{refresh: 5 * time.Minute, demand: 10 * time.Second, wait: 700 * time.Millisecond}

// ErrNotReady says that no token can be verified now: our fault, not the client's (503). Every other error of Verify
// that does not come from the build function means a bad token (401).
var ErrNotReady = errors.New("the issuer's keys are not known yet")

// ErrUnknownKey says that a token names a key that the issuer does not publish, or did not when it was last asked.
var ErrUnknownKey = errors.New("token is signed with a key that the issuer does not publish")

// Config says whose tokens are accepted.
type Config struct {
	Issuer   gatewayconfig.Issuer
	Audience string
	KeysFile string // where the last good keys are kept; empty: nowhere
	Pushed   bool   // the keys come by SetKeys alone: Run is not used, and nobody waits for an unknown key
	Log      *zap.Logger
}

// Claims is what a verified token says. Fields beside Payload are the registered claims that we act on ourselves.
type Claims struct {
	Payload  []byte // the JSON as signed, at most 4096 bytes; not to be changed
	Issuer   string
	Subject  string
	ClientID string // client_id (RFC 9068), else azp, else appid (Entra v1.0)
	TSID     string // session family, our own tokens only
	JTI      string
	Scope    []string // scope or scp
	Expiry   time.Time
	IssuedAt time.Time // zero when the token does not say
}

// Verifier verifies tokens and keeps a V for each. It is safe for concurrent use.
type Verifier[V any] struct {
	cfg   Config
	build func(Claims) (V, error)
	keys  *issuerKeys
	cache cache[V]
}

// New returns a verifier with the keys of KeysFile, if those are of this issuer. Start Run to fetch keys, or call
// SetKeys.
func New[V any](cfg Config, build func(Claims) (V, error)) (*Verifier[V], error) {
	if cfg.Issuer.URL == "" || cfg.Audience == "" {
		return nil, errors.New("token verifier: issuer and audience are required")
	}
	source, err := newSource(cfg.Issuer)
	if err != nil {
		return nil, err
	}
	keys := issuerKeys{issuer: cfg.Issuer.URL, fetchKeys: source.fetchKeys, file: cfg.KeysFile, schedule: fetching, log: cfg.Log}
	if cfg.Pushed {
		keys.schedule = schedule{}
	}
	return &Verifier[V]{cfg: cfg, build: build, keys: keys.open()}, nil
}

// Run fetches the issuer's keys, now, every five minutes, and when a token names an unknown key, at most once per ten
// seconds, until ctx ends. A failed fetch is logged and repeated; the last good keys stay.
func (v *Verifier[V]) Run(ctx context.Context) error { return v.keys.run(ctx) }

// SetKeys replaces the keys by those of a JSON Web Key Set (RFC 7517), for an issuer that pushes them. A set without a
// usable key is an error and changes nothing.
func (v *Verifier[V]) SetKeys(jwks []byte) error { return v.keys.set(jwks) }

// Ready returns nil when tokens can be verified, else why not.
func (v *Verifier[V]) Ready() error { return v.keys.ready() }

// Verify returns what build made of a good token's claims, or ErrNotReady, or why the token is bad. The V of one token
// is the same for all requests until it is verified again. The error is for logs: of the token it holds algorithm, typ
// and times, and clients get a constant message. A token with an unknown key may wait 0.7 s for a fetch of the keys.
func (v *Verifier[V]) Verify(token string) (V, error) {
	var zero V
	if len(token) > maxToken {
		return zero, fmt.Errorf("token has %d bytes, at most %d are accepted", len(token), maxToken)
	}
	sum := sha256.Sum256([]byte(token))
	now := time.Now()
	if value, ok := v.cache.get(sum, now); ok {
		return value, nil
	}
	claims, key, err := v.check(token, now)
	if err != nil {
		return zero, err
	}
	value, err := v.build(claims)
	if err != nil {
		return zero, err
	}
	until := now.Add(cacheTime)
	if claims.Expiry.Before(until) {
		until = claims.Expiry
	}
	v.cache.put(sum, entry[V]{value, key, until}, now)
	return value, nil
}

// check verifies without the cache.
func (v *Verifier[V]) check(token string, now time.Time) (Claims, *key, error) {
	head, err := parseHeader(token)
	if err != nil {
		return Claims{}, nil, err
	}
	if err := head.check(v.cfg.Issuer.Own); err != nil {
		return Claims{}, nil, err
	}
	key, err := v.keys.find(head)
	if err != nil {
		return Claims{}, nil, err
	}
	payload, err := key.verify(token, head.alg)
	if err != nil {
		return Claims{}, nil, err
	}
	claims, err := parseClaims(payload, v.cfg.Issuer.URL, v.cfg.Audience, now)
	return claims, key, err
}
