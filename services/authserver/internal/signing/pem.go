package signing

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/go-jose/go-jose/v4"

	"vmcp/internal/secret"
	"vmcp/internal/token"
)

// parsePEM reads a private key. Its error holds nothing of it.
func parsePEM(text secret.Value) (crypto.Signer, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("not PEM: want a private key as PKCS #1, SEC 1 or PKCS #8")
	}
	var private any
	var err error
	switch block.Type {
	case "RSA PRIVATE KEY":
		private, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		private, err = x509.ParseECPrivateKey(block.Bytes)
	case "PRIVATE KEY":
		private, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("a PEM block %.40q; want an unencrypted private key as PKCS #1, SEC 1 or PKCS #8", block.Type)
	}
	if err != nil {
		return nil, errors.New("a private key that cannot be read")
	}
	signer, ok := private.(crypto.Signer)
	if !ok {
		return nil, errors.New("not a key that signs")
	}
	return signer, nil
}

// newKey names a key by its thumbprint (RFC 7638).
func newKey(private any) (key, error) {
	var k key
	signer, ok := private.(crypto.Signer)
	if !ok {
		return k, errors.New("not a key that signs")
	}
	var alg jose.SignatureAlgorithm
	switch p := signer.(type) {
	case *ecdsa.PrivateKey:
		switch p.Curve {
		case elliptic.P256():
			alg = jose.ES256
		case elliptic.P384():
			alg = jose.ES384
		default:
			return k, errors.New("an elliptic curve that is not supported; want P-256")
		}
	case *rsa.PrivateKey:
		if bits := p.N.BitLen(); bits < token.MinRSABits || bits > token.MaxRSABits { // others would not be verified
			return k, fmt.Errorf("an RSA key of %d bits; want %d to %d", bits, token.MinRSABits, token.MaxRSABits)
		}
		alg = jose.RS256
	case ed25519.PrivateKey:
		alg = jose.EdDSA
	default:
		return k, errors.New("a kind of key that is not supported; want P-256, RSA or Ed25519")
	}
	k.public = jose.JSONWebKey{Key: signer.Public(), Algorithm: string(alg), Use: "sig"}
	sum, err := k.public.Thumbprint(crypto.SHA256)
	if err != nil {
		return k, err
	}
	k.kid = base64.RawURLEncoding.EncodeToString(sum)
	k.public.KeyID = k.kid
	k.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: private, KeyID: k.kid}},
		(&jose.SignerOptions{}).WithType("at+jwt"))
	return k, err
}
