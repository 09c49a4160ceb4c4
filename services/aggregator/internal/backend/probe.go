package backend

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"go.uber.org/zap"

	"vmcp/internal/gatewayconfig"
	"vmcp/internal/mcpwire"
)

// probeAgain is how long a probe's answer is believed by List: backends upgrade (BR-3). That of a bridge costs a child.
const (
	probeAgain       = 5 * time.Minute
	probeBridgeAgain = time.Hour
)

// longestProbe is how long a server may think about server/discover. Some never answer what they do not know.
const longestProbe = 10 * time.Second

// legacyVersions are those that a backend may settle on, the one we ask for first.
var legacyVersions = []string{mcpwire.Version20251125, mcpwire.Version20250618, "2025-03-26", "2024-11-05"}

func (b *Backend) probeAgain() time.Duration {
	if b.cfg.Bridge {
		return probeBridgeAgain
	}
	return probeAgain
}

// facts are what a probe found out. At least one era is true.
type facts struct {
	modern, legacy bool
	tried          bool // of a modern backend: whether it takes initialize too was seen
	doubtful       bool // the probe proved nothing, and legacy is a guess: it is not kept unless initialize succeeds
	at             time.Time
	hello          *hello // of server/discover; nil for a legacy backend
}

// hello is how a backend introduces itself, in server/discover or initialize.
type hello struct {
	capabilities mcpwire.Object
	instructions string
}

func newHello(result mcpwire.Object) *hello {
	h := &hello{}
	h.instructions, _ = result.String("instructions")
	if at, ok := result.Find("capabilities"); ok {
		h.capabilities, _ = mcpwire.ParseObject(result.Text, at.Start, at.End)
	}
	return h
}

// connect opens an HTTP link for c in the era that suits its client.
func (b *Backend) connect(ctx context.Context, c *conn) (link, error) {
	u, err := url.Parse(b.cfg.URL)
	if err != nil || u.Host == "" {
		return nil, b.errorf(ErrUnavailable, false, "its URL is not valid")
	}
	if b.cfg.Transport == gatewayconfig.TransportSSE {
		return b.connectSSE(ctx, c, u)
	}
	for attempt := 0; ; attempt++ {
		f, err := b.era(ctx, u)
		if err != nil {
			return nil, err
		}
		if f.modern && (c.key.era != mcpwire.EraLegacy || !f.legacy) {
			if l := b.tryLegacy(ctx, u, c, f); l != nil {
				return l, nil
			}
			return &httpLink{b: b, url: u, wire: mcpwire.EraModern, version: mcpwire.Version20260728, introduction: f.hello, child: b.newChild()}, nil
		}
		l := &httpLink{b: b, url: u, wire: mcpwire.EraLegacy}
		err = l.initialize(ctx, c)
		if err == nil {
			if f.doubtful {
				b.facts.Store(&facts{legacy: true, at: time.Now()})
			}
			return l, nil
		}
		var refused *statusError
		var rpc *rpcError
		if errors.As(err, &refused) && (refused.status == http.StatusNotFound || refused.status == http.StatusMethodNotAllowed) {
			err = fmt.Errorf("%w (is its URL right? A server that only has HTTP+SSE, the transport of 2024, answers so too: transport: sse)", err)
		}
		// The backend may have changed its era since the probe.
		if attempt > 0 || f.doubtful || !errors.As(err, &rpc) && !(errors.As(err, &refused) && refused.status >= 400 && refused.status < 500) {
			return nil, err
		}
		b.facts.CompareAndSwap(f, nil)
	}
}

// tryLegacy opens a legacy link to a backend that names the modern version alone, where the client can be asked something:
// many servers of both eras name no other, and can ask only in a session (BR-6). Nil: it takes no initialize.
func (b *Backend) tryLegacy(ctx context.Context, u *url.URL, c *conn, f *facts) link {
	if c.key.era != mcpwire.EraLegacy || f.tried || !b.canBeAsked(c.opts.Capabilities) {
		return nil
	}
	trying, cancel := context.WithTimeoutCause(ctx, min(b.cfg.Timeout/2, longestProbe), ErrTimeout)
	defer cancel()
	l := &httpLink{b: b, url: u, wire: mcpwire.EraLegacy}
	err := l.initialize(trying, c)
	if ctx.Err() != nil {
		return nil
	}
	seen := *f
	seen.tried, seen.legacy = true, err == nil
	b.facts.CompareAndSwap(f, &seen)
	if err != nil {
		return nil
	}
	return l
}

// era probes the backend, or returns what an earlier probe found (BR-1 to BR-4).
func (b *Backend) era(ctx context.Context, u *url.URL) (*facts, error) {
	if f := b.facts.Load(); f != nil {
		return f, nil
	}
	select {
	case b.probing <- struct{}{}:
		defer func() { <-b.probing }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if f := b.facts.Load(); f != nil {
		return f, nil
	}
	l := &httpLink{b: b, url: u, wire: mcpwire.EraModern, version: mcpwire.Version20260728, child: b.newChild()}
	probing, cancel := context.WithTimeoutCause(ctx, min(b.cfg.Timeout/2, longestProbe), ErrTimeout)
	defer cancel()
	f, err := b.discover(probing, l, []byte("1"))
	if b.cfg.Bridge {
		b.inBackground(l.close)
	}
	if err != nil && ctx.Err() == nil && isOdd(err) {
		// Servers that know no such method hang, or fail in any way. What initialize says is then what counts.
		b.log.Debug("the probe of the protocol era proved nothing", zap.Error(err))
		return &facts{legacy: true, doubtful: true}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("probing the protocol era: %w", err)
	}
	b.log.Debug("probed the protocol era", zap.Bool("modern", f.modern), zap.Bool("legacy", f.legacy))
	b.facts.Store(f)
	return f, nil
}

// newChild names a child of a bridge.
func (b *Backend) newChild() string {
	if !b.cfg.Bridge {
		return ""
	}
	return rand.Text()
}

// isOdd says of a failed probe that another request may fare better: somebody was reached, and did not ask for a login or
// for less.
func isOdd(err error) bool {
	var dial *net.OpError
	var status *statusError
	switch {
	case errors.As(err, &status):
		return status.status != http.StatusUnauthorized && status.status != http.StatusProxyAuthRequired && status.status != http.StatusTooManyRequests
	case errors.As(err, &dial):
		return dial.Op != "dial"
	}
	return true
}

// discover asks server/discover over l and judges the answer. An error proves nothing.
func (b *Backend) discover(ctx context.Context, l link, id mcpwire.RawID) (*facts, error) {
	legacy := &facts{legacy: true, at: time.Now()}
	r, err := b.query(ctx, l, id, "server/discover", nil)
	var status *statusError
	var rpc *rpcError
	switch {
	case errors.As(err, &status):
		switch status.status {
		case http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotAcceptable,
			http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
			return legacy, nil
		}
		return nil, err
	case errors.As(err, &rpc):
		switch rpc.code {
		case mcpwire.CodeHeaderMismatch, mcpwire.CodeMissingCapability:
			return &facts{modern: true, at: time.Now(), hello: &hello{}}, nil
		case mcpwire.CodeUnsupportedVersion:
			data, _ := mcpwire.ParseObject(rpc.data, 0, len(rpc.data))
			if versions, _ := Strings(data.Raw("supported")); slices.Contains(versions, mcpwire.Version20260728) {
				return &facts{modern: true, at: time.Now(), hello: &hello{}}, nil
			}
		}
		if rpc.status == http.StatusUnauthorized || rpc.status == http.StatusForbidden || rpc.status == http.StatusTooManyRequests || rpc.status >= 500 {
			return nil, err
		}
		return legacy, nil
	case err != nil:
		return nil, err
	}
	result, ok := r.Result()
	if !ok {
		return legacy, nil
	}
	versions, err := Strings(result.Raw("supportedVersions"))
	if err != nil || !slices.Contains(versions, mcpwire.Version20260728) {
		return legacy, nil
	}
	f := &facts{modern: true, at: time.Now(), hello: newHello(result)}
	for _, v := range versions {
		f.legacy = f.legacy || slices.Contains(legacyVersions, v)
	}
	return f, nil
}

// initialize opens a legacy session over l for c.
func (b *Backend) initialize(ctx context.Context, l link, c *conn, onHeader func(http.Header)) (version string, h *hello, err error) {
	version, info := c.opts.Version, c.opts.ClientInfo
	if !slices.Contains(legacyVersions, version) {
		version = legacyVersions[0]
	}
	if info == nil {
		info = b.cfg.ClientInfo
	}
	ask := func() (mcpwire.Reply, error) {
		return b.queryHeader(ctx, l, c.mint(), "initialize", object([]mcpwire.Field{
			{Name: "protocolVersion", Value: mcpwire.Quote(version)},
			{Name: "capabilities", Value: b.offered(c.opts.Capabilities)},
			{Name: "clientInfo", Value: info},
		}), onHeader)
	}
	r, err := ask()
	if other := otherVersion(err, version); other != "" {
		version = other
		r, err = ask()
	}
	if err != nil {
		return "", nil, fmt.Errorf("initialize: %w", err)
	}
	result, ok := r.Result()
	if !ok {
		return "", nil, b.errorf(ErrInvalidReply, false, "the result of initialize is no object")
	}
	// A version that we do not know is one of the future or a mistake; we go on in that which we asked for.
	if settled, _ := result.String("protocolVersion"); slices.Contains(legacyVersions, settled) {
		version = settled
	}
	return version, newHello(result), nil
}

// otherVersion is the one to try after a server refused the first, instead of naming its own as it should: one that it
// says it has, else an older one. Empty: this was about something else.
func otherVersion(err error, asked string) string {
	var rpc *rpcError
	var status *statusError
	switch {
	case errors.As(err, &rpc):
		data, _ := mcpwire.ParseObject(rpc.data, 0, len(rpc.data))
		if has, _ := Strings(data.Raw("supported")); len(has) > 0 {
			for _, v := range legacyVersions {
				if v != asked && slices.Contains(has, v) {
					return v
				}
			}
			return ""
		}
		if rpc.code != mcpwire.CodeInvalidParams && rpc.status != http.StatusBadRequest {
			return ""
		}
	case !errors.As(err, &status) || status.status != http.StatusBadRequest:
		return ""
	}
	if asked == mcpwire.Version20250618 {
		return ""
	}
	return mcpwire.Version20250618
}

var initialized = []byte(`{"jsonrpc":"2.0","method":"notifications/initialized"}`)

func (l *httpLink) initialize(ctx context.Context, c *conn) error {
	var session string
	version, h, err := l.b.initialize(ctx, l, c, func(header http.Header) { session = header.Get("Mcp-Session-Id") })
	if err != nil {
		return err
	}
	l.version, l.session, l.introduction = version, session, h
	if err := l.post(ctx, initialized, nil); err != nil {
		return fmt.Errorf("notifications/initialized: %w", err)
	}
	return nil
}
