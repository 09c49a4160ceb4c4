package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"vmcp/internal/freeport"
)

// chaos measures calls to four backends, initialize and tools/list while a fifth is well, killed, hung, slow, lying or
// reconfigured, with calls to it under way all the time. Of the four no call may fail.
func chaos(ctx context.Context) error {
	sick, err := newPatient()
	if err != nil {
		return err
	}
	defer sick.end()
	l, err := newLayout(ctx, plan{servers: 5, tools: 20, via: func(server int, url string) string {
		if server == 4 {
			return sick.before(url)
		}
		return url
	}})
	if err != nil {
		return err
	}
	defer l.end()

	fmt.Printf("\nfive backends, 8 clients call four of them, 2 the fifth, 1 opens sessions and lists; times in ms\n")
	fmt.Printf("%-13s | %8s %6s %6s %6s | %6s %6s | %6s %6s | %8s %8s\n", "the fifth is", "calls/s", "p50", "p99", "failed", "init.", "p99",
		"list", "p99", "to fifth", "failed")
	for _, mode := range modes {
		row, err := underChaos(ctx, l, sick, mode)
		if err != nil {
			return fmt.Errorf("%s: %w", mode, err)
		}
		fmt.Printf("%-13s | %8.0f %6s %6s %6d | %6s %6s | %6s %6s | %8d %8d\n", mode, float64(len(row.calls.times))/row.took.Seconds(),
			ms(row.calls.at(50)), ms(row.calls.at(99)), row.calls.failed, ms(row.opens.at(50)), ms(row.opens.at(99)),
			ms(row.lists.at(50)), ms(row.lists.at(99)), len(row.fifth.times), row.fifth.failed)
		if row.calls.failed+row.opens.failed+row.lists.failed > 0 {
			return fmt.Errorf("%s: what has nothing to do with the fifth backend failed: %w", mode,
				errors.Join(row.calls.err, row.opens.err, row.lists.err))
		}
	}
	return nil
}

var modes = []string{"well", "killed", "hung", "slow", "lying", "reconfigured", "well again"}

// tally is what became of one kind of operation.
type tally struct {
	mu     sync.Mutex
	times  []time.Duration
	failed int
	err    error // of one that failed
}

func (t *tally) add(took time.Duration, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.failed++
		t.err = err
		return
	}
	t.times = append(t.times, took)
}

// at returns a percentile.
func (t *tally) at(percent int) time.Duration {
	if len(t.times) == 0 {
		return 0
	}
	slices.Sort(t.times)
	return t.times[len(t.times)*percent/100]
}

type chaosRow struct {
	calls, opens, lists, fifth tally
	took                       time.Duration
}

// underChaos runs the load in one mode. Calls under way when the time is over are ended and not counted.
func underChaos(ctx context.Context, l *layout, sick *patient, mode string) (*chaosRow, error) {
	row := &chaosRow{}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var stop atomic.Bool
	var wg sync.WaitGroup
	loop := func(kind *tally, op func(i int) error) {
		wg.Go(func() {
			for i := 1; !stop.Load(); i++ {
				start := time.Now()
				err := op(i)
				if ctx.Err() != nil {
					return
				}
				kind.add(time.Since(start), err)
				if err != nil {
					time.Sleep(20 * time.Millisecond) // a refusal costs nothing, so do not drown the others in them
				}
			}
		})
	}
	for c := range 10 {
		t, kind := newTarget(l.URL, l.token, fmt.Sprintf("backend-%02d_", c%4), c%2 == 1), &row.calls
		if c >= 8 {
			t.prefix, kind = "backend-04_", &row.fifth
		}
		session, err := t.open(ctx)
		if err != nil {
			return nil, err
		}
		loop(kind, func(i int) error { return t.call(ctx, session, i) })
	}
	t := newTarget(l.URL, l.token, "", false)
	session, err := t.open(ctx)
	if err != nil {
		return nil, err
	}
	loop(&row.opens, func(int) error {
		start := time.Now()
		_, err := t.list(ctx, session, 1)
		row.lists.add(time.Since(start), err)
		_, err = t.open(ctx)
		return err
	})
	start := time.Now()
	if mode == "reconfigured" {
		// Every half second another way to it, which makes it another backend.
		wg.Go(func() {
			for i := 1; !stop.Load(); i++ {
				l.entries[4].spec = fmt.Sprintf("  headerForward: {addPlaintextHeaders: {x-bench: '%d'}}\n", i)
				if err := l.write(); err != nil {
					row.calls.add(0, err)
				}
				select {
				case <-ctx.Done():
				case <-time.After(500 * time.Millisecond):
				}
			}
		})
	}
	if err := sick.become(mode); err != nil {
		return nil, err
	}
	select {
	case <-ctx.Done():
	case <-time.After(*duration):
	}
	row.took = time.Since(start)
	stop.Store(true)
	err = sick.become("well")
	// Calls to the four end by themselves; one that hangs in the fifth need not.
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(2 * time.Second):
		cancel()
		<-done
	}
	return row, err
}

// patient is a proxy in front of a backend that can fall ill.
type patient struct {
	url     string
	to      *url.URL
	address string

	mode   atomic.Pointer[string]
	server *http.Server
	closed chan struct{} // closed when hung requests may go
}

func newPatient() (*patient, error) {
	address, err := freeport.Address()
	if err != nil {
		return nil, err
	}
	p := &patient{url: "http://" + address + "/mcp", address: address}
	well := "well"
	p.mode.Store(&well)
	return p, p.start()
}

func (p *patient) start() error {
	listener, err := net.Listen("tcp", p.address)
	if err != nil {
		return err
	}
	p.closed = make(chan struct{})
	p.server = &http.Server{Handler: p}
	go p.server.Serve(listener) // until end
	return nil
}

func (p *patient) end() {
	close(p.closed)
	p.server.Close()
}

// before stands before the server at that URL, and returns where.
func (p *patient) before(server string) string {
	p.to, _ = url.Parse(server) // one that the layout made
	p.to.Path = ""
	return p.url
}

func (p *patient) become(mode string) error {
	old := *p.mode.Swap(&mode)
	if mode == "killed" {
		p.end()
		return nil
	}
	if old == "killed" {
		return p.start()
	}
	return nil
}

func (p *patient) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch *p.mode.Load() {
	case "hung":
		select {
		case <-r.Context().Done():
		case <-p.closed:
		}
		return
	case "slow":
		time.Sleep(200 * time.Millisecond)
	case "lying":
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.Write([]byte(`{"jsonrpc":"2.0","id":"nobody's","result":[[[{"tools":"all of them"}`))
		return
	}
	proxy := httputil.NewSingleHostReverseProxy(p.to)
	proxy.ErrorLog = log.New(io.Discard, "", 0) // of those who went away
	proxy.ServeHTTP(w, r)
}
