// Package backend speaks to one upstream MCP server: it finds out the server's protocol era, lists what it offers,
// opens sessions, carries calls, and reconnects.
//
// A message is edited in few places and never written anew: the JSON-RPC id and the progress token are ours toward
// the backend and the client's on the way back, reserved _meta fields belong to the hop, and where client and
// backend are of different eras the fields that one of them does not have are added or removed. Everything else passes
// byte for byte (docs/rules.md#what-passes-unchanged).
//
// A request that may have been executed is never sent again (PC-4). Only three answers prove that it was not: 404 for
// the session id, and the JSON-RPC errors -32020 and -32022; each leads to one repetition.
//
// The package leaves to the gateway what clients see: names, policies, lists, streams, and what an error becomes.
package backend

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"vmcp/internal/gatewayconfig"
	"vmcp/internal/mtls"
	"vmcp/internal/version"
)

const (
	defaultTimeout = 60 * time.Second
	idleTimeout    = 10 * time.Minute // of a pooled session and of a child without calls
	// startTimeout is for the start of a child, which may have to be downloaded first; startPatience is how long a
	// call waits for that before the client is told to come again. The start goes on.
	startTimeout   = 5 * time.Minute
	startPatience  = 30 * time.Second
	defaultLongest = 10 * time.Minute // of a call, whatever moves in it
	reapInterval   = time.Minute
	partingTimeout = 2 * time.Second // for a cancellation or a DELETE that nobody waits for
)

// Config is what New needs. Backend is validated: the URL parses, the transport is known.
type Config struct {
	gatewayconfig.Backend
	Command    []string       // of a stdio backend: the program and its arguments; Backend.Args follow
	Hide       []string       // paths that no child can reach, see stdio.Config
	ClientInfo []byte         // our Implementation object as client of backends, JSON; nil: a constant
	Identity   *mtls.Identity // of this process, for bridges; nil: none can be reached
	ServerInfo []byte         // our Implementation object toward modern clients (HM-6); nil: none is written
	Metrics    *Metrics       // nil: none
	Log        *zap.Logger    // nil: none
}

// Backend is one configured MCP server. Safe for concurrent use.
type Backend struct {
	cfg       Config
	log       *zap.Logger
	header    http.Header // on every HTTP request
	transport *http.Transport

	// ctx ends with Run; running counts the goroutines that live in it.
	ctx     context.Context
	stop    context.CancelFunc
	running sync.WaitGroup

	facts   atomic.Pointer[facts]   // nil: era unknown
	moved   atomic.Pointer[url.URL] // where its URL leads, but for a slash; nil: nowhere else
	probing chan struct{}           // one probe at a time (BR-4)
	schemas atomic.Pointer[schemas]
	child   childFacts

	lister  *conn                // the session of List
	teller  atomic.Pointer[conn] // of a shared child, which said that its lists changed; nil: none
	changed chan struct{}        // holds one token while the backend said that a list changed

	mu     sync.Mutex
	conns  map[connKey]*conn // nil: Run has ended
	places places
	warned map[string]string // by text, the last error
	spare  spare
	budget budget

	patience time.Duration // how long a call waits for a child to start

	breaker breaker
	record  record

	retire  sync.Once
	retired chan struct{}
}

// New makes a Backend. It connects to nothing.
func New(cfg Config) *Backend {
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.HealthTimeout <= 0 {
		cfg.HealthTimeout = cfg.Timeout
	}
	if cfg.LongestCall <= 0 {
		cfg.LongestCall = defaultLongest
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	if cfg.ClientInfo == nil {
		cfg.ClientInfo = fmt.Appendf(nil, `{"name":"vmcp","version":%q}`, version.String())
	}
	b := &Backend{
		cfg:     cfg,
		log:     cfg.Log.With(zap.String("backend", cfg.Name)),
		probing: make(chan struct{}, 1),
		conns:   make(map[connKey]*conn),
		changed: make(chan struct{}, 1),
		retired: make(chan struct{}),
		warned:  make(map[string]string),
		breaker: breaker{cfg: cfg.Breaker},
		budget:  budget{most: maxHeld},
	}
	b.lister = newConn(b, connKey{}, SessionOptions{Capabilities: b.anyClients()})
	b.patience = max(startPatience, cfg.Timeout) // one that has more time for calls is waited for as long
	b.ctx, b.stop = context.WithCancel(context.Background())
	if cfg.Transport != gatewayconfig.TransportStdio {
		b.header, b.transport = newTransport(cfg)
	}
	return b
}

// warn logs what a server does wrong, again only when that is another thing: most servers go on as they began.
func (b *Backend) warn(text string, err error) {
	why := fmt.Sprint(err)
	b.mu.Lock()
	known := b.warned[text] == why
	b.warned[text] = why
	b.mu.Unlock()
	if known {
		b.log.Debug(text, zap.Error(err))
	} else {
		b.log.Warn(text, zap.Error(err))
	}
}

// Changed yields when the backend said that one of its lists changed.
func (b *Backend) Changed() <-chan struct{} { return b.changed }

// Run closes idle sessions until ctx ends, then all of them. Calls after that fail.
func (b *Backend) Run(ctx context.Context) error {
	tick := time.NewTicker(reapInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			b.closeAll()
			return nil
		case now := <-tick.C:
			b.reap(now)
		}
	}
}
