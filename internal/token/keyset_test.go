package token

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"go.uber.org/zap"
)

// hourly runs a key set as internal/entra has it, over the issuer's keys and without a network.
func hourly(t *testing.T, fetch func() ([]byte, error)) *Keys {
	k := NewKeys(KeysConfig{
		Issuer: "test", Log: zap.NewNop(), Fetch: func(context.Context) ([]byte, error) { return fetch() },
		Refresh: time.Hour, Demand: 5 * time.Minute, Wait: 10 * time.Second, Trust: 24 * time.Hour,
	})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		k.Run(ctx)
	}()
	t.Cleanup(func() {
		stop()
		<-done
	})
	synctest.Wait()
	return k
}

func TestKeysRotate(t *testing.T) {
	i := startIssuer(t)
	synctest.Test(t, func(t *testing.T) {
		var fetches atomic.Int32
		k := hourly(t, func() ([]byte, error) { fetches.Add(1); return i.JWKS(), nil })
		old := i.Mint(good(nil))
		want := func(token string, want error) {
			t.Helper()
			if _, err := k.Verify(token, jose.ES256); !errors.Is(err, want) {
				t.Errorf("got %v, want %v", err, want)
			}
		}
		want(old, nil)
		i.Rotate()
		i.Forget()
		next := i.Mint(good(nil))
		want(old, nil)  // until the next fetch, an hour at most
		want(next, nil) // asks for that fetch
		want(old, ErrUnknownKey)
		if n := fetches.Load(); n != 2 {
			t.Errorf("%d fetches, want 2", n)
		}
		i.Rotate()
		newest := i.Mint(good(nil))
		want(newest, ErrUnknownKey) // asked too recently
		time.Sleep(5*time.Minute + time.Second)
		want(newest, nil)
		if n := fetches.Load(); n != 3 {
			t.Errorf("%d fetches, want 3", n)
		}
		time.Sleep(time.Hour + time.Second)
		synctest.Wait()
		if n := fetches.Load(); n != 4 {
			t.Errorf("%d fetches after an hour, want 4", n)
		}
	})
}

func TestKeysOutage(t *testing.T) {
	i := startIssuer(t)
	synctest.Test(t, func(t *testing.T) {
		outage := errors.New("away")
		var away atomic.Bool
		k := hourly(t, func() ([]byte, error) {
			if away.Load() {
				return nil, outage
			}
			return i.JWKS(), nil
		})
		token := i.Mint(good(nil))
		away.Store(true)
		time.Sleep(24 * time.Hour)
		if _, err := k.Verify(token, jose.ES256); err != nil {
			t.Errorf("within a day: %v", err)
		}
		time.Sleep(time.Nanosecond)
		if _, err := k.Verify(token, jose.ES256); !errors.Is(err, ErrNotReady) || !errors.Is(err, outage) {
			t.Errorf("after a day: got %v", err)
		}
		if err := k.Ready(); !errors.Is(err, outage) {
			t.Errorf("ready: got %v", err)
		}
		away.Store(false)
		time.Sleep(lastRetry + time.Second)
		if _, err := k.Verify(token, jose.ES256); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}

func TestKeysRefuse(t *testing.T) {
	i := startIssuer(t)
	synctest.Test(t, func(t *testing.T) {
		k := hourly(t, func() ([]byte, error) { return i.JWKS(), nil })
		payload := payload(i, nil)
		if got, err := k.Verify(i.Sign(map[string]any{"typ": "JWT"}, payload), jose.ES256); err != nil || string(got) != string(payload) {
			t.Errorf("got %s, %v", got, err)
		}
		if _, err := k.Verify(ofLength(t, i, maxToken), jose.ES256); err != nil {
			t.Errorf("the longest token: %v", err)
		}
		for name, token := range map[string]string{
			"no kid": i.Sign(map[string]any{"kid": nil}, payload), "crit": i.Sign(map[string]any{"crit": []string{"x"}}, payload),
			"alg none": i.Sign(map[string]any{"alg": "none"}, payload), "typ": i.Sign(map[string]any{"typ": "x"}, payload), "parts": "a.b", "long": ofLength(t, i, maxToken+1),
		} {
			if _, err := k.Verify(token, jose.ES256); err == nil {
				t.Errorf("%s: accepted", name)
			}
		}
		if _, err := k.Verify(i.Mint(good(nil)), jose.RS256); err == nil {
			t.Error("another algorithm than the pinned one: accepted")
		}
	})
}
