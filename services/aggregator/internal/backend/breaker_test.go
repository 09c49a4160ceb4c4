package backend

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"vmcp/internal/gatewayconfig"
	"vmcp/internal/mcptest"
	"vmcp/internal/mcpwire"
)

// TestBreaker: what opens it, what closes it, and how many get through meanwhile.
func TestBreaker(t *testing.T) {
	const timeout = time.Minute
	failure := fmt.Errorf("x: %w", ErrTimeout)
	for _, tt := range []struct{ name, does, want string }{
		// c, l: a call or list that succeeds; C, L: that fails; x: that the client ended; w: the timeout passes;
		// ?: a call is asked for and allowed, which the next outcome is of; !: one is refused.
		{"successes", "?c?cl?c", breakerClosed},
		{"two of three", "?C?C?c?C?C", breakerClosed},
		{"three calls", "?C?C?C!!", breakerOpen},
		{"three lists", "LLL!", breakerOpen},
		{"each in its row", "?CL?CL", breakerClosed},
		{"lists do not speak for calls", "?C?Cl?C!", breakerOpen},
		{"nor do they close for them", "?C?C?Cl!", breakerOpen},
		{"lists close for lists", "LLLl?", breakerClosed},
		{"what a client ends says nothing", "?C?C?x?C!", breakerOpen},
		{"and does not open", "?C?C?x?x", breakerClosed},
		{"half open", "?C?C?Cw", breakerHalfOpen},
		{"one is tried", "?C?C?Cw?!", breakerHalfOpen},
		{"and succeeds", "?C?C?Cw?c??", breakerClosed},
		{"and fails", "?C?C?Cw?C!", breakerOpen},
		{"and is ended by its client", "?C?C?Cw?x?!", breakerHalfOpen},
		{"again", "?C?C?Cw?Cw?c?", breakerClosed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := breaker{cfg: gatewayconfig.Breaker{Failures: 3, Timeout: timeout}}
				for i, does := range tt.does {
					switch does {
					case 'c':
						b.note(ofCall, nil)
					case 'C':
						b.note(ofCall, failure)
					case 'x':
						b.note(ofCall, context.Canceled)
					case 'l':
						b.note(ofList, nil)
					case 'L':
						b.note(ofList, failure)
					case 'w':
						time.Sleep(timeout)
					case '?', '!':
						if b.allow() != (does == '?') {
							t.Fatalf("after %q a call is allowed: %v", tt.does[:i], does != '?')
						}
					}
				}
				if got := b.state(); got != tt.want {
					t.Errorf("it is %s, want %s", got, tt.want)
				}
			})
		})
	}
	var none breaker
	for range 100 {
		none.note(ofCall, failure)
	}
	if !none.allow() || none.state() != breakerOff {
		t.Error("one that is not configured opened")
	}
}

// TestOpenBreaker: a backend that failed is not asked any more, and what is counted says so.
func TestOpenBreaker(t *testing.T) {
	h := mcptest.NewHTTP(t, mcptest.Options{Era: mcptest.Modern})
	registry := prometheus.NewRegistry()
	b := start(t, Config{Metrics: NewMetrics(registry), Backend: gatewayconfig.Backend{Transport: gatewayconfig.TransportHTTP, URL: h.URL,
		Breaker: gatewayconfig.Breaker{Failures: 2, Timeout: time.Hour}}})
	s := session(t, b, mcpwire.EraModern)
	call := func() error {
		_, err := do(s, tool(t, mcpwire.EraModern, "1", "echo", `{"text":"x"}`, ""))
		return err
	}
	if err := call(); err != nil {
		t.Fatal(err)
	}
	h.SetFault(mcptest.Fault{Method: "tools/call", Status: 503})
	for range 2 {
		if err := call(); !errors.Is(err, ErrUnavailable) {
			t.Fatal(err)
		}
	}
	before := h.Count("tools/call", "")
	err := call()
	if !errors.Is(err, ErrOpen) || !strings.Contains(ClientText(err), "try again later") || h.Count("tools/call", "") != before {
		t.Errorf("%v, the backend was asked %d more times", err, h.Count("tools/call", "")-before)
	}
	got := b.Health()
	if got.Breaker != breakerOpen || got.Calls != 4 || got.Failures != 3 || got.Latency <= 0 || got.LastAt.IsZero() || !strings.Contains(got.LastError, "2 times in a row") || got.Era != "2026-07-28" || got.Sessions == 0 {
		t.Errorf("%+v", got)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counted := fmt.Sprint(families)
	for _, want := range []string{`value:"unavailable"`, `value:"refused_by_breaker"`, `value:"answered"`, "vmcp_backend_call_seconds"} {
		if !strings.Contains(counted, want) {
			t.Errorf("%s is not counted: %s", want, counted)
		}
	}
	b.cfg.Metrics.Forget(b.cfg.Name)
	if families, _ = registry.Gather(); strings.Contains(fmt.Sprint(families), `value:"answered"`) {
		t.Error("what was counted of a removed backend stays")
	}
}

// TestToolTimeout: a tool may have a limit of its own.
func TestToolTimeout(t *testing.T) {
	b := New(Config{Backend: gatewayconfig.Backend{Name: "a", Transport: gatewayconfig.TransportHTTP, URL: "http://127.0.0.1:1", Timeout: time.Minute,
		ToolTimeouts: map[string]time.Duration{"build": time.Hour}}})
	for name, want := range map[string]time.Duration{"build": time.Hour, "other": time.Minute} {
		if got := b.limit(tool(t, mcpwire.EraModern, "1", name, `{}`, "")); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
	if got := b.limit(request(t, mcpwire.EraModern, "1", "prompts/get", "build", `"name":"build"`, "")); got != time.Minute {
		t.Errorf("a prompt of that name: %s", got)
	}
}
