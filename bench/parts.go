package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

var processes = []string{"envoy", "authz", "aggregator"}

func (l *layout) own() []int {
	var pids []int
	for _, name := range processes {
		pids = append(pids, l.PID(name))
	}
	return pids
}

func eraName(modern bool) string {
	if modern {
		return "2026-07-28"
	}
	return "2025-11-25"
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f", float64(d.Microseconds())/1000) }

// calls measures tools/call with a 100-byte argument, 5 backends with 20 tools, direct and through the chain.
func calls(ctx context.Context) error {
	l, err := newLayout(ctx, plan{servers: 5, tools: 20})
	if err != nil {
		return err
	}
	defer l.end()
	fmt.Printf("tools/call, 100-byte argument, 5 backends with 20 tools; median of %d by CPU; times in ms\n", *repeats)
	fmt.Printf("%-10s %3s | %8s %6s %6s | %8s %6s %6s | %6s %6s %6s %6s | %7s\n", "era", "c", "direct/s", "p50", "p99", "chain/s", "p50", "p99",
		"CPU", "envoy", "authz", "aggr.", "backend")
	for _, era := range strings.Split(*eras, ",") {
		modern := era == eraName(true)
		direct := newTarget(l.entries[0].url, "", "", modern)
		chain := newTarget(l.URL, l.token, "backend-00_", modern)
		for _, c := range strings.Split(*clients, ",") {
			n, err := strconv.Atoi(c)
			if err != nil || n < 1 || n > 1000 {
				return fmt.Errorf("-c: %q: want 1 to 1000", c)
			}
			d, err := median(ctx, direct, n, *duration, l.pids[:1])
			if err != nil {
				return fmt.Errorf("direct: %w", err)
			}
			pids := append(l.own(), l.pids[0])
			c, err := median(ctx, chain, n, *duration, pids)
			if err != nil {
				return fmt.Errorf("chain: %w", err)
			}
			fmt.Printf("%-10s %3d | %8.0f %6s %6s | %8.0f %6s %6s | %6.3f %6.3f %6.3f %6.3f | %7.3f\n", eraName(modern), n,
				d.rate, ms(d.p50), ms(d.p99), c.rate, ms(c.p50), ms(c.p99), c.total()-c.cpu[3], c.cpu[0], c.cpu[1], c.cpu[2], c.cpu[3])
		}
	}
	return nil
}

func median(ctx context.Context, t *target, n int, d time.Duration, pids []int) (sample, error) {
	var samples []sample
	for range *repeats {
		sessions := make([]string, n)
		for i := range sessions {
			var err error
			if sessions[i], err = t.open(ctx); err != nil {
				return sample{}, err
			}
		}
		s, err := load(ctx, n, d, pids, func(ctx context.Context, c, i int) error { return t.call(ctx, sessions[c], i) })
		if err != nil {
			return sample{}, err
		}
		samples = append(samples, s)
	}
	slices.SortFunc(samples, func(a, b sample) int {
		switch {
		case a.total() < b.total():
			return -1
		case a.total() > b.total():
			return 1
		}
		return 0
	})
	return samples[len(samples)/2], nil
}

var layouts = []struct{ backends, tools int }{{1, 10}, {5, 20}, {20, 50}}

// lists measures tools/list, filtered by policy, with a warm view.
func lists(ctx context.Context) error {
	fmt.Printf("\ntools/list, filtered; times in ms\n%-6s %-10s %3s | %8s %6s %6s | %6s %6s %6s %6s | %8s %8s\n",
		"tools", "era", "c", "per s", "p50", "p99", "CPU", "envoy", "authz", "aggr.", "backends", "bytes")
	for _, lay := range layouts {
		err := func() error {
			l, err := newLayout(ctx, plan{servers: lay.backends, tools: lay.tools})
			if err != nil {
				return err
			}
			defer l.end()
			for _, modern := range []bool{false, true} {
				t := newTarget(l.URL, l.token, "", modern)
				for _, n := range []int{1, 8} {
					session, err := t.open(ctx)
					if err != nil {
						return err
					}
					body, err := t.list(ctx, session, 1)
					if err != nil {
						return err
					}
					s, err := load(ctx, n, *duration, append(l.own(), l.pids...), func(ctx context.Context, _, i int) error {
						_, err := t.list(ctx, session, i)
						return err
					})
					if err != nil {
						return err
					}
					own := s.cpu[0] + s.cpu[1] + s.cpu[2]
					fmt.Printf("%-6d %-10s %3d | %8.0f %6s %6s | %6.3f %6.3f %6.3f %6.3f | %8.3f %8d\n", lay.backends*lay.tools, eraName(modern), n,
						s.rate, ms(s.p50), ms(s.p99), own, s.cpu[0], s.cpu[1], s.cpu[2], s.total()-own, len(body))
				}
			}
			return nil
		}()
		if err != nil {
			return err
		}
	}
	return nil
}

// opens measures initialize and notifications/initialized.
func opens(ctx context.Context) error {
	fmt.Printf("\nopening a session (initialize, notifications/initialized); times in ms\n%-6s %3s | %8s %6s %6s | %6s %6s %6s %6s | %8s\n",
		"tools", "c", "per s", "p50", "p99", "CPU", "envoy", "authz", "aggr.", "backends")
	for _, lay := range layouts {
		err := func() error {
			l, err := newLayout(ctx, plan{servers: lay.backends, tools: lay.tools})
			if err != nil {
				return err
			}
			defer l.end()
			t := newTarget(l.URL, l.token, "", false)
			for _, n := range []int{1, 8} {
				s, err := load(ctx, n, *duration, append(l.own(), l.pids...), func(ctx context.Context, _, _ int) error {
					_, err := t.open(ctx)
					return err
				})
				if err != nil {
					return err
				}
				own := s.cpu[0] + s.cpu[1] + s.cpu[2]
				fmt.Printf("%-6d %3d | %8.0f %6s %6s | %6.3f %6.3f %6.3f %6.3f | %8.3f\n", lay.backends*lay.tools, n,
					s.rate, ms(s.p50), ms(s.p99), own, s.cpu[0], s.cpu[1], s.cpu[2], s.total()-own)
			}
			return nil
		}()
		if err != nil {
			return err
		}
	}
	return nil
}

// memory measures resident memory with 1,000 tools on 20 backends and sessions that have listed and called.
func memory(ctx context.Context) error {
	l, err := newLayout(ctx, plan{servers: 20, tools: 50})
	if err != nil {
		return err
	}
	defer l.end()
	fmt.Printf("\nresident memory in MiB, 1,000 tools on 20 backends\n%-34s | %7s %7s %7s %7s\n", "", "sum", "envoy", "authz", "aggr.")
	show := func(what string) {
		var sum float64
		var each []float64
		for _, pid := range l.own() {
			each = append(each, resident(pid))
			sum += each[len(each)-1]
		}
		fmt.Printf("%-34s | %7.1f %7.1f %7.1f %7.1f\n", what, sum, each[0], each[1], each[2])
	}
	show("idle")
	// Fifty sessions a person: what one may have is limited.
	var ids []string
	var whose []*target
	for _, n := range []int{100, 1000} {
		for len(ids) < n {
			if len(ids)%50 == 0 {
				whose = append(whose, newTarget(l.URL, l.person(fmt.Sprint("person-", len(whose))), "backend-00_", false))
			}
			t := whose[len(ids)/50]
			id, err := t.open(ctx)
			if err != nil {
				return err
			}
			ids = append(ids, id)
			if _, err := t.list(ctx, id, 1); err != nil {
				return err
			}
			if err := t.call(ctx, id, 2); err != nil {
				return err
			}
		}
		show(fmt.Sprintf("%d sessions, each listed and called", n))
	}
	for i, id := range ids {
		for server := range l.pids {
			t := *whose[i/50]
			t.prefix = fmt.Sprintf("backend-%02d_", server)
			if err := t.call(ctx, id, 3+server); err != nil {
				return err
			}
		}
	}
	show("1000 sessions, each called all servers")
	return nil
}
