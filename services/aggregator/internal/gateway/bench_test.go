package gateway

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"vmcp/internal/mcptest"
	"vmcp/internal/mcpwire"
	gatewayv1 "vmcp/proto/gateway/v1"
)

// discard is a ResponseWriter for benchmarks.
type discard struct {
	header http.Header
	status int
	bytes  int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) Write(b []byte) (int, error) { d.bytes += len(b); return len(b), nil }

// serve runs one request through ServeHTTP.
func (w *world) serve(b *testing.B, r *http.Request, body []byte) {
	out := &discard{header: http.Header{}}
	again := r.Clone(b.Context())
	again.Body = io.NopCloser(strings.NewReader(string(body)))
	w.ServeHTTP(out, again)
	if out.status != 200 || out.bytes < 40 {
		b.Fatal(out)
	}
}

// fresh is a request whose seal does not become stale while the benchmark runs.
func (w *world) fresh(b *testing.B, a ask) (*http.Request, []byte) {
	b.Helper()
	a.change = func(d *gatewayv1.Decision) { d.IssuedAtMs += 4000 }
	r := w.request(b, b.Context(), a)
	body, err := io.ReadAll(r.Body)
	if err != nil {
		b.Fatal(err)
	}
	return r, body
}

// BenchmarkCall is one call through the gateway to a backend that does nothing, over real HTTP behind it.
func BenchmarkCall(b *testing.B) {
	for name, era := range map[string]mcptest.Era{"legacy": mcptest.Legacy, "modern": mcptest.Modern} {
		b.Run(name, func(b *testing.B) {
			trivial := mcptest.NewHTTP(b, mcptest.Options{Era: era, JSON: true, Wrap: func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
					body, _ := io.ReadAll(r.Body)
					if m, err := mcpwire.ParseReply(body); err == nil && m.Method == "tools/call" {
						rw.Header().Set("Content-Type", "application/json")
						rw.Write(mcpwire.AppendResult(nil, m.ID, []byte(`{"resultType":"complete","content":[{"type":"text","text":"hi"}]}`)))
						return
					}
					r.Body = io.NopCloser(strings.NewReader(string(body)))
					next.ServeHTTP(rw, r)
				})
			}})
			w := newWorld(b, map[string]*mcptest.HTTP{"r": trivial})
			a := modern("1", "tools/call", toolCall("r_echo"))
			if era == mcptest.Legacy {
				a = legacy(w.open(b, "ann", "{}"), "1", "tools/call", toolCall("r_echo"))
			}
			n := 0
			r, body := w.fresh(b, a)
			last := time.Now()
			b.ReportAllocs()
			for b.Loop() {
				if time.Since(last) > 20*time.Second {
					r, body = w.fresh(b, a)
					last = time.Now()
				}
				w.serve(b, r, body)
				if n++; n%1000 == 0 { // what was recorded
					trivial.Reset()
				}
			}
		})
	}
}

// BenchmarkListPage1000 is a list of 1,000 tools whose view is in the cache.
func BenchmarkListPage1000(b *testing.B) {
	w := newWorld(b, map[string]*mcptest.HTTP{"a": mcptest.NewHTTP(b, mcptest.Options{Tools: 1000 - 5})})
	for name, a := range map[string]ask{"modern": modern("1", "tools/list", ""), "legacy": legacy(w.open(b, "ann", "{}"), "1", "tools/list", "")} {
		b.Run(name, func(b *testing.B) {
			r, body := w.fresh(b, a)
			last := time.Now()
			b.ReportAllocs()
			for b.Loop() {
				if time.Since(last) > 20*time.Second {
					r, body = w.fresh(b, a)
					last = time.Now()
				}
				w.serve(b, r, body)
			}
		})
	}
}
