// Package tokentest is a small OIDC issuer on loopback: discovery, keys, and tokens minted on request. It is the peer
// of tests, of the demo without a sign-in, and of e2e, and it can misbehave.
package tokentest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"maps"
	"math/big"
	"net"
	"net/http"
	"sync"
	"time"
)

// Issuer is a running issuer. Its methods may be called at any time, from anywhere.
type Issuer struct {
	URL      string // the iss of its tokens; no trailing slash
	CABundle []byte // PEM of its certificate; nil for http

	server *http.Server
	done   chan struct{} // closed when the server has stopped

	mu     sync.Mutex
	keys   []signingKey   // the last one signs, all are published
	n      int            // keys made so far
	status int            // of every answer; 0: as it should be
	counts map[string]int // requests by path
}

type signingKey struct {
	kid string
	key *ecdsa.PrivateKey
}

// Start starts an issuer with plain http on addr, such as "127.0.0.1:0".
func Start(addr string) (*Issuer, error) { return start(addr, nil, nil) }

// StartTLS starts an issuer with https and a certificate of its own making, see CABundle.
func StartTLS(addr string) (*Issuer, error) {
	cert, ca, err := certificate()
	if err != nil {
		return nil, fmt.Errorf("making a certificate: %w", err)
	}
	return start(addr, &tls.Config{Certificates: []tls.Certificate{cert}}, ca)
}

func start(addr string, config *tls.Config, ca []byte) (*Issuer, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("test issuer: %w", err)
	}
	i := &Issuer{URL: "http://" + l.Addr().String(), CABundle: ca, counts: map[string]int{}, done: make(chan struct{})}
	if config != nil {
		i.URL = "https://" + l.Addr().String()
		l = tls.NewListener(l, config)
	}
	i.Rotate()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		respond(w, map[string]any{
			"issuer": i.URL, "jwks_uri": i.URL + "/keys",
			"authorization_endpoint": i.URL + "/authorize", "token_endpoint": i.URL + "/token",
			"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
			"id_token_signing_alg_values_supported": []string{"ES256"},
		})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, r *http.Request) { w.Write(i.JWKS()) })
	i.server = &http.Server{Handler: i.misbehave(mux), ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	go func() {
		defer close(i.done)
		i.server.Serve(l)
	}()
	return i, nil
}

// Close stops the issuer; its tokens and JWKS can still be had.
func (i *Issuer) Close() {
	i.server.Close()
	<-i.done
}

func (i *Issuer) misbehave(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		i.counts[r.URL.Path]++
		status := i.status
		i.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		if status != 0 {
			w.WriteHeader(status)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func respond(w http.ResponseWriter, v any) { json.NewEncoder(w).Encode(v) }

// SetStatus makes every answer an empty one with that HTTP status; 0 makes it well again.
func (i *Issuer) SetStatus(status int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.status = status
}

// Fetches returns how often the keys were asked for.
func (i *Issuer) Fetches() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.counts["/keys"]
}

// Rotate makes a new key that signs from now on. The older ones stay published until Forget.
func (i *Issuer) Rotate() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err) // no randomness
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.n++
	i.keys = append(i.keys, signingKey{fmt.Sprintf("key-%d", i.n), key})
}

// Forget withdraws all keys but the one that signs.
func (i *Issuer) Forget() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = i.keys[len(i.keys)-1:]
}

// JWKS returns the published key set, JSON.
func (i *Issuer) JWKS() []byte {
	i.mu.Lock()
	defer i.mu.Unlock()
	var keys []map[string]string
	for _, k := range i.keys {
		point, err := k.key.PublicKey.Bytes() // 4, x, y
		if err != nil {
			panic(err) // the key is ours
		}
		keys = append(keys, map[string]string{
			"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": k.kid, "x": encode(point[1:33]), "y": encode(point[33:]),
		})
	}
	out, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		panic(err)
	}
	return out
}

// Mint returns an access token with the claims. iss, iat, exp (15 minutes) and jti are added where they are missing;
// a claim that is nil is left out.
func (i *Issuer) Mint(claims map[string]any) string {
	now := time.Now().Unix()
	all := map[string]any{"iss": i.URL, "iat": now, "exp": now + 900, "jti": rand.Text()}
	maps.Copy(all, claims)
	maps.DeleteFunc(all, func(_ string, v any) bool { return v == nil })
	payload, err := json.Marshal(all)
	if err != nil {
		panic(fmt.Sprintf("claims are not JSON: %v", err))
	}
	return i.Sign(nil, payload)
}

// Sign returns a token with any payload, signed with ES256. header replaces members of the usual header, nil ones are
// left out; it changes what the token says, not how it is signed.
func (i *Issuer) Sign(header map[string]any, payload []byte) string {
	i.mu.Lock()
	signer := i.keys[len(i.keys)-1]
	i.mu.Unlock()
	all := map[string]any{"alg": "ES256", "typ": "at+jwt", "kid": signer.kid}
	maps.Copy(all, header)
	maps.DeleteFunc(all, func(_ string, v any) bool { return v == nil })
	head, err := json.Marshal(all)
	if err != nil {
		panic(fmt.Sprintf("header is not JSON: %v", err))
	}
	return i.SignRaw(head, payload)
}

// SignRaw is Sign with the header's bytes.
func (i *Issuer) SignRaw(header, payload []byte) string {
	i.mu.Lock()
	signer := i.keys[len(i.keys)-1]
	i.mu.Unlock()
	text := encode(header) + "." + encode(payload)
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, signer.key, sum[:])
	if err != nil {
		panic(err)
	}
	sig := make([]byte, 64) // RFC 7518 section 3.4
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return text + "." + encode(sig)
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func certificate() (tls.Certificate, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()),
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(24 * time.Hour),
		IsCA:         true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	pemCert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pemCert, nil
}
