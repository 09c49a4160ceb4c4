package token

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

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
	waitFor(t, "the first keys", func() bool { return v.Ready() == nil })
}

func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waiting for %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
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

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func TestVerifyRefuses(t *testing.T) {
	i := startIssuer(t)
	v := newVerifier(t, issuerConfig(i))
	run(t, v)
	now := time.Now().Unix()
	ok := i.Mint(good(nil))
	parts := strings.Split(ok, ".")

	// HS256 with the published key as the secret, the classic confusion.
	hs := func(secret []byte) string {
		text := b64(`{"alg":"HS256","typ":"at+jwt","kid":"key-1"}`) + "." + parts[1]
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(text))
		return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	}
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	embedded, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: own}, &jose.SignerOptions{EmbedJWK: true, ExtraHeaders: map[jose.HeaderKey]any{"typ": "at+jwt", "kid": "key-1"}})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := embedded.Sign(payload(i, nil))
	if err != nil {
		t.Fatal(err)
	}
	brought, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	head := func(h string) string { return i.SignRaw([]byte(h), payload(i, nil)) }
	raw := func(format string, args ...any) string { return i.Sign(nil, fmt.Appendf(nil, format, args...)) }
	other := startIssuer(t)
	sig := []byte(parts[2])
	if sig[3] == 'A' { // another character of the alphabet
		sig[3] = 'B'
	} else {
		sig[3] = 'A'
	}

	for name, tt := range map[string]struct{ token, want string }{
		"empty":                {"", "compact"},
		"no dots":              {"abc", "compact"},
		"two dots":             {"..", "header"},
		"three dots":           {ok + ".", "compact"},
		"five parts":           {ok + ".a.b", "compact"},
		"line break":           {ok + "\n", "compact"},
		"space":                {" " + ok, "compact"},
		"padding":              {parts[0] + "=." + parts[1] + "." + parts[2], "compact"},
		"not canonical":        {parts[0] + "." + parts[1] + "." + parts[2][:85] + "_", "signature"},
		"oversized":            {ok + strings.Repeat("A", 16<<10), "bytes"},
		"alg none":             {b64(`{"alg":"none","typ":"at+jwt","kid":"key-1"}`) + "." + parts[1] + ".", "algorithm"},
		"alg None":             {b64(`{"alg":"None","typ":"at+jwt","kid":"key-1"}`) + "." + parts[1] + "." + parts[2], "algorithm"},
		"no alg":               {head(`{"typ":"at+jwt","kid":"key-1"}`), "algorithm"},
		"HS256 with the set":   {hs(i.JWKS()), "algorithm"},
		"ES512":                {head(`{"alg":"ES512","typ":"at+jwt","kid":"key-1"}`), "algorithm"},
		"another algorithm":    {head(`{"alg":"RS256","typ":"at+jwt","kid":"key-1"}`), "key"},
		"wrong kid":            {head(`{"alg":"ES256","typ":"at+jwt","kid":"../../keys"}`), "does not publish"},
		"its own key":          {brought, "signature"},
		"another's key":        {other.Mint(good(map[string]any{"iss": i.URL})), "signature"},
		"no signature":         {parts[0] + "." + parts[1] + ".", "signature"},
		"changed signature":    {parts[0] + "." + parts[1] + "." + string(sig), "signature"},
		"changed payload":      {parts[0] + "." + b64(`{"sub":"bob"}`) + "." + parts[2], "signature"},
		"crit":                 {head(`{"alg":"ES256","typ":"at+jwt","kid":"key-1","crit":["exp"]}`), "crit"},
		"crit null":            {head(`{"alg":"ES256","typ":"at+jwt","kid":"key-1","crit":null}`), "crit"},
		"b64":                  {head(`{"alg":"ES256","typ":"at+jwt","kid":"key-1","b64":false}`), "b64"},
		"zip":                  {head(`{"alg":"ES256","typ":"at+jwt","kid":"key-1","zip":"DEF"}`), "zip"},
		"twin alg":             {head(`{"alg":"none","alg":"ES256","typ":"at+jwt","kid":"key-1"}`), "duplicate"},
		"header is a list":     {head(`["ES256"]`), "header"},
		"header and more":      {head(`{"alg":"ES256","kid":"key-1"} {}`), "header"},
		"alg is a number":      {head(`{"alg":256}`), "header"},
		"ID token of OIDC":     {head(`{"alg":"ES256","typ":"logout+jwt","kid":"key-1"}`), "typ"},
		"long kid":             {head(`{"alg":"ES256","kid":"` + strings.Repeat("k", 300) + `"}`), "kid"},
		"another issuer":       {i.Mint(good(map[string]any{"iss": i.URL + "/"})), "issuer"},
		"no issuer":            {i.Mint(good(map[string]any{"iss": nil})), "issuer"},
		"another audience":     {i.Mint(good(map[string]any{"aud": audience + "/"})), "audience"},
		"other audiences":      {i.Mint(good(map[string]any{"aud": []string{"a", "b"}})), "audience"},
		"no audience":          {i.Mint(good(map[string]any{"aud": nil})), "audience"},
		"audience a number":    {i.Mint(good(map[string]any{"aud": 5})), "payload"},
		"no sub":               {i.Mint(good(map[string]any{"sub": nil})), "sub"},
		"empty sub":            {i.Mint(good(map[string]any{"sub": ""})), "sub"},
		"sub a number":         {i.Mint(good(map[string]any{"sub": 1})), "payload"},
		"no exp":               {i.Mint(good(map[string]any{"exp": nil})), "exp"},
		"exp a string":         {i.Mint(good(map[string]any{"exp": "9999999999"})), "payload"},
		"exp beyond time":      {i.Mint(good(map[string]any{"exp": 1e300})), "exp"},
		"negative exp":         {i.Mint(good(map[string]any{"exp": -1})), "exp"},
		"expired":              {i.Mint(good(map[string]any{"exp": now - 1})), "expired"},
		"not yet":              {i.Mint(good(map[string]any{"nbf": now + 90})), "nbf"},
		"from the future":      {i.Mint(good(map[string]any{"iat": now + 90})), "iat"},
		"large payload":        {i.Mint(good(map[string]any{"groups": strings.Repeat("x", 4096)})), "fewer claims"},
		"twin claim":           {raw(`{"iss":%q,"aud":%q,"exp":%d,"sub":"ann","sub":"bob"}`, i.URL, audience, now+60), "duplicate"},
		"twin claim escaped":   {raw(`{"iss":%q,"aud":%q,"exp":%d,"sub":"ann","s\u0075b":"bob"}`, i.URL, audience, now+60), "duplicate"},
		"twin inside":          {raw(`{"iss":%q,"aud":%q,"exp":%d,"sub":"ann","x":{"a":1,"a":2}}`, i.URL, audience, now+60), "duplicate"},
		"invalid UTF-8":        {raw("{\"iss\":%q,\"aud\":%q,\"exp\":%d,\"sub\":\"ann\xff\"}", i.URL, audience, now+60), "payload"},
		"two documents":        {raw(`{"iss":%q,"aud":%q,"exp":%d,"sub":"ann"}{}`, i.URL, audience, now+60), "payload"},
		"payload is no object": {raw(`"x"`), "payload"},
		"Sub is not sub":       {raw(`{"iss":%q,"aud":%q,"exp":%d,"Sub":"ann"}`, i.URL, audience, now+60), "sub"},
	} {
		got, err := v.Verify(tt.token)
		if err == nil {
			t.Errorf("%s: accepted: %+v", name, got)
			continue
		}
		if !strings.Contains(err.Error(), tt.want) || errors.Is(err, ErrNotReady) {
			t.Errorf("%s: got %q, want %q in it", name, err, tt.want)
		}
		if len(err.Error()) > 200 {
			t.Errorf("%s: an error of %d bytes: %.300s", name, len(err.Error()), err)
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

func TestCacheExpires(t *testing.T) {
	i := startIssuer(t)
	v := newVerifier(t, issuerConfig(i))
	if err := v.SetKeys(i.JWKS()); err != nil {
		t.Fatal(err)
	}
	short := i.Mint(good(map[string]any{"exp": time.Now().Add(90 * time.Second).Unix()}))
	long := i.Mint(good(map[string]any{"exp": time.Now().Add(time.Hour).Unix()}))
	for _, token := range []string{short, long} {
		if _, err := v.Verify(token); err != nil {
			t.Fatal(err)
		}
	}
	held := func(token string, after time.Duration) bool {
		_, ok := v.cache.get(sha256.Sum256([]byte(token)), time.Now().Add(after))
		return ok
	}
	for _, tt := range []struct {
		token string
		after time.Duration
		want  bool
	}{{short, 80 * time.Second, true}, {short, 91 * time.Second, false}, {long, 299 * time.Second, true}, {long, 301 * time.Second, false}} {
		if got := held(tt.token, tt.after); got != tt.want {
			t.Errorf("after %v: held %v, want %v", tt.after, got, tt.want)
		}
	}
	i.Rotate()
	i.Forget()
	if err := v.SetKeys(i.JWKS()); err != nil {
		t.Fatal(err)
	}
	if held(long, 0) {
		t.Error("the entry outlives its key")
	}
	if _, err := v.Verify(long); err == nil {
		t.Error("a withdrawn key still verifies")
	}
}

func TestCacheBounded(t *testing.T) {
	var c cache[int]
	now := time.Now()
	k := &key{}
	for n := range 3 * shards * shardSize {
		c.put(sha256.Sum256(fmt.Append(nil, n)), entry[int]{n, k, now.Add(time.Minute)}, now)
	}
	total := 0
	for i := range c.shard {
		total += len(c.shard[i].m)
	}
	if total > shards*shardSize {
		t.Errorf("%d entries, at most %d", total, shards*shardSize)
	}
	last := 3*shards*shardSize - 1
	if got, ok := c.get(sha256.Sum256(fmt.Append(nil, last)), now); !ok || got != last {
		t.Errorf("the newest is not there: %v", got)
	}
}

func TestRotation(t *testing.T) {
	i := startIssuer(t)
	v := newVerifier(t, issuerConfig(i))
	run(t, v)
	before := i.Mint(good(nil))
	i.Rotate()
	if _, err := v.Verify(i.Mint(good(nil))); err != nil {
		t.Errorf("first token of the new key: %v", err)
	}
	if _, err := v.Verify(before); err != nil {
		t.Errorf("token of the old key: %v", err)
	}
}

// Pushed keys: a token with an unknown one is refused at once, as nobody fetches.
func TestPushedKeys(t *testing.T) {
	i := startIssuer(t)
	cfg := issuerConfig(i)
	cfg.Pushed = true
	v := newVerifier(t, cfg)
	if err := v.SetKeys(i.JWKS()); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(i.Mint(good(nil))); err != nil {
		t.Error(err)
	}
	begin := time.Now()
	for range 20 {
		if _, err := v.Verify(i.Sign(map[string]any{"kid": rand.Text()}, payload(i, nil))); !errors.Is(err, ErrUnknownKey) {
			t.Errorf("unknown key: got %v", err)
		}
	}
	if took := time.Since(begin); took > 600*time.Millisecond || i.Fetches() != 0 {
		t.Errorf("20 unknown keys took %v and %d fetches", took, i.Fetches())
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
	for range 64 {
		in.Groups = append(in.Groups, strings.Repeat("r", 128))
	}
	if _, err := in.Payload(); !errors.Is(err, ErrTooLarge) {
		t.Errorf("64 long roles: %v", err)
	}
}

func TestUnknownKeyFlood(t *testing.T) {
	i := startIssuer(t)
	v := newVerifier(t, issuerConfig(i))
	run(t, v)
	i.SetDelay(100 * time.Millisecond)
	warm := i.Mint(good(nil))
	if _, err := v.Verify(warm); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				token := i.Sign(map[string]any{"kid": rand.Text()}, payload(i, nil))
				if _, err := v.Verify(token); err == nil || errors.Is(err, ErrNotReady) {
					t.Errorf("unknown key: got %v", err)
				}
			}
		})
	}
	begin := time.Now()
	if _, err := v.Verify(i.Mint(good(nil))); err != nil || time.Since(begin) > 90*time.Millisecond {
		t.Errorf("another verification took %v during the fetch: %v", time.Since(begin), err)
	}
	wg.Wait()
	if got := i.Fetches(); got > 2 {
		t.Errorf("%d key fetches, want at most 2", got)
	}
}

func TestIssuerAway(t *testing.T) {
	i := startIssuer(t)
	cfg := issuerConfig(i)
	cfg.KeysFile = filepath.Join(t.TempDir(), "keys.json")
	i.SetStatus(503)
	v := newVerifier(t, cfg)
	token := i.Mint(good(nil))
	if _, err := v.Verify(token); !errors.Is(err, ErrNotReady) {
		t.Errorf("without keys: got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- v.Run(ctx) }()
	waitFor(t, "a failed fetch", func() bool { return v.Ready() != nil && strings.Contains(v.Ready().Error(), "503") })
	i.SetStatus(0)
	waitFor(t, "the repetition", func() bool { return v.Ready() == nil })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}

	i.Close() // and we restart
	again := newVerifier(t, cfg)
	if err := again.Ready(); err != nil {
		t.Error(err)
	}
	if _, err := again.Verify(token); err != nil {
		t.Errorf("after a restart with kept keys: %v", err)
	}
	info, err := os.Stat(cfg.KeysFile)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("keys file: %v, %v", info.Mode(), err)
	}

	moved := cfg
	moved.Issuer.URL = "https://other.example.com"
	if err := newVerifier(t, moved).Ready(); err == nil {
		t.Error("kept keys serve another issuer")
	}
	if err := os.WriteFile(cfg.KeysFile, []byte(`{"issuer":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := newVerifier(t, cfg).Ready(); !errors.Is(err, ErrNotReady) {
		t.Errorf("broken keys file: got %v", err)
	}
}

// A set that is empty or broken never replaces a good one.
func TestBadKeySets(t *testing.T) {
	i := startIssuer(t)
	v := newVerifier(t, issuerConfig(i))
	if err := v.SetKeys(i.JWKS()); err != nil {
		t.Fatal(err)
	}
	for _, set := range []string{"", "{}", `{"keys":[]}`, `{"keys":null}`, `[]`, `{"keys":[{"kty":"oct","k":"AAAA"}]}`, `{"keys":[],"keys":[]}`,
		`{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}`, `{"keys":[` + strings.Repeat(`{},`, 100) + `{}]}`} {
		if err := v.SetKeys([]byte(set)); err == nil {
			t.Errorf("%s: accepted", set)
		}
	}
	if _, err := v.Verify(i.Mint(good(nil))); err != nil {
		t.Error(err)
	}
}

func TestTLS(t *testing.T) {
	i, err := tokentest.StartTLS("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	cfg := issuerConfig(i)
	if _, err := newVerifier(t, cfg).keys.fetchKeys(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("unknown authority: got %v", err)
	}
	cfg.Issuer.CABundle = i.CABundle
	if _, err := newVerifier(t, cfg).keys.fetchKeys(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestSourceRefuses(t *testing.T) {
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { t.Error("the other host was asked") }))
	defer evil.Close()
	mux := http.NewServeMux()
	s := httptest.NewServer(mux)
	defer s.Close()
	mux.HandleFunc("/redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, evil.URL, http.StatusFound) })
	mux.HandleFunc("/large", func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, maxDocument+1)) })
	mux.HandleFunc("/largest", func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, maxDocument)) })
	discovery := func(issuer, jwks string) func(w http.ResponseWriter, r *http.Request) {
		return func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, s.URL+issuer, jwks)
		}
	}
	mux.HandleFunc("/a/.well-known/openid-configuration", discovery("/other", s.URL+"/largest"))
	mux.HandleFunc("/b/.well-known/openid-configuration", discovery("/b", "http://169.254.169.254/keys"))
	mux.HandleFunc("/c/.well-known/openid-configuration", discovery("/c", "https://169.254.169.254/keys"))
	mux.HandleFunc("/d/.well-known/openid-configuration", discovery("/d", ""))
	mux.HandleFunc("/e/.well-known/openid-configuration", discovery("/e", "file:///etc/passwd"))
	for _, tt := range []struct {
		issuer gatewayconfig.Issuer
		want   string
	}{
		{gatewayconfig.Issuer{URL: s.URL, JWKSURL: s.URL + "/redirect"}, "redirects"},
		{gatewayconfig.Issuer{URL: s.URL, JWKSURL: s.URL + "/large"}, "larger than"},
		{gatewayconfig.Issuer{URL: s.URL, JWKSURL: s.URL + "/largest"}, ""},
		{gatewayconfig.Issuer{URL: s.URL, JWKSURL: s.URL + "/none"}, "404"},
		{gatewayconfig.Issuer{URL: s.URL + "/a"}, "issuer"},
		{gatewayconfig.Issuer{URL: s.URL + "/b"}, "not https"},
		{gatewayconfig.Issuer{URL: s.URL + "/c"}, "private"},
		{gatewayconfig.Issuer{URL: s.URL + "/d"}, "jwks_uri"},
		{gatewayconfig.Issuer{URL: s.URL + "/e"}, "not https"},
		{gatewayconfig.Issuer{URL: "https://issuer.example.com", JWKSURL: "https://10.0.0.1/keys"}, "private"},
	} {
		source, err := newSource(tt.issuer)
		if err != nil {
			t.Fatal(err)
		}
		_, err = source.fetchKeys(t.Context())
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%+v: got %v, want %q", tt.issuer, err, tt.want)
		}
	}
	for _, text := range []string{"http://issuer.example.com", "issuer.example.com", "ftp://127.0.0.1/"} {
		if _, err := newSource(gatewayconfig.Issuer{URL: text}); err == nil {
			t.Errorf("%s: accepted", text)
		}
	}
	if _, err := newSource(gatewayconfig.Issuer{URL: "http://issuer.example.com", AllowHTTP: true}); err != nil {
		t.Error(err)
	}
	if _, err := newSource(gatewayconfig.Issuer{URL: "https://issuer.example.com", CABundle: []byte("x")}); err == nil {
		t.Error("a CA bundle without certificates: accepted")
	}
}

func TestCheckAddress(t *testing.T) {
	for _, tt := range []struct {
		ip                string
		private, loopback bool
		ok                bool
	}{
		{"8.8.8.8", false, false, true}, {"2606:4700::1", false, false, true},
		{"10.1.2.3", false, false, false}, {"10.1.2.3", true, false, true}, {"172.16.0.1", false, true, false}, {"192.168.1.1", false, false, false},
		{"169.254.169.254", false, true, false}, {"100.100.100.200", false, false, false}, {"127.0.0.1", false, false, false}, {"127.0.0.1", false, true, true},
		{"::1", false, false, false}, {"::ffff:10.0.0.1", false, false, false}, {"::ffff:127.0.0.1", false, false, false}, {"fe80::1", false, false, false},
		{"fd00::1", false, false, false}, {"64:ff9b::a00:1", false, false, false}, {"0.0.0.0", true, true, false}, {"::", true, true, false}, {"224.0.0.1", true, true, false},
	} {
		err := checkAddress(net.JoinHostPort(tt.ip, "443"), tt.private, tt.loopback)
		if (err == nil) != tt.ok {
			t.Errorf("%+v: got %v", tt, err)
		}
	}
}

// Verify never panics, and accepts nothing but what was signed.
func FuzzVerify(f *testing.F) {
	i := startIssuer(f)
	v := newVerifier(f, issuerConfig(i))
	if err := v.SetKeys(i.JWKS()); err != nil {
		f.Fatal(err)
	}
	v.keys.last = time.Now().Add(time.Hour) // nobody fetches here, so nobody waits
	ok := i.Mint(good(nil))
	for _, seed := range []string{ok, "", "..", "a.b.c", strings.ToUpper(ok), ok[:len(ok)-1]} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		if got, err := v.Verify(token); err == nil && token != ok {
			t.Errorf("accepted %q: %+v", token, got)
		}
	})
}

// FuzzSigned lets the fuzzer write the parts and signs what it wrote.
func FuzzSigned(f *testing.F) {
	i := startIssuer(f)
	v := newVerifier(f, issuerConfig(i))
	if err := v.SetKeys(i.JWKS()); err != nil {
		f.Fatal(err)
	}
	v.keys.last = time.Now().Add(time.Hour)
	f.Add([]byte(`{"alg":"ES256","typ":"at+jwt","kid":"key-1"}`), payload(i, nil))
	f.Add([]byte(`{"alg":"ES256","crit":[]}`), []byte(`{"aud":[[]]}`))
	f.Fuzz(func(t *testing.T, head, payload []byte) {
		got, err := v.Verify(i.SignRaw(head, payload))
		if err == nil && (got.Subject == "" || got.Issuer != i.URL || !json.Valid(payload) || !bytes.Equal(got.Payload, payload)) {
			t.Errorf("accepted %q . %q", head, payload)
		}
	})
}

func BenchmarkVerifyCached(b *testing.B) {
	i := startIssuer(b)
	v := newVerifier(b, issuerConfig(i))
	if err := v.SetKeys(i.JWKS()); err != nil {
		b.Fatal(err)
	}
	token := i.Mint(good(map[string]any{"groups": []string{"mcp-developers"}}))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := v.Verify(token); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkVerifyUncached(b *testing.B) {
	i := startIssuer(b)
	v := newVerifier(b, issuerConfig(i))
	if err := v.SetKeys(i.JWKS()); err != nil {
		b.Fatal(err)
	}
	token := i.Mint(good(map[string]any{"groups": []string{"mcp-developers"}}))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := v.check(token, time.Now()); err != nil {
			b.Fatal(err)
		}
	}
}
