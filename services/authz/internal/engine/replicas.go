package engine

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"

	"vmcp/internal/mtls"
)

// Replicas watches the catalog of every aggregator behind one address. A host name may stand for many (a headless
// Service of Kubernetes names one address for each pod), so it is looked up again and again.
type Replicas struct {
	address  string
	engine   *Engine
	identity *mtls.Identity
	log      *zap.Logger
	lookup   func(ctx context.Context, host string) ([]string, error) // IP addresses
	every    time.Duration

	watching map[string]*watcher // by replica
	gone     map[string]struct{} // no longer named, their catalog still in force
}

type watcher struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// NewReplicas watches nothing yet: start Run.
func NewReplicas(address string, eng *Engine, identity *mtls.Identity, log *zap.Logger) (*Replicas, error) {
	conn, err := identity.Dial(address, mtls.RoleAggregator) // says now what is wrong with the address
	if err != nil {
		return nil, fmt.Errorf("aggregator: %w", err)
	}
	conn.Close()
	return &Replicas{
		address: address, engine: eng, identity: identity, log: log, lookup: net.DefaultResolver.LookupHost, every: 5 * time.Second,
		watching: map[string]*watcher{}, gone: map[string]struct{}{},
	}, nil
}

// Run watches until ctx ends.
func (r *Replicas) Run(ctx context.Context) error {
	tick := time.NewTicker(r.every)
	defer tick.Stop()
	for {
		r.settle(ctx, r.named(ctx))
		select {
		case <-ctx.Done():
			for _, w := range r.watching {
				<-w.done
			}
			return nil
		case <-tick.C:
		}
	}
}

// named lists the addresses of the replicas of now; none where that is not known.
func (r *Replicas) named(ctx context.Context) []string {
	network, address := mtls.Network(r.address)
	host, port, err := net.SplitHostPort(address)
	if network == "unix" || err != nil || host == "localhost" || net.ParseIP(host) != nil {
		return []string{r.address}
	}
	ips, err := r.lookup(ctx, host)
	if err != nil {
		if ctx.Err() == nil && len(r.watching) == 0 {
			r.log.Info("aggregator not found yet", zap.Error(err))
		}
		return nil
	}
	for i, ip := range ips {
		ips[i] = net.JoinHostPort(ip, port)
	}
	return ips
}

// settle begins to watch new replicas and stops watching those that are no longer named. The catalog of a replica that
// is gone stays in force until one that is there has reported: names do not vanish while the aggregator is replaced.
func (r *Replicas) settle(ctx context.Context, named []string) {
	if len(named) == 0 {
		return
	}
	for _, replica := range named {
		delete(r.gone, replica)
		if r.watching[replica] == nil {
			r.start(ctx, replica)
		}
	}
	for replica, w := range r.watching {
		if !slices.Contains(named, replica) {
			w.cancel()
			<-w.done // it reports nothing any more
			delete(r.watching, replica)
			r.gone[replica] = struct{}{}
		}
	}
	if slices.ContainsFunc(slices.Collect(maps.Keys(r.watching)), r.engine.Reported) {
		for replica := range r.gone {
			r.engine.SetReplica(replica, nil)
			delete(r.gone, replica)
		}
	}
}

func (r *Replicas) start(ctx context.Context, replica string) {
	conn, err := r.identity.Dial(replica, mtls.RoleAggregator, grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		r.log.Error("aggregator", zap.Error(err))
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	w := &watcher{cancel, make(chan struct{})}
	r.watching[replica] = w
	go func() {
		defer close(w.done)
		defer conn.Close()
		r.engine.Watch(ctx, replica, conn, func(err error) { r.log.Info("catalog", zap.Error(err)) })
	}()
}
