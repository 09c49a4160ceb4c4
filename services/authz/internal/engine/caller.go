package engine

import (
	"crypto/sha256"
	"encoding/base64"
	"net/netip"
	"sync"

	"vmcp/internal/mcpwire"
	"vmcp/internal/policy"
)

// Caller is a caller under one snapshot.
type Caller struct {
	*policy.Caller
	snap *Snapshot
	view string // empty: it depends on more than the caller
}

// callers are those that a snapshot was asked about. It ends with the snapshot.
type callers struct {
	mu        sync.RWMutex
	byPayload map[string]*Caller
}

// mostCallers bounds the callers that are kept; payloads are of verified tokens, so only those who may sign in fill it.
const mostCallers = 4_096

// Caller prepares a caller for the snapshot's policies from the verified payload of its token; the anonymous caller
// where there is none. It is made once and kept.
func (s *Snapshot) Caller(payload []byte) (*Caller, error) {
	s.callers.mu.RLock()
	c := s.callers.byPayload[string(payload)]
	s.callers.mu.RUnlock()
	if c != nil {
		return c, nil
	}
	c = &Caller{snap: s}
	if len(payload) == 0 {
		c.Caller = s.Policies.Anonymous()
	} else {
		var err error
		if c.Caller, err = s.Policies.NewCaller(payload); err != nil {
			return nil, err
		}
	}
	if reads := s.Policies.Reads(); !reads.ClientIP && !reads.Era {
		c.view = c.View(policy.Context{})
	}
	s.callers.mu.Lock()
	defer s.callers.mu.Unlock()
	if s.callers.byPayload == nil || len(s.callers.byPayload) >= mostCallers {
		s.callers.byPayload = map[string]*Caller{}
	}
	s.callers.byPayload[string(payload)] = c
	return c, nil
}

// View is the key under which lists filtered for the caller may be cached: a hash of the catalog, the policies and what
// the policies read of the caller and the request.
func (c *Caller) View(ctx policy.Context) string {
	if c.view != "" {
		return c.view
	}
	h := sha256.New()
	h.Write([]byte(c.snap.Digest))
	key := c.snap.Policies.ViewKey(c.Caller, ctx) // includes the revision
	h.Write(key[:])
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))[:22]
}

// Context is what a decision takes into account of the request itself. An address that does not parse is absent.
func Context(clientIP string, era mcpwire.Era) policy.Context {
	ip, err := netip.ParseAddr(clientIP)
	if err != nil {
		ip = netip.Addr{}
	}
	return policy.Context{ClientIP: ip.Unmap(), Era: era.String()}
}
