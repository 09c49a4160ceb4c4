package backend

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"go.uber.org/zap"

	"vmcp/internal/mcpwire"
)

// probeAgain is how long a probe's answer is believed by List: backends upgrade (BR-3).
const probeAgain = 5 * time.Minute

// legacyVersions are those that a backend may settle on, the one we ask for first.
var legacyVersions = []string{mcpwire.Version20251125, mcpwire.Version20250618, "2025-03-26", "2024-11-05"}

// facts are what a probe found out. At least one era is true.
type facts struct {
	modern, legacy bool
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
	for attempt := 0; ; attempt++ {
		f, err := b.era(ctx, u)
		if err != nil {
			return nil, err
		}
		if f.modern && (c.key.era != mcpwire.EraLegacy || !f.legacy) {
			return &httpLink{b: b, url: u, wire: mcpwire.EraModern, version: mcpwire.Version20260728, introduction: f.hello}, nil
		}
		l := &httpLink{b: b, url: u, wire: mcpwire.EraLegacy}
		err = l.initialize(ctx, c)
		if err == nil {
			return l, nil
		}
		// The backend may have changed its era since the probe.
		var refused *statusError
		var rpc *rpcError
		if attempt > 0 || !errors.As(err, &rpc) && !(errors.As(err, &refused) && refused.status >= 400 && refused.status < 500) {
			return nil, err
		}
		b.facts.CompareAndSwap(f, nil)
	}
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
	l := &httpLink{b: b, url: u, wire: mcpwire.EraModern, version: mcpwire.Version20260728}
	f, err := b.discover(ctx, l)
	if err != nil {
		return nil, fmt.Errorf("probing the protocol era: %w", err)
	}
	b.log.Debug("probed the protocol era", zap.Bool("modern", f.modern), zap.Bool("legacy", f.legacy))
	b.facts.Store(f)
	return f, nil
}

// discover asks server/discover over l and judges the answer. An error proves nothing.
func (b *Backend) discover(ctx context.Context, l link) (*facts, error) {
	legacy := &facts{legacy: true, at: time.Now()}
	r, err := b.query(ctx, l, []byte("1"), "server/discover", nil)
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
			if versions, _ := stringArray(data.Raw("supported")); slices.Contains(versions, mcpwire.Version20260728) {
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
	versions, err := stringArray(result.Raw("supportedVersions"))
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
	params := object([]mcpwire.Field{
		{Name: "protocolVersion", Value: mcpwire.Quote(version)},
		{Name: "capabilities", Value: b.offered(c.opts.Capabilities)},
		{Name: "clientInfo", Value: info},
	})
	r, err := b.queryHeader(ctx, l, c.mint(), "initialize", params, onHeader)
	if err != nil {
		return "", nil, fmt.Errorf("initialize: %w", err)
	}
	result, ok := r.Result()
	if !ok {
		return "", nil, b.errorf(ErrInvalidReply, false, "the result of initialize is no object")
	}
	version, _ = result.String("protocolVersion")
	if !slices.Contains(legacyVersions, version) {
		return "", nil, b.errorf(ErrInvalidReply, false, "initialize settled on a protocol version that is not supported here")
	}
	return version, newHello(result), nil
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
