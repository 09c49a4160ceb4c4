package token

import (
	"crypto/sha256"
	"encoding/binary"
	"testing"
	"testing/synctest"
	"time"
)

// TestCacheExpires: an entry lives until the token's exp, for five minutes at most, and as long as its key.
func TestCacheExpires(t *testing.T) {
	i := startIssuer(t)
	synctest.Test(t, func(t *testing.T) {
		v := newVerifier(t, issuerConfig(i))
		if err := v.SetKeys(i.JWKS()); err != nil {
			t.Fatal(err)
		}
		began := time.Now() // a whole second
		short := i.Mint(good(map[string]any{"exp": began.Add(90 * time.Second).Unix()}))
		long := i.Mint(good(map[string]any{"exp": began.Add(time.Hour).Unix()}))
		for _, token := range []string{short, long} {
			if _, err := v.Verify(token); err != nil {
				t.Fatal(err)
			}
		}
		held := func(token string, after time.Duration) bool {
			_, ok := v.cache.get(sha256.Sum256([]byte(token)), began.Add(after))
			return ok
		}
		for _, tt := range []struct {
			token string
			after time.Duration
			want  bool
		}{{short, 90*time.Second - 1, true}, {short, 90 * time.Second, false}, {long, cacheTime - 1, true}, {long, cacheTime, false}} {
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
	})
}

// TestCacheBounded: a shard is filled to its size; then what is no longer good goes first, and then any.
func TestCacheBounded(t *testing.T) {
	var c cache[int]
	now := time.Now()
	k := &key{}
	sum := func(n int) (sum [32]byte) { // all of one shard
		binary.BigEndian.PutUint32(sum[1:], uint32(n))
		return sum
	}
	have := func() int { return len(c.shard[0].m) }
	for n := range shardSize {
		until := now.Add(time.Minute)
		if n%2 == 1 {
			until = now.Add(time.Second)
		}
		c.put(sum(n), entry[int]{n, k, until}, now)
	}
	if have() != shardSize {
		t.Errorf("%d entries are held, want %d", have(), shardSize)
	}
	later := now.Add(time.Second) // half of them have ended
	c.put(sum(shardSize), entry[int]{shardSize, k, now.Add(time.Minute)}, later)
	if want := shardSize/2 + 1; have() != want {
		t.Errorf("%d entries are held, want the %d that are good", have(), want)
	}
	for n := range 2 * shardSize {
		c.put(sum(shardSize+1+n), entry[int]{n, k, now.Add(time.Minute)}, later)
	}
	if have() != shardSize {
		t.Errorf("%d entries are held, want %d", have(), shardSize)
	}
	if got, ok := c.get(sum(3*shardSize), later); !ok || got != 2*shardSize-1 {
		t.Errorf("the newest is not there: %v", got)
	}
	c.put([32]byte{1}, entry[int]{1, k, now.Add(time.Minute)}, now)
	if have() != shardSize || len(c.shard[1].m) != 1 {
		t.Error("one shard pushes out another's")
	}
}
