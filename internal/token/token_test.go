package token

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"vmcp/internal/await"
	"vmcp/internal/gatewayconfig"
	"vmcp/internal/token/tokentest"
)

const audience = "https://mcp.example.com/mcp"

// caller is what authz would compute from the claims.
type caller struct{ Claims }

func startIssuer(t testing.TB) *tokentest.Issuer {
	t.Helper()
	i, err := tokentest.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(i.Close)
	return i
}

func newVerifier(t testing.TB, cfg Config) *Verifier[*caller] {
	t.Helper()
	cfg.Log, cfg.Audience = zap.NewNop(), audience
	v, err := New(cfg, func(c Claims) (*caller, error) {
		if c.Subject == "unbuildable" {
			return nil, errors.New("cannot build")
		}
		return &caller{c}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// run starts v.Run and waits for its first keys.
func run(t testing.TB, v *Verifier[*caller]) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := v.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	await.That(t, "the first keys", func() bool { return v.Ready() == nil })
}

func issuerConfig(i *tokentest.Issuer) Config {
	return Config{Issuer: gatewayconfig.Issuer{URL: i.URL}}
}

func good(extra map[string]any) map[string]any {
	claims := map[string]any{"sub": "ann", "aud": audience}
	for k, v := range extra {
		claims[k] = v
	}
	return claims
}

func TestVerify(t *testing.T) {
	i := startIssuer(t)
	v := newVerifier(t, issuerConfig(i))
	run(t, v)
	now := time.Now().Truncate(time.Second)
	token := i.Mint(map[string]any{
		"sub": "ann", "aud": []string{"other", audience}, "client_id": "c", "azp": "not this", "tsid": "s", "jti": "j",
		"scope": "mcp:tools mcp:read", "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(), "groups": []string{"dev"},
	})
	got, err := v.Verify(token)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(got.Payload, []byte(`"groups":["dev"]`)) {
		t.Errorf("payload %s", got.Payload)
	}
	want := &caller{Claims{
		Payload: got.Payload, Issuer: i.URL, Subject: "ann", ClientID: "c", TSID: "s", JTI: "j", Scope: []string{"mcp:tools", "mcp:read"},
		IssuedAt: now, Expiry: now.Add(time.Hour),
	}}
	if d := cmp.Diff(got, want); d != "" {
		t.Errorf("got, want:\n%s", d)
	}
	if again, err := v.Verify(token); again != got {
		t.Errorf("the second time: %p, %v, want the same %p", again, err, got)
	}
	if _, err := v.Verify(i.Mint(good(map[string]any{"sub": "unbuildable"}))); err == nil || err.Error() != "cannot build" {
		t.Errorf("build error: got %v", err)
	}
}

func TestVerifyAccepts(t *testing.T) {
	i := startIssuer(t)
	v := newVerifier(t, issuerConfig(i))
	run(t, v)
	now := time.Now().Unix()
	for name, token := range map[string]string{
		"one audience":      i.Mint(good(nil)),
		"appid":             i.Mint(good(map[string]any{"appid": "a", "scp": "x"})),
		"scope list":        i.Mint(good(map[string]any{"scope": []string{"a", "b"}})),
		"no iat":            i.Mint(good(map[string]any{"iat": nil})),
		"skewed iat":        i.Mint(good(map[string]any{"iat": now + 30, "nbf": now + 30})),
		"fraction":          i.Mint(good(map[string]any{"exp": float64(now) + 60.5})),
		"typ JWT":           i.Sign(map[string]any{"typ": "JWT"}, payload(i, nil)),
		"no typ":            i.Sign(map[string]any{"typ": nil}, payload(i, nil)),
		"long typ":          i.Sign(map[string]any{"typ": "application/AT+JWT"}, payload(i, nil)),
		"no kid, one key":   i.Sign(map[string]any{"kid": nil}, payload(i, nil)),
		"largest payload":   i.Sign(nil, padded(payload(i, nil), maxPayload)),
		"longest token":     ofLength(t, i, maxToken),
		"key that it bring": i.Sign(map[string]any{"jku": i.URL + "/evil", "x5u": i.URL + "/evil"}, payload(i, nil)),
	} {
		if _, err := v.Verify(token); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := i.Fetches(); got != 1 {
		t.Errorf("%d key fetches, want 1", got)
	}
}

// payload returns good claims with changes, as JSON.
func payload(i *tokentest.Issuer, change map[string]any) []byte {
	claims := good(map[string]any{"iss": i.URL, "exp": time.Now().Unix() + 60})
	for k, v := range change {
		claims[k] = v
	}
	b, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	return b
}

// padded is JSON with blanks behind it.
func padded(json []byte, size int) []byte {
	return append(json, bytes.Repeat([]byte(" "), size-len(json))...)
}

// ofLength is a good token with so many bytes, made by blanks in its header and payload.
func ofLength(t *testing.T, i *tokentest.Issuer, length int) string {
	t.Helper()
	head, body := []byte(`{"alg":"ES256","typ":"at+jwt","kid":"key-1"}`), payload(i, nil)
	for more := range 3 { // base64 gives three of four lengths
		body := padded(body, len(body)+more)
		rest := length - len(i.SignRaw(nil, body))
		for n := rest*3/4 - 3; n < rest; n++ {
			if token := i.SignRaw(padded(head, n), body); len(token) == length {
				return token
			} else if len(token) > length {
				break
			}
		}
	}
	t.Fatalf("no token of %d bytes", length)
	return ""
}

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// TestTimes: to the nanosecond, where a token begins and ends to be good.
func TestTimes(t *testing.T) {
	i := startIssuer(t)
	v := newVerifier(t, issuerConfig(i))
	if err := v.SetKeys(i.JWKS()); err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		claim string
		at    float64
		now   time.Time
		want  string // in the error; empty: good
	}{
		{"exp", float64(now.Unix()), now.Add(-1), ""},
		{"exp", float64(now.Unix()), now, "expired"},
		{"exp", float64(now.Unix()) + 0.9, now, "expired"}, // fractions are cut
		{"exp", 0, now, "expired"},
		{"exp", 253402300799, now, ""}, // the last second of the year 9999
		{"exp", 253402300800, now, "not a date"},
		{"nbf", float64(now.Unix()), now.Add(-skew), ""},
		{"nbf", float64(now.Unix()), now.Add(-skew - 1), "future"},
		{"nbf", 0, now, ""},
		{"nbf", -1, now, "not a date"},
		{"iat", float64(now.Unix()), now.Add(-skew), ""},
		{"iat", float64(now.Unix()), now.Add(-skew - 1), "future"},
	} {
		claims := good(map[string]any{"iat": nil, "exp": now.Add(time.Hour).Unix()})
		claims[tt.claim] = tt.at
		_, _, err := v.check(i.Mint(claims), tt.now)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s %.1f at %v: got %v, want %q", tt.claim, tt.at, tt.now, err, tt.want)
		}
	}
}

func TestOwnTokensHaveType(t *testing.T) {
	i := startIssuer(t)
	cfg := issuerConfig(i)
	cfg.Issuer.Own = true
	v := newVerifier(t, cfg)
	if err := v.SetKeys(i.JWKS()); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(i.Mint(good(nil))); err != nil {
		t.Error(err)
	}
	for _, typ := range []any{"JWT", nil, "id+jwt"} {
		if _, err := v.Verify(i.Sign(map[string]any{"typ": typ}, payload(i, nil))); err == nil {
			t.Errorf("typ %v accepted", typ)
		}
	}
}

// Every accepted algorithm, with keys made and tokens signed by another implementation of the format.
func TestAlgorithms(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	v := newVerifier(t, Config{Issuer: gatewayconfig.Issuer{URL: "https://issuer.example.com"}})
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
		{KeyID: "rsa", Key: &rsaKey.PublicKey}, {KeyID: "weak", Key: &weak.PublicKey}, {KeyID: "p384", Key: &p384.PublicKey}, {KeyID: "p521", Key: &p521.PublicKey},
		{KeyID: "ed", Key: public}, {KeyID: "secret", Key: []byte("0123456789abcdef0123456789abcdef")}, {KeyID: "enc", Key: &rsaKey.PublicKey, Use: "enc"},
		{KeyID: "ps", Key: &rsaKey.PublicKey, Algorithm: "PS256"},
	}}
	jwks, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.SetKeys(jwks); err != nil {
		t.Fatal(err)
	}
	claims, err := json.Marshal(good(map[string]any{"iss": "https://issuer.example.com", "exp": time.Now().Unix() + 60}))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		kid string
		alg jose.SignatureAlgorithm
		key any
		ok  bool
	}{
		{"rsa", jose.RS256, rsaKey, true}, {"rsa", jose.PS256, rsaKey, true}, {"p384", jose.ES384, p384, true}, {"ed", jose.EdDSA, edKey, true},
		{"ps", jose.PS256, rsaKey, true}, {"ps", jose.RS256, rsaKey, false}, {"rsa", jose.RS512, rsaKey, false}, {"p521", jose.ES512, p521, false},
		{"weak", jose.RS256, weak, false}, {"enc", jose.RS256, rsaKey, false},
		{"secret", jose.HS256, []byte("0123456789abcdef0123456789abcdef"), false},
	} {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: tt.alg, Key: jose.JSONWebKey{Key: tt.key, KeyID: tt.kid}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		jws, err := signer.Sign(claims)
		if err != nil {
			t.Fatal(err)
		}
		token, err := jws.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Verify(token); (err == nil) != tt.ok {
			t.Errorf("%s with key %s: got %v, want ok %v", tt.alg, tt.kid, err, tt.ok)
		}
	}
}

// TestKeySizes: RSA keys of 2,048 to 4,096 bits. The numbers are no keys, but nothing is verified with them.
func TestKeySizes(t *testing.T) {
	for bits, want := range map[int]bool{2047: false, 2048: true, 4096: true, 4097: false} {
		n := new(big.Int).SetBit(big.NewInt(1), bits-1, 1)
		jwk, err := json.Marshal(jose.JSONWebKey{KeyID: "k", Key: &rsa.PublicKey{N: n, E: 65537}})
		if err != nil {
			t.Fatal(err)
		}
		if got := parseKey(jwk) != nil; got != want {
			t.Errorf("%d bits: usable %t, want %t", bits, got, want)
		}
	}
}

// What we mint is what we verify.
func TestIssued(t *testing.T) {
	i := startIssuer(t)
	v := newVerifier(t, issuerConfig(i))
	if err := v.SetKeys(i.JWKS()); err != nil {
		t.Fatal(err)
	}
	now := time.Now().Truncate(time.Second)
	in := Issued{Issuer: i.URL, Audience: audience, Subject: "ann", ClientID: "app", Scope: "a b", TSID: "session", JTI: "one", TID: "tenant", OID: "object",
		AuthTime: now.Add(-time.Hour), IssuedAt: now, Expiry: now.Add(time.Hour)}
	payload, err := in.Payload()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(payload, []byte(`"groups":[]`)) {
		t.Errorf("no roles are not an empty list: %s", payload)
	}
	got, err := v.Verify(i.Sign(nil, payload))
	if err != nil {
		t.Fatal(err)
	}
	want := Claims{Payload: payload, Issuer: i.URL, Subject: "ann", ClientID: "app", TSID: "session", JTI: "one", Scope: []string{"a", "b"}, Expiry: in.Expiry, IssuedAt: now}
	if diff := cmp.Diff(got.Claims, want); diff != "" {
		t.Error(diff)
	}
	in.Groups = []string{strings.Repeat("r", maxPayload-len(payload)-len(`""`))}
	if largest, err := in.Payload(); err != nil || len(largest) != maxPayload {
		t.Errorf("the largest: %d bytes, %v", len(largest), err)
	}
	in.Groups[0] += "r"
	if _, err := in.Payload(); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a byte more: %v", err)
	}
}
