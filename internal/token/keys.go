package token

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// key is one public key of the issuer. The same pointer stays as long as the key is in the issuer's set.
type key struct {
	jwk  publicJWK
	key  any // *ecdsa.PublicKey, *rsa.PublicKey or ed25519.PublicKey
	algs []jose.SignatureAlgorithm
	gone atomic.Bool // no longer in the set
}

// publicJWK is what is read, and kept on disk, of a JSON Web Key: no certificates, no private parts. Comparable.
type publicJWK struct {
	Kty string `json:"kty"`
	Kid string `json:"kid,omitzero"`
	Use string `json:"use,omitzero"`
	Alg string `json:"alg,omitzero"`
	Crv string `json:"crv,omitzero"`
	X   string `json:"x,omitzero"`
	Y   string `json:"y,omitzero"`
	N   string `json:"n,omitzero"`
	E   string `json:"e,omitzero"`
}

const (
	maxKeys = 100

	// Sizes of RSA keys. Shorter is weak (RFC 8725 section 3.5), longer is a way to burn our time; go-jose refuses it, too.
	MinRSABits, MaxRSABits = 2048, 4096
)

// parseKeys returns the usable keys of a JSON Web Key Set. Keys of other kinds or uses are passed over: issuers publish
// what others need, too.
func parseKeys(jwks []byte) ([]*key, error) {
	var set struct {
		Keys []jsontext.Value `json:"keys"`
	}
	if err := json.Unmarshal(jwks, &set); err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("key set has %d keys, at most %d are accepted", len(set.Keys), maxKeys)
	}
	var keys []*key
	for _, raw := range set.Keys {
		k := parseKey(raw)
		if k != nil && !slices.ContainsFunc(keys, func(other *key) bool { return other.jwk == k.jwk }) {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("key set has %d keys and none that can verify RS256, PS256, ES256, ES384 or EdDSA", len(set.Keys))
	}
	return keys, nil
}

// parseKey returns nil for a key that cannot verify tokens.
func parseKey(raw []byte) *key {
	var k key
	if err := json.Unmarshal(raw, &k.jwk); err != nil || k.jwk.Use != "" && k.jwk.Use != "sig" {
		return nil
	}
	public, err := json.Marshal(k.jwk)
	if err != nil {
		return nil
	}
	var parsed jose.JSONWebKey
	if err := parsed.UnmarshalJSON(public); err != nil || !parsed.Valid() {
		return nil
	}
	k.key = parsed.Key
	switch p := parsed.Key.(type) {
	case *ecdsa.PublicKey:
		switch p.Curve {
		case elliptic.P256():
			k.algs = []jose.SignatureAlgorithm{jose.ES256}
		case elliptic.P384():
			k.algs = []jose.SignatureAlgorithm{jose.ES384}
		}
	case *rsa.PublicKey:
		if bits := p.N.BitLen(); MinRSABits <= bits && bits <= MaxRSABits {
			k.algs = []jose.SignatureAlgorithm{jose.RS256, jose.PS256}
		}
	case ed25519.PublicKey:
		k.algs = []jose.SignatureAlgorithm{jose.EdDSA}
	}
	if k.jwk.Alg != "" { // a key for one algorithm only (RFC 7517 section 4.4)
		k.algs = slices.DeleteFunc(k.algs, func(a jose.SignatureAlgorithm) bool { return string(a) != k.jwk.Alg })
	}
	if len(k.algs) == 0 {
		return nil
	}
	return &k
}

func (k *key) fits(alg jose.SignatureAlgorithm) bool { return slices.Contains(k.algs, alg) }

// verify returns the payload of a token that this key signed with alg.
func (k *key) verify(token string, alg jose.SignatureAlgorithm) ([]byte, error) {
	if !k.fits(alg) {
		return nil, errors.New("token algorithm is not that of its key")
	}
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{alg})
	if err != nil {
		return nil, errors.New("token is malformed")
	}
	payload, err := jws.Verify(k.key)
	if err != nil {
		return nil, errors.New("token signature does not match")
	}
	return payload, nil
}
