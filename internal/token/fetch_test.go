package token

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"vmcp/internal/await"
	"vmcp/internal/token/tokentest"
)

// clocked runs v over the issuer's keys by a fake clock, so without a network: each fetch takes that long.
func clocked(t *testing.T, v *Verifier[*caller], i *tokentest.Issuer, takes time.Duration) (fetches *atomic.Int32) {
	t.Helper()
	fetches = new(atomic.Int32)
	v.keys.fetchKeys = func(context.Context) ([]byte, error) {
		fetches.Add(1)
		time.Sleep(takes)
		return i.JWKS(), nil
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- v.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	time.Sleep(takes)
	synctest.Wait()
	return fetches
}

// TestRotation: a token of a new key waits for a fetch, but not long; and who asks again soon does not wait.
func TestRotation(t *testing.T) {
	i := startIssuer(t)
	for _, tt := range []struct {
		fetch, wait time.Duration // that a fetch takes, that the first token of a new key waits
		want        error
	}{{0, 0, nil}, {fetching.wait - 1, fetching.wait - 1, nil}, {fetching.wait + 1, fetching.wait, ErrUnknownKey}} {
		synctest.Test(t, func(t *testing.T) {
			v := newVerifier(t, issuerConfig(i))
			fetches := clocked(t, v, i, tt.fetch)
			verify := func(what, token string, wait time.Duration, want error) {
				t.Helper()
				began := time.Now()
				_, err := v.Verify(token)
				if took := time.Since(began); took != wait || !errors.Is(err, want) {
					t.Errorf("a fetch takes %v; %s: %v after %v, want %v after %v", tt.fetch, what, err, took, want, wait)
				}
			}
			before := i.Mint(good(nil))
			i.Rotate()
			asked := time.Now()
			verify("the first token of a new key", i.Mint(good(nil)), tt.wait, tt.want)
			time.Sleep(time.Second)
			verify("another", i.Mint(good(nil)), 0, nil)
			verify("a token of the old key", before, 0, nil)
			i.Rotate()
			time.Sleep(time.Until(asked.Add(fetching.demand)) - 1)
			verify("a newer key, too soon after the last", i.Mint(good(nil)), 0, ErrUnknownKey)
			if got := fetches.Load(); got != 2 {
				t.Errorf("%d fetches, want 2", got)
			}
			time.Sleep(time.Nanosecond)
			verify("a newer key", i.Mint(good(nil)), tt.wait, tt.want)
			if got := fetches.Load(); got != 3 {
				t.Errorf("%d fetches, want 3", got)
			}
		})
	}
}

// Pushed keys: a token with an unknown one is refused at once, as nobody fetches.
func TestPushedKeys(t *testing.T) {
	i := startIssuer(t)
	cfg := issuerConfig(i)
	cfg.Pushed = true
	synctest.Test(t, func(t *testing.T) {
		v := newVerifier(t, cfg)
		if err := v.SetKeys(i.JWKS()); err != nil {
			t.Fatal(err)
		}
		if _, err := v.Verify(i.Mint(good(nil))); err != nil {
			t.Error(err)
		}
		began := time.Now()
		if _, err := v.Verify(i.Sign(map[string]any{"kid": rand.Text()}, payload(i, nil))); !errors.Is(err, ErrUnknownKey) {
			t.Errorf("unknown key: got %v", err)
		}
		if took := time.Since(began); took != 0 || i.Fetches() != 0 {
			t.Errorf("an unknown key took %v and %d fetches", took, i.Fetches())
		}
	})

	// T54: what is pushed no more is worth nothing from then on, in the cache of tokens and on disk.
	cfg.KeysFile = filepath.Join(t.TempDir(), "keys.json")
	v, removed := newVerifier(t, cfg), i.Mint(good(nil))
	if err := v.SetKeys(i.JWKS()); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(removed); err != nil {
		t.Error(err)
	}
	i.Rotate()
	i.Forget()
	if err := v.SetKeys(i.JWKS()); err != nil {
		t.Fatal(err)
	}
	for what, v := range map[string]*Verifier[*caller]{"running": v, "restarted": newVerifier(t, cfg)} {
		if _, err := v.Verify(removed); !errors.Is(err, ErrUnknownKey) {
			t.Errorf("%s: a token of a removed key: %v", what, err)
		}
	}
}

// TestUnknownKeyFlood: tokens with keys that do not exist cost one fetch, and a good token no wait.
func TestUnknownKeyFlood(t *testing.T) {
	i := startIssuer(t)
	synctest.Test(t, func(t *testing.T) {
		v := newVerifier(t, issuerConfig(i))
		fetches := clocked(t, v, i, 100*time.Millisecond)
		var flood sync.WaitGroup
		for range 8 {
			flood.Go(func() {
				for range 20 {
					token := i.Sign(map[string]any{"kid": rand.Text()}, payload(i, nil))
					if _, err := v.Verify(token); !errors.Is(err, ErrUnknownKey) {
						t.Errorf("unknown key: got %v", err)
					}
				}
			})
		}
		synctest.Wait() // all wait for the fetch
		began := time.Now()
		if _, err := v.Verify(i.Mint(good(nil))); err != nil || time.Since(began) != 0 {
			t.Errorf("another verification took %v during the fetch: %v", time.Since(began), err)
		}
		flood.Wait()
		if got := fetches.Load(); got != 2 {
			t.Errorf("%d key fetches, want 2", got)
		}
	})
}

// TestRetry: an issuer that is away is asked again after a second, then after twice as long each time, up to half a
// minute; and from the start when it was there in between.
func TestRetry(t *testing.T) {
	i := startIssuer(t)
	synctest.Test(t, func(t *testing.T) {
		var at []time.Duration
		began := time.Now()
		hourly(t, func() ([]byte, error) {
			at = append(at, time.Since(began))
			if len(at) == 8 {
				return i.JWKS(), nil
			}
			return nil, errors.New("away")
		})
		time.Sleep(time.Hour + 3*time.Minute)
		synctest.Wait()
		var waits []time.Duration
		for n := range at[1:11] {
			waits = append(waits, (at[n+1]-at[n])/time.Second)
		}
		if want := []time.Duration{1, 2, 4, 8, 16, 30, 30, 3600, 1, 2}; !slices.Equal(waits, want) {
			t.Errorf("waited %d s, want %d", waits, want)
		}
	})
}

// TestWarnings: each failed fetch and each failure to keep keys is logged, once, and nothing when the program ends.
func TestWarnings(t *testing.T) {
	i := startIssuer(t)
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.WarnLevel)
		said := func() (all []string) {
			for _, e := range logs.TakeAll() {
				all = append(all, e.Message)
			}
			return all
		}
		for dir, want := range map[string][]string{t.TempDir(): nil, "/nowhere": {"keeping the issuer's keys for a restart"}} {
			cfg := issuerConfig(i)
			cfg.KeysFile = filepath.Join(dir, "keys.json")
			v := newVerifier(t, cfg)
			v.keys.log = zap.New(core)
			if err := v.SetKeys(i.JWKS()); err != nil {
				t.Error(err)
			}
			if got := said(); !slices.Equal(got, want) {
				t.Errorf("keys kept in %s: logged %q, want %q", dir, got, want)
			}
		}

		v := newVerifier(t, issuerConfig(i))
		v.keys.log = zap.New(core)
		v.keys.fetchKeys = func(ctx context.Context) ([]byte, error) {
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
			return nil, errors.New("away")
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- v.Run(ctx) }()
		time.Sleep(5*time.Second + time.Second/2) // two have failed, the third runs
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if got := said(); !slices.Equal(got, []string{"fetching the issuer's keys", "fetching the issuer's keys"}) {
			t.Errorf("logged %q", got)
		}
	})
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
	await.That(t, "a failed fetch", func() bool { return v.Ready() != nil && strings.Contains(v.Ready().Error(), "503") })
	i.SetStatus(0)
	await.That(t, "the repetition", func() bool { return v.Ready() == nil })
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
	one, _ := strings.CutPrefix(string(i.JWKS()), `{"keys":[`)
	if err := v.SetKeys([]byte(`{"keys":[` + strings.Repeat(`{},`, maxKeys-1) + one)); err != nil {
		t.Errorf("as many keys as may be: %v", err)
	}
	for _, set := range []string{"", "{}", `{"keys":[]}`, `{"keys":null}`, `[]`, `{"keys":[{"kty":"oct","k":"AAAA"}]}`, `{"keys":[],"keys":[]}`,
		`{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}`, `{"keys":[` + strings.Repeat(`{},`, maxKeys) + one} {
		if err := v.SetKeys([]byte(set)); err == nil {
			t.Errorf("%s: accepted", set)
		}
	}
	if _, err := v.Verify(i.Mint(good(nil))); err != nil {
		t.Error(err)
	}
}
