// Package stack runs the whole gateway on this machine: Envoy and the services as child processes with Unix sockets
// between them, from the shipped Envoy configuration and the user's own documents. `vmcp up`, the demo and e2e use it.
// It owns the layout of the state directory and the order of starting; what a request meets is in the services.
package stack

import (
	"context"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"vmcp/internal/envoyproc"
	"vmcp/internal/gatewayconfig"
	"vmcp/internal/progress"
)

// Config says what is run and where.
type Config struct {
	Source    gatewayconfig.Source // Paths, Name, Secrets
	Listen    string               // host:port for clients
	State     string               // directory that outlives a run; empty: one by the virtual server's name
	Bin       string               // directory of the services' binaries
	Tools     string               // directory where Envoy is found or installed
	Run       []string             // IMAGE=COMMAND ARGS…; before the annotation vmcp/command of a document
	TLSCert   string               // with TLSKey: clients connect by TLS
	TLSKey    string
	PublicTLS bool // TLS ends in front of Listen: issuer and resourceUrl name another origin
	Anonymous bool // incomingAuth.type anonymous is accepted where Listen is not loopback
	Workers   int  // Envoy's worker threads; 0: 1
	// EntraSim starts a simulated Entra tenant and signs people in there; EntraAddress names one that runs already
	// (http://127.0.0.1:PORT). Issuers stay Microsoft's.
	EntraSim     bool
	EntraVersion int    // of the simulation's access tokens: 1 or 2; 0: as a new tenant, 1
	People       string // YAML file with the simulation's people; empty: one for each role of the guide
	EntraAddress string
	// StartTimeout bounds the time until calls succeed; 0: 60 s.
	StartTimeout time.Duration
	Progress     io.Writer // shows people how it starts; nil: nobody
}

// Stack is a running gateway.
type Stack struct {
	URL    string // of the MCP endpoint, as clients reach it
	State  string // directory: logs, audit.jsonl, access.jsonl, keys, lists
	Listen string // host:port

	name      string   // of the virtual server
	run       string   // sockets
	lock      *os.File // on State
	services  []string // that say when they are ready
	endpoint  string
	proxies   gatewayconfig.TrustedProxies
	simulated string // address of the simulated tenant, if there is one
	parts     *errgroup.Group

	mu      sync.Mutex
	pids    map[string]int
	restart map[string]context.CancelFunc
	down    map[string]chan struct{} // services that Kill keeps from starting
}

// Start starts the gateway and returns when calls will succeed. It runs until ctx ends or a part fails for good; Wait
// must be called. After an error nothing runs.
func Start(ctx context.Context, cfg Config) (*Stack, error) {
	cfg.Source.Loopback, cfg.Source.Parts = true, gatewayconfig.PartAll
	gw, err := gatewayconfig.Load(cfg.Source)
	if err != nil {
		return nil, err
	}
	if cfg.Progress == nil {
		cfg.Progress = io.Discard
	}
	show := progress.New(cfg.Progress)
	defer show.Close()
	for _, n := range gw.Notes {
		show.Note("note: " + n.String())
	}
	if err := check(&cfg, gw); err != nil {
		return nil, err
	}
	programs, err := programs(&cfg, gw)
	if err != nil {
		return nil, err
	}
	s, err := prepare(&cfg, gw)
	if err != nil {
		return nil, err
	}
	if err = CheckFree(cfg.Listen); err == nil {
		err = s.start(ctx, &cfg, gw, programs, show)
	}
	if err != nil {
		s.release()
		return nil, err
	}
	return s, nil
}

// start starts the processes and waits until all are ready. When it fails, none is left.
func (s *Stack) start(ctx context.Context, cfg *Config, gw *gatewayconfig.Gateway, programs []program, show *progress.Display) error {
	for _, p := range programs {
		show.Note(p.String())
	}
	show.Set("envoy", progress.Starting, "looking for "+envoyproc.Version+", installed by pip where there is none (37 MB)")
	envoy, err := envoyproc.Find(ctx, cfg.Tools)
	if err != nil {
		return err
	}
	envoyFile, err := s.envoyConfig(cfg)
	if err != nil {
		return err
	}
	services, err := s.configure(cfg, gw)
	if err != nil {
		return err
	}

	run, stop := context.WithCancel(ctx)
	var alive context.Context // ends with the first part that fails
	s.parts, alive = errgroup.WithContext(run)
	// What answers clients ends first, and lets requests in flight finish: for their answers the rest is still there.
	rest, endRest := context.WithCancel(context.WithoutCancel(ctx))
	var answering sync.WaitGroup
	for _, c := range services {
		show.Set(c.Name, progress.Starting, "")
		until := rest
		if c.Name == "aggregator" || c.Name == "authserver" {
			until = alive
			answering.Add(1)
		}
		s.parts.Go(func() error {
			if until == alive {
				defer answering.Done()
			}
			return s.supervise(until, c)
		})
	}
	s.parts.Go(func() error { answering.Wait(); endRest(); return nil })
	show.Set("envoy", progress.Starting, "")
	s.parts.Go(func() error {
		return envoyproc.Run(rest, envoyproc.Config{Path: envoy, File: envoyFile, Log: s.file("envoy.log"),
			Admin: s.sock("envoy-admin"), Concurrency: cfg.Workers, Started: func(pid int) { s.started("envoy", pid) }})
	})

	limit := cfg.StartTimeout
	if limit == 0 {
		limit = 60 * time.Second
	}
	wait, cancel := context.WithTimeout(alive, limit)
	defer cancel()
	if err := s.wait(wait, show); err != nil {
		stop()
		if failed := s.parts.Wait(); failed != nil { // a part that ended says more
			return failed
		}
		return err
	}
	context.AfterFunc(alive, stop)
	s.parts.Go(func() error { return follow(alive, cfg, gw) })
	return nil
}

// Wait blocks until everything has ended: after the end of Start's context, or with the error of the part that failed.
func (s *Stack) Wait() error {
	defer s.release()
	return s.parts.Wait()
}
