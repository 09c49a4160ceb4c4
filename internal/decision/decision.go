// Package decision is the sealed statement from authz to the aggregator: what was decided about one HTTP request, in
// the header x-vmcp-decision. It owns the seal and the comparison of a decision with a request; it decides
// nothing.
//
// The header is "<key id>.<payload>.<mac>": base64url without padding, payload a gateway.v1.Decision, mac the
// HMAC-SHA256 over a domain separator, the key id and the payload.
package decision

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"vmcp/internal/keyring"
	"vmcp/internal/mcpwire"
	gatewayv1 "vmcp/proto/gateway/v1"
)

const (
	// Header carries the seal from Envoy to the aggregator. Envoy strips what a client sends under this name.
	Header = "X-Vmcp-Decision"
	// PrincipalHeader carries Decision.principal in clear, for Envoy to hash requests to replicas by.
	PrincipalHeader = "X-Vmcp-Principal"

	// MaxAge is how old a seal may be for its request to be served.
	MaxAge = 30 * time.Second
	// maxSkew is how far the two clocks may differ the other way.
	maxSkew = 5 * time.Second

	// MaxHeader bounds the header: a token payload of 4 KiB, a URI, and the rest, in base64.
	MaxHeader = 32 << 10

	domain = "vmcp-decision-v1"
)

var b64 = base64.RawURLEncoding.Strict()

// Errors of Open and Verify that callers branch on.
var (
	// ErrForged: no seal, no known key, a wrong MAC or an unreadable payload.
	ErrForged = errors.New("no valid seal")
	// ErrStale: genuine, but too old or from the future.
	ErrStale = errors.New("seal is too old")
	// ErrMismatch: genuine, but for another request.
	ErrMismatch = errors.New("seal is for another request")
)

// Seal signs d with the newest key.
func Seal(ring *keyring.Ring, d *gatewayv1.Decision) (string, error) {
	key := ring.Newest()
	payload, err := proto.Marshal(d)
	if err != nil {
		return "", fmt.Errorf("sealing a decision: %w", err)
	}
	out := make([]byte, 0, len(key.ID)+2+b64.EncodedLen(len(payload))+b64.EncodedLen(sha256.Size))
	out = append(out, key.ID...)
	out = append(out, '.')
	out = b64.AppendEncode(out, payload)
	out = append(out, '.')
	out = b64.AppendEncode(out, key.MAC(domain, payload))
	return string(out), nil
}

// Open verifies a seal by any key of the ring and returns what it says, whatever its age.
func Open(ring *keyring.Ring, header string) (*gatewayv1.Decision, error) {
	if len(header) > MaxHeader {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrForged, MaxHeader)
	}
	id, rest, ok1 := strings.Cut(header, ".")
	body, mac, ok2 := strings.Cut(rest, ".")
	if !ok1 || !ok2 {
		return nil, fmt.Errorf("%w: not of the form key.payload.mac", ErrForged)
	}
	key := ring.ByID(id)
	if key == nil {
		return nil, fmt.Errorf("%w: unknown key", ErrForged)
	}
	payload, err := b64.DecodeString(body)
	if err != nil {
		return nil, fmt.Errorf("%w: payload is not base64url", ErrForged)
	}
	got, err := b64.DecodeString(mac)
	if err != nil || !hmac.Equal(got, key.MAC(domain, payload)) {
		return nil, fmt.Errorf("%w: wrong MAC", ErrForged)
	}
	d := new(gatewayv1.Decision)
	if err := proto.Unmarshal(payload, d); err != nil {
		return nil, fmt.Errorf("%w: unreadable payload", ErrForged)
	}
	return d, nil
}

// Received is what the aggregator knows of the request that a seal came with.
type Received struct {
	VirtualServer string
	HTTPMethod    string
	SessionID     string // Mcp-Session-Id, empty where absent
	Message       *mcpwire.Message
	Now           time.Time
}

// Verify compares d with the request. Every field that says what the request is must agree; revision and digest serve
// audit and caches and are not compared.
func Verify(d *gatewayv1.Decision, r Received) error {
	switch age := r.Now.Sub(time.UnixMilli(d.IssuedAtMs)); {
	case age > MaxAge:
		return fmt.Errorf("%w: issued %s ago", ErrStale, age.Round(time.Millisecond))
	case age < -maxSkew:
		return fmt.Errorf("%w: issued %s ahead", ErrStale, -age.Round(time.Millisecond))
	}
	m := r.Message
	sum := sha256.Sum256(m.Body)
	for _, c := range []struct {
		field string
		equal bool
	}{
		{"virtual server", d.VirtualServer == r.VirtualServer},
		{"HTTP method", d.HttpMethod == r.HTTPMethod},
		{"session", d.SessionId == r.SessionID},
		{"body", bytes.Equal(d.BodySha256, sum[:])},
		{"era", mcpwire.Era(d.Era) == m.Era},
		{"kind", mcpwire.Kind(d.Kind) == m.Kind},
		{"method", d.RpcMethod == m.Method},
		{"name", d.Name == m.Name},
	} {
		if !c.equal {
			return fmt.Errorf("%w: %s differs", ErrMismatch, c.field)
		}
	}
	// What names an item has a target, and nothing else has.
	if (d.Target != nil) != (m.Item != mcpwire.ItemNone && !m.VersionUnsupported) {
		return fmt.Errorf("%w: target differs", ErrMismatch)
	}
	return nil
}

// Anonymous is the principal of all who need no token. It may be many people, so nothing is shared out by it.
var Anonymous = Principal("", "anonymous", "")

// Principal names a caller by issuer, subject and client (RFC 9068): 22 characters of base64url. Sessions and pools
// belong to it.
func Principal(issuer, subject, client string) string {
	h := sha256.New()
	for _, s := range []string{issuer, subject, client} {
		fmt.Fprintf(h, "%d:%s", len(s), s)
	}
	return b64.EncodeToString(h.Sum(nil))[:22]
}
