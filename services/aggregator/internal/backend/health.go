package backend

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"vmcp/internal/gatewayconfig"
)

// Metrics are what is counted of all backends.
type Metrics struct {
	calls   *prometheus.CounterVec
	seconds *prometheus.HistogramVec
}

// NewMetrics registers them.
func NewMetrics(to prometheus.Registerer) *Metrics {
	m := &Metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "vmcp_backend_calls_total",
			Help: "Requests of clients that were made of a backend, by what became of them: answered, cancelled, or how the backend failed."},
			[]string{"backend", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "vmcp_backend_call_seconds",
			Help:    "How long answered requests took, the person's answers to questions included.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}}, []string{"backend"}),
	}
	to.MustRegister(m.calls, m.seconds)
	return m
}

// Forget drops what was counted of a backend that is none any more.
func (m *Metrics) Forget(backend string) {
	if m != nil {
		m.calls.DeletePartialMatch(prometheus.Labels{"backend": backend})
		m.seconds.DeletePartialMatch(prometheus.Labels{"backend": backend})
	}
}

// outcomes are the values of the label.
var outcomes = []struct {
	err  error
	name string
}{
	{ErrCancelled, "cancelled"}, {context.Canceled, "cancelled"}, {ErrTimeout, "timeout"}, {ErrOpen, "refused_by_breaker"},
	{ErrStarting, "starting"}, {ErrFull, "full"}, {ErrBusy, "busy"}, {ErrRefused, "credentials"},
	{ErrInvalidReply, "invalid"}, {ErrNeedsInput, "needs_input"}, {ErrUnavailable, "unavailable"},
}

func outcome(err error) string {
	if err == nil {
		return "answered"
	}
	for _, o := range outcomes {
		if errors.Is(err, o.err) {
			return o.name
		}
	}
	return "client_gone"
}

// record is what is known of a backend's calls, for people.
type record struct {
	mu       sync.Mutex
	calls    uint64
	failures uint64
	latency  time.Duration // moving average of answered calls
	last     string        // why the last call that failed did
	at       time.Time     // when that was
}

// Health is how a backend does, for people.
type Health struct {
	Era       string    `json:"era,omitempty"` // 2025 (with sessions), 2026-07-28; empty: not known yet
	Breaker   string    `json:"breaker"`       // off, closed, open, half-open
	Sessions  int       `json:"sessions"`      // open with the backend
	Children  int       `json:"children"`
	Calls     uint64    `json:"calls"`
	Failures  uint64    `json:"failures"`             // of calls, by the backend's fault
	Latency   float64   `json:"latency_ms,omitempty"` // of the last calls that were answered, on average
	LastError string    `json:"last_error,omitempty"` // of a call
	LastAt    time.Time `json:"last_error_at,omitzero"`
}

// Health says how the backend does.
func (b *Backend) Health() Health {
	h := Health{Breaker: b.breaker.state()}
	if f := b.facts.Load(); f != nil {
		h.Era = "2025"
		if f.modern {
			h.Era = "2026-07-28"
		}
	} else if b.cfg.Transport != gatewayconfig.TransportHTTP && b.lister.current() != nil {
		h.Era = "2025"
	}
	b.mu.Lock()
	conns := make([]*conn, 0, len(b.conns)+1)
	for _, c := range b.conns {
		conns = append(conns, c)
	}
	b.mu.Unlock()
	for _, c := range append(conns, b.lister) {
		switch l := c.current().(type) {
		case nil:
		case *pipeLink:
			switch {
			case l.exited():
			case b.starts():
				h.Children++
			default:
				h.Sessions++
			}
		default:
			h.Sessions++
		}
	}
	r := &b.record
	r.mu.Lock()
	defer r.mu.Unlock()
	h.Calls, h.Failures, h.LastError, h.LastAt = r.calls, r.failures, r.last, r.at
	h.Latency = float64(r.latency.Microseconds()) / 1000
	return h
}

// noteCall takes the outcome of a client's request that began then.
func (b *Backend) noteCall(began time.Time, err error) {
	what, took := outcome(err), time.Since(began)
	if m := b.cfg.Metrics; m != nil {
		m.calls.WithLabelValues(b.cfg.Name, what).Inc()
		if err == nil {
			m.seconds.WithLabelValues(b.cfg.Name).Observe(took.Seconds())
		}
	}
	if !errors.Is(err, ErrOpen) {
		b.breaker.note(ofCall, err)
	}
	r := &b.record
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls++
	switch what {
	case "answered":
		if r.latency == 0 {
			r.latency = took
		}
		r.latency += (took - r.latency) / 16
	case "cancelled", "client_gone":
	default:
		r.failures++
		r.last, r.at = err.Error(), time.Now()
	}
}
