package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// perPerson are the streams and sessions of each person: what one may have is limited.
const perPerson = 50

// openStreams measures what open GET streams cost (memory, CPU while nothing happens) and what a call costs beside them.
func openStreams(ctx context.Context) error {
	l, err := newLayout(ctx, plan{servers: 5, tools: 20})
	if err != nil {
		return err
	}
	defer l.end()
	fmt.Printf("\nopen streams, a session each, 5 backends with 20 tools; memory in MiB, CPU while they idle in ms per second, times in ms\n")
	fmt.Printf("%7s | %8s | %7s %7s %7s %7s | %6s %6s %6s | %8s %6s %6s %6s\n", "streams", "opened/s", "memory", "envoy", "authz", "aggr.",
		"envoy", "authz", "aggr.", "calls/s", "p50", "p99", "CPU")
	call := newTarget(l.URL, l.token, "backend-00_", false)
	session, err := call.open(ctx)
	if err != nil {
		return err
	}
	var held holding
	defer held.end()
	for _, text := range strings.Split("0,"+*streams, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > 10000 {
			return fmt.Errorf("-streams: %q: want 1 to 10000", text)
		}
		if most := held.most(); n > most {
			fmt.Printf("%d streams need more open files than this user may have: %d instead\n", n, most)
			n = most
		}
		start := time.Now()
		began := len(held.bodies)
		if err := held.grow(ctx, l, n); err != nil {
			return err
		}
		rate := float64(len(held.bodies)-began) / time.Since(start).Seconds()
		pids := l.own()
		before := cpu(pids)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(*duration):
		}
		after := cpu(pids)
		var memory, idle [3]float64
		for i, pid := range pids {
			memory[i] = resident(pid)
			idle[i] = float64((after[i] - before[i]).Milliseconds()) / duration.Seconds()
		}
		s, err := load(ctx, 8, *duration, pids, func(ctx context.Context, _, i int) error { return call.call(ctx, session, i) })
		if err != nil {
			return err
		}
		if lost := held.lost(); lost > 0 {
			return fmt.Errorf("%d of %d streams ended", lost, n)
		}
		fmt.Printf("%7d | %8.0f | %7.1f %7.1f %7.1f %7.1f | %6.1f %6.1f %6.1f | %8.0f %6s %6s %6.3f\n", n, rate,
			memory[0]+memory[1]+memory[2], memory[0], memory[1], memory[2], idle[0], idle[1], idle[2], s.rate, ms(s.p50), ms(s.p99), s.total())
	}
	return nil
}

// holding are streams held open.
type holding struct {
	mu      sync.Mutex
	people  []*target
	bodies  []io.Closer
	ended   int
	closing bool
	wg      sync.WaitGroup
}

// most are the streams that Envoy, which has two connections for each, can hold with the limit of open files.
func (h *holding) most() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return int(min(limit.Max, 1<<20))/2 - 500
}

// grow opens streams until there are n, 16 at a time.
func (h *holding) grow(ctx context.Context, l *layout, n int) error {
	for len(h.people)*perPerson < n {
		h.people = append(h.people, newTarget(l.URL, l.person(fmt.Sprint("stream-", len(h.people))), "", false))
	}
	var wg sync.WaitGroup
	var failed error
	slots := make(chan struct{}, 16)
	for i := len(h.bodies); i < n; i++ {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := h.open(ctx, h.people[i/perPerson]); err != nil {
				h.mu.Lock()
				failed = err
				h.mu.Unlock()
			}
		})
	}
	wg.Wait()
	return failed
}

func (h *holding) open(ctx context.Context, t *target) error {
	session, err := t.open(ctx)
	if err != nil {
		return err
	}
	req, err := t.request(ctx, http.MethodGet, session, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "text/event-stream")
	resp, err := t.client.Do(req)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return errors.New("GET: " + resp.Status)
	}
	h.mu.Lock()
	h.bodies = append(h.bodies, resp.Body)
	h.mu.Unlock()
	h.wg.Go(func() {
		io.Copy(io.Discard, resp.Body) // until it ends; why does not matter here
		h.mu.Lock()
		defer h.mu.Unlock()
		if !h.closing {
			h.ended++
		}
	})
	return nil
}

func (h *holding) lost() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ended
}

func (h *holding) end() {
	h.mu.Lock()
	h.closing = true
	h.mu.Unlock()
	for _, body := range h.bodies {
		body.Close()
	}
	h.wg.Wait()
}
