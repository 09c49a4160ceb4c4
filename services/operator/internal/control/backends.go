package control

import (
	"bufio"
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"vmcp/services/operator/internal/render"
)

// backends asks the aggregators' metrics how the servers of each gateway are: nobody else knows of those that run
// elsewhere. Where a network lets it not, their status stays unknown.
type backends struct {
	pods client.Reader
	tell func(namespace string) // of a change
	port string                 // of metrics

	mu   sync.Mutex
	seen map[gatewayName]map[string]backendState
}

type gatewayName struct{ namespace, name string }

type backendState struct {
	up      bool
	breaker float64 // 0 closed, 0.5 half open, 1 open
}

const (
	askBackends = 5 * time.Second
	metricsPort = "8082"
	maxMetrics  = 4 << 20
)

// of is what is known of a gateway's servers, by name; nil: nothing.
func (b *backends) of(namespace, gateway string) map[string]backendState {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.seen[gatewayName{namespace, gateway}]
}

// Start implements manager.Runnable: it asks until ctx ends.
func (b *backends) Start(ctx context.Context) error {
	for tick := time.NewTicker(askBackends); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			return nil
		case <-tick.C:
		}
		b.ask(ctx)
	}
}

func (b *backends) ask(ctx context.Context) {
	var list corev1.PodList
	if b.pods.List(ctx, &list, client.MatchingLabels{"app": "aggregator", render.ManagedBy: render.Manager}) != nil {
		return
	}
	now := map[gatewayName]map[string]backendState{}
	for _, p := range list.Items {
		of := gatewayName{p.Namespace, p.Labels[render.GatewayLabel]}
		if p.Status.PodIP == "" || p.DeletionTimestamp != nil || of.name == "" {
			continue
		}
		states, ok := b.scrape(ctx, p.Status.PodIP)
		if !ok {
			continue
		}
		if now[of] == nil {
			now[of] = map[string]backendState{}
		}
		for name, s := range states { // as the replica that is better off has it
			if have, ok := now[of][name]; !ok || s.up && !have.up {
				now[of][name] = s
			}
		}
	}
	b.mu.Lock()
	before := b.seen
	b.seen = now
	b.mu.Unlock()
	touched := map[string]bool{}
	for of := range now {
		if !maps.Equal(before[of], now[of]) {
			touched[of.namespace] = true
		}
	}
	for of := range before {
		if now[of] == nil {
			touched[of.namespace] = true
		}
	}
	for namespace := range touched {
		b.tell(namespace)
	}
}

var (
	metric       = regexp.MustCompile(`^vmcp_backend_(up|breaker_open)\{backend="([^"\\]+)"\} (\S+)$`)
	metricClient = &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}} // pods come and go
)

// scrape reads the metrics of one aggregator.
func (b *backends) scrape(ctx context.Context, ip string) (map[string]backendState, bool) {
	r, err := http.NewRequestWithContext(ctx, "GET", "http://"+net.JoinHostPort(ip, b.port)+"/metrics", nil)
	if err != nil {
		return nil, false
	}
	resp, err := metricClient.Do(r)
	if err != nil {
		return nil, false
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, false
	}
	states := map[string]backendState{}
	for lines := bufio.NewScanner(io.LimitReader(resp.Body, maxMetrics)); lines.Scan(); {
		m := metric.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		value, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			continue
		}
		s := states[m[2]]
		if m[1] == "up" {
			s.up = value == 1
		} else {
			s.breaker = value
		}
		states[m[2]] = s
	}
	return states, true
}
