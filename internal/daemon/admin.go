package daemon

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"vmcp/internal/mtls"
)

// Admin is the listener for operators: /livez, /readyz, /metrics, and on a Unix socket or loopback /debug/pprof/.
// Never reachable through Envoy.
type Admin struct {
	Metrics *prometheus.Registry // process and Go runtime are in it already

	mu     sync.Mutex
	checks []check // in order of AddCheck
	pages  map[string]http.Handler
	own    map[string]http.Handler // for this machine only
}

type check struct {
	name string
	ok   func() error
}

// NewAdmin returns an Admin without checks: ready.
func NewAdmin() *Admin {
	a := &Admin{Metrics: prometheus.NewRegistry()}
	a.Metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return a
}

// AddCheck makes readiness depend on ok, which says why not. It is called on every /readyz: read a snapshot, ask nobody.
func (a *Admin) AddCheck(name string, ok func() error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.checks = append(a.checks, check{name, ok})
}

// Handle adds a page of the service's own, before Run. pattern is of net/http.ServeMux.
func (a *Admin) Handle(pattern string, h http.Handler) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.pages == nil {
		a.pages = map[string]http.Handler{}
	}
	a.pages[pattern] = h
}

// HandleLocal is Handle for what only this machine may ask, by a Unix socket or loopback; elsewhere the page is not there.
func (a *Admin) HandleLocal(pattern string, h http.Handler) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.own == nil {
		a.own = map[string]http.Handler{}
	}
	a.own[pattern] = h
}

// NotReady returns the reasons why the service is not ready, as "name: reason"; none means ready.
func (a *Admin) NotReady() []string {
	a.mu.Lock()
	checks := a.checks
	a.mu.Unlock()
	var reasons []string
	for _, c := range checks {
		if err := c.ok(); err != nil {
			reasons = append(reasons, fmt.Sprintf("%s: %v", c.name, err))
		}
	}
	return reasons
}

// Run opens the listeners of f and serves on them until ctx ends.
func (a *Admin) Run(ctx context.Context, f Flags, log *zap.Logger) error {
	l, err := mtls.Listen(f.Admin)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.Serve(ctx, l, log) })
	g.Go(func() error { return a.serveHealth(ctx, f.Health, log) })
	g.Go(func() error { return a.serveMetrics(ctx, f.Metrics, log) })
	return g.Wait()
}

// serveHealth answers /livez and /readyz on addr, a TCP address that the kubelet reaches, until ctx ends. Nothing else
// is there, and no reason is told: that goes to the log, once for each change. An empty addr: nothing is served.
func (a *Admin) serveHealth(ctx context.Context, addr string, log *zap.Logger) error {
	var mu sync.Mutex
	told := ""
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "alive") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		reasons := strings.Join(a.NotReady(), "; ")
		mu.Lock()
		if reasons != told {
			told = reasons
			log.Info("readiness changed", zap.Bool("ready", reasons == ""), zap.String("reasons", reasons))
		}
		mu.Unlock()
		if reasons != "" {
			http.Error(w, "not ready", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	return servePlain(ctx, "-health", addr, mux, log)
}

// serveMetrics answers /metrics on addr, and nothing else, until ctx ends. They name servers and count; no request, person or
// credential is in them. An empty addr: nothing is served.
func (a *Admin) serveMetrics(ctx context.Context, addr string, log *zap.Logger) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", a.metrics())
	return servePlain(ctx, "-metrics", addr, mux, log)
}

// servePlain serves h on the TCP address of a flag, for other machines, until ctx ends.
func servePlain(ctx context.Context, flag, addr string, h http.Handler, log *zap.Logger) error {
	if addr == "" {
		return nil
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("listening on %s for %s: %w", addr, flag, err)
	}
	return ServeHTTP(ctx, l, NewHTTPServer(h, log))
}

func (a *Admin) metrics() http.Handler {
	return promhttp.HandlerFor(a.Metrics, promhttp.HandlerOpts{Registry: a.Metrics})
}

// Serve serves on l until ctx ends.
func (a *Admin) Serve(ctx context.Context, l net.Listener, log *zap.Logger) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "alive") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if reasons := a.NotReady(); len(reasons) > 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintln(w, strings.Join(reasons, "\n"))
			return
		}
		fmt.Fprintln(w, "ready")
	})
	mux.Handle("GET /metrics", a.metrics())
	a.mu.Lock()
	for pattern, h := range a.pages {
		mux.Handle(pattern, h)
	}
	own := a.own
	a.mu.Unlock()
	if local(l) { // profiles hold memory contents
		for pattern, h := range own {
			mux.Handle(pattern, h)
		}
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return ServeHTTP(ctx, l, NewHTTPServer(mux, log))
}

// local reports whether only this machine reaches the listener.
func local(l net.Listener) bool {
	switch a := l.Addr().(type) {
	case *net.UnixAddr:
		return true
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	}
	return false
}
