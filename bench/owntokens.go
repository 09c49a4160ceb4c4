package main

import (
	"context"
	"fmt"
)

// ownTokens measures calls with tokens of our own authorization server. Sign-ins and refreshes are limited for each
// address, so their cost is a benchmark of services/authserver/internal/oauth.
func ownTokens(ctx context.Context) error {
	l, err := newLayout(ctx, plan{servers: 1, tools: 10, tokens: own})
	if err != nil {
		return err
	}
	defer l.end()
	fmt.Printf("\ntools/call with tokens of our own authorization server; times in ms\n%-10s %3s | %8s %6s %6s | %6s %6s %6s %6s | %10s\n",
		"era", "c", "per s", "p50", "p99", "CPU", "envoy", "authz", "aggr.", "authserver")
	pids := append(l.own(), l.PID("authserver"))
	t := newTarget(l.URL, l.token, "backend-00_", true)
	for _, n := range []int{1, 64} {
		s, err := load(ctx, n, *duration, pids, func(ctx context.Context, _, i int) error { return t.call(ctx, "", i) })
		if err != nil {
			return err
		}
		fmt.Printf("%-10s %3d | %8.0f %6s %6s | %6.3f %6.3f %6.3f %6.3f | %10.3f\n", eraName(true), n, s.rate, ms(s.p50), ms(s.p99),
			s.total()-s.cpu[3], s.cpu[0], s.cpu[1], s.cpu[2], s.cpu[3])
	}
	return nil
}
