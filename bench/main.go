// Command bench measures what the gateway adds: the same calls to an MCP server directly and through the whole chain
// of Envoy, authz (Cedar on) and aggregator, on loopback, with the CPU time of each process. It states figures and
// judges none: docs/performance.md does.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

var (
	bin      = flag.String("bin", "bin", "directory of the built binaries")
	duration = flag.Duration("t", 3*time.Second, "time of each measurement, at most 30s")
	only     = flag.String("run", strings.Join(order, ","), "which parts, by comma")
	eras     = flag.String("eras", "2025-11-25,2026-07-28", "protocol eras of call, by comma")
	clients  = flag.String("c", "1,8,64", "numbers of concurrent clients of call, by comma")
	streams  = flag.String("streams", "1000,10000", "numbers of open streams of stream, by comma")
	repeats  = flag.Int("n", 3, "repetitions of each call measurement; the median by CPU is shown")
)

func main() {
	flag.Parse()
	if *duration > 30*time.Second || *repeats > 20 {
		fmt.Fprintln(os.Stderr, "bench: loads are bounded: -t at most 30s, -n at most 20")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

var order = []string{"call", "size", "list", "session", "memory", "stream", "chaos", "reload", "own"}

func run(ctx context.Context) error {
	parts := map[string]func(context.Context) error{"call": calls, "size": sizes, "list": lists, "session": opens, "memory": memory,
		"stream": openStreams, "chaos": chaos, "reload": reload, "own": ownTokens}
	for _, name := range strings.Split(*only, ",") {
		part := parts[name]
		if part == nil {
			return fmt.Errorf("-run: unknown part %q", name)
		}
		if err := part(ctx); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}
