package token

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

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
