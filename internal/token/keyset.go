package token

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	"go.uber.org/zap"
)

// KeysConfig says where keys come from, and when they are fetched.
type KeysConfig struct {
	Issuer  string                                // for logs
	Fetch   func(context.Context) ([]byte, error) // returns a JSON Web Key Set; has 10 s
	Refresh time.Duration                         // between two fetches
	Demand  time.Duration                         // at least this long between two fetches that unknown keys ask for
	Wait    time.Duration                         // how long Verify waits for such a fetch
	Trust   time.Duration                         // how long keys outlive the last good fetch
	Log     *zap.Logger
}

// Keys is the key set of an issuer for those who judge the claims themselves, and remember no tokens. Its fetching and
// its rules for signatures are those of a Verifier. It is safe for concurrent use.
type Keys struct{ keys *issuerKeys }

// NewKeys returns an empty key set. Start Run to fill it.
func NewKeys(cfg KeysConfig) *Keys {
	keys := issuerKeys{issuer: cfg.Issuer, fetchKeys: cfg.Fetch, log: cfg.Log, schedule: schedule{
		refresh: cfg.Refresh, demand: cfg.Demand, wait: cfg.Wait, trust: cfg.Trust,
	}}
	return &Keys{keys.open()}
}

// Run fetches keys until ctx ends. A failed fetch is logged and repeated; the last good keys stay, for as long as they
// are trusted.
func (k *Keys) Run(ctx context.Context) error { return k.keys.run(ctx) }

// Ready returns nil when there are trusted keys, else ErrNotReady with the reason.
func (k *Keys) Ready() error { return k.keys.ready() }

// Verify returns the payload of a token in compact form whose signature is good, with this algorithm and a key that the
// token names. The payload is not looked at. Errors are ErrNotReady, ErrUnknownKey, or mean a bad token; they hold
// nothing of it but algorithm and typ.
func (k *Keys) Verify(token string, alg jose.SignatureAlgorithm) ([]byte, error) {
	if len(token) > maxToken {
		return nil, fmt.Errorf("token has %d bytes, at most %d are accepted", len(token), maxToken)
	}
	head, err := parseHeader(token)
	if err != nil {
		return nil, err
	}
	if err := head.check(false); err != nil {
		return nil, err
	}
	if head.alg != alg {
		return nil, fmt.Errorf("token algorithm is %s, want %s", head.alg, alg)
	}
	if head.kid == "" {
		return nil, errors.New("token names no key")
	}
	key, err := k.keys.find(head)
	if err != nil {
		return nil, err
	}
	return key.verify(token, alg)
}
