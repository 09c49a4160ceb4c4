package token

import (
	"sync"
	"time"
)

const (
	shards    = 16
	shardSize = 1024 // 16,384 tokens in all, each with a payload of about 1 KiB
)

// cache remembers verified tokens by the SHA-256 of their text. Bad tokens are not remembered, so nobody without a
// good one can push another out.
type cache[V any] struct {
	shard [shards]struct {
		mu sync.RWMutex
		m  map[[32]byte]entry[V]
	}
}

type entry[V any] struct {
	value V
	key   *key // the entry dies with it
	until time.Time
}

func (e entry[V]) live(now time.Time) bool { return now.Before(e.until) && !e.key.gone.Load() }

func (c *cache[V]) get(sum [32]byte, now time.Time) (value V, ok bool) {
	s := &c.shard[sum[0]%shards]
	s.mu.RLock()
	e, ok := s.m[sum]
	s.mu.RUnlock()
	if !ok || !e.live(now) {
		return value, false
	}
	return e.value, true
}

func (c *cache[V]) put(sum [32]byte, e entry[V], now time.Time) {
	s := &c.shard[sum[0]%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m == nil {
		s.m = make(map[[32]byte]entry[V])
	}
	if len(s.m) >= shardSize {
		for k, old := range s.m {
			if !old.live(now) {
				delete(s.m, k)
			}
		}
	}
	for k := range s.m { // full of live ones: any may go
		if len(s.m) < shardSize {
			break
		}
		delete(s.m, k)
	}
	s.m[sum] = e
}
