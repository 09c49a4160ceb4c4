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
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const reloaded = 100 // backends

// reload measures changes of the configuration of 100 backends while calls go on: the time from the write of the file
// until it is in force for a client, what it costs, and what calls it fails.
func reload(ctx context.Context) error {
	relay, err := newRelay()
	if err != nil {
		return err
	}
	defer relay.server.Close()
	var more []entry
	for i := range reloaded {
		more = append(more, entry{name: fmt.Sprintf("entry-%02d", i), url: relay.url(i)})
	}
	l, err := newLayout(ctx, plan{servers: 5, tools: 5, more: more, ready: relay.to})
	if err != nil {
		return err
	}
	defer l.end()
	if err := l.waitListed(ctx, has(reloaded, "entry-", "_tool_0001")); err != nil {
		return err
	}

	fmt.Printf("\nchanges of %d backends with 5 tools each, while 4 clients call one that stays; CPU in ms of the whole change, times in ms\n", reloaded)
	fmt.Printf("%-34s | %9s | %6s %6s %6s | %7s %6s %6s\n", "change", "in force", "envoy", "authz", "aggr.", "calls", "p99", "failed")
	first := len(l.entries) - reloaded
	changes := []struct {
		what   string
		change func()
		seen   func(ctx context.Context) error
	}{
		{"filters of all", func() {
			var b strings.Builder
			b.WriteString("  config:\n    aggregation:\n      tools:\n")
			for i := range reloaded {
				fmt.Fprintf(&b, "        - {workload: entry-%02d, filter: [echo]}\n", i)
			}
			l.config = b.String()
		}, func(ctx context.Context) error { return l.waitListed(ctx, has(0, "entry-", "_tool_0001")) }},
		{"filters away again", func() { l.config = "" },
			func(ctx context.Context) error { return l.waitListed(ctx, has(reloaded, "entry-", "_tool_0001")) }},
		{"a header of all: all replaced", func() {
			for i := range reloaded {
				l.entries[first+i].spec = "  headerForward: {addPlaintextHeaders: {x-bench: anew}}\n"
			}
		}, relay.asked},
		{"one added", func() { l.entries = append(l.entries, entry{name: "added", url: relay.url(0)}) },
			func(ctx context.Context) error { return l.waitListed(ctx, has(1, "added", "_tool_0001")) }},
		{"one removed", func() { l.entries = l.entries[:len(l.entries)-1] },
			func(ctx context.Context) error { return l.waitListed(ctx, has(0, "added", "_tool_0001")) }},
	}
	for _, c := range changes {
		if err := underLoad(ctx, l, c.what, c.change, c.seen); err != nil {
			return fmt.Errorf("%s: %w", c.what, err)
		}
	}
	return nil
}

// has says whether exactly n tools have such a name.
func has(n int, prefix, suffix string) func(map[string]bool) bool {
	return func(names map[string]bool) bool {
		got := 0
		for name := range names {
			if strings.HasPrefix(name, prefix) && strings.HasSuffix(name, suffix) {
				got++
			}
		}
		return got == n
	}
}

func underLoad(ctx context.Context, l *layout, what string, change func(), seen func(ctx context.Context) error) error {
	var calls tally
	var stop atomic.Bool
	var wg sync.WaitGroup
	for c := range 4 {
		t := newTarget(l.URL, l.token, "backend-00_", c%2 == 1)
		session, err := t.open(ctx)
		if err != nil {
			return err
		}
		wg.Go(func() {
			for i := 1; !stop.Load() && ctx.Err() == nil; i++ {
				start := time.Now()
				err := t.call(ctx, session, i)
				calls.add(time.Since(start), err)
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	pids := l.own()
	before, start := cpu(pids), time.Now()
	change()
	err := l.write()
	if err == nil {
		err = seen(ctx)
	}
	took := time.Since(start)
	select { // what is left to do when it shows
	case <-ctx.Done():
	case <-time.After(time.Second):
	}
	after := cpu(pids)
	stop.Store(true)
	wg.Wait()
	if err != nil {
		return err
	}
	fmt.Printf("%-34s | %9s | %6d %6d %6d | %7d %6s %6d\n", what, ms(took), (after[0] - before[0]).Milliseconds(), (after[1] - before[1]).Milliseconds(),
		(after[2] - before[2]).Milliseconds(), len(calls.times), ms(calls.at(99)), calls.failed)
	if calls.failed > 0 {
		return fmt.Errorf("calls of a backend that stays failed: %w", calls.err)
	}
	return nil
}

// relay stands before the servers and sees which entry asks, with which header.
type relay struct {
	address string
	server  *http.Server

	mu      sync.Mutex
	servers []*httputil.ReverseProxy
	anew    map[string]bool // entries that asked with the changed header
}

func newRelay() (*relay, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &relay{address: listener.Addr().String(), anew: map[string]bool{}}
	r.server = &http.Server{Handler: r}
	go r.server.Serve(listener) // until Close
	return r, nil
}

func (r *relay) url(entry int) string { return fmt.Sprintf("http://%s/%02d/mcp", r.address, entry) }

// to names the servers, which are shared among the entries.
func (r *relay) to(servers []entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range servers {
		to, err := url.Parse(s.url)
		if err != nil {
			panic(err) // the layout made it
		}
		proxy := &httputil.ReverseProxy{ErrorLog: log.New(io.Discard, "", 0), Rewrite: func(p *httputil.ProxyRequest) { p.Out.URL = to }}
		r.servers = append(r.servers, proxy)
	}
}

func (r *relay) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	entry := strings.Split(req.URL.Path, "/")[1]
	r.mu.Lock()
	if req.Header.Get("X-Bench") != "" {
		r.anew[entry] = true
	}
	var number int
	fmt.Sscan(entry, &number)
	proxy := r.servers[number%len(r.servers)]
	r.mu.Unlock()
	proxy.ServeHTTP(w, req)
}

// asked waits until all entries did with the changed header.
func (r *relay) asked(ctx context.Context) error {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
		r.mu.Lock()
		n := len(r.anew)
		r.mu.Unlock()
		if n == reloaded {
			return nil
		}
	}
	return errors.Join(errors.New("the changed header does not come from all"), ctx.Err())
}
