package main

import (
	"context"
	"fmt"
	"time"
)

// sizes measures tools/call by the size of the result, direct and through the chain.
func sizes(ctx context.Context) error {
	l, err := newLayout(ctx, plan{servers: 1, tools: 10})
	if err != nil {
		return err
	}
	defer l.end()
	fmt.Printf("\ntools/call by size of the result, 1 backend; median of %d by CPU; times in ms\n", *repeats)
	fmt.Printf("%-10s %8s %3s | %8s %7s %7s | %8s %7s %7s | %7s %7s %7s %7s | %7s\n", "era", "size", "c", "direct/s", "p50", "p99", "chain/s",
		"p50", "p99", "CPU", "envoy", "authz", "aggr.", "backend")
	for _, modern := range []bool{false, true} {
		direct := newTarget(l.entries[0].url, "", "", modern)
		chain := newTarget(l.URL, l.token, "backend-00_", modern)
		for _, size := range []struct {
			name  string
			bytes int
		}{{"512 B", 512}, {"64 KiB", 64 << 10}, {"8 MiB", 8 << 20}} {
			direct.size, chain.size = size.bytes, size.bytes
			long := *duration
			if size.bytes > 1<<20 {
				long = max(long, 5*time.Second) // a few each second
			}
			for _, n := range []int{1, 8} {
				d, err := median(ctx, direct, n, long, l.pids)
				if err != nil {
					return fmt.Errorf("direct: %w", err)
				}
				c, err := median(ctx, chain, n, long, append(l.own(), l.pids...))
				if err != nil {
					return fmt.Errorf("chain: %w", err)
				}
				fmt.Printf("%-10s %8s %3d | %8.0f %7s %7s | %8.0f %7s %7s | %7.3f %7.3f %7.3f %7.3f | %7.3f\n", eraName(modern), size.name, n,
					d.rate, ms(d.p50), ms(d.p99), c.rate, ms(c.p50), ms(c.p99), c.total()-c.cpu[3], c.cpu[0], c.cpu[1], c.cpu[2], c.cpu[3])
			}
		}
	}
	return nil
}
