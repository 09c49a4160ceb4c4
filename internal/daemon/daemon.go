// Package daemon is what all services have in common around their work: flags, log, signals, serve and stop, and the
// admin listener (health, readiness, metrics). Addresses and certificates are internal/mtls's.
//
// It knows nothing of MCP, policies or tokens. A service is
//
//	func main() { daemon.Main(run) }
//
// and run builds from the leaves up and ends in an errgroup of ServeHTTP, ServeGRPC and the Run methods of its parts.
package daemon

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"syscall"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"vmcp/internal/version"
)

// Main runs a service and exits: 0 when run returned nil (also after SIGTERM or SIGINT, which end its context), 1 with
// a logged error, 2 for wrong flags. A second signal kills. The service's flags are those of the standard flag
// package, declared before Main; Main adds -log-level.
func Main(run func(ctx context.Context, log *zap.Logger) error) {
	level := flag.String("log-level", "info", "debug, info, warn or error")
	flag.Parse()
	log, err := newLogger(*level)
	if err == nil && flag.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	if err != nil {
		fmt.Fprintln(flag.CommandLine.Output(), err)
		flag.Usage()
		os.Exit(2)
	}
	tuneGC(os.Getenv, readFile)

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	context.AfterFunc(ctx, stop) // the second signal has its usual effect
	log.Info("starting", zap.String("version", version.String()), zap.String("go", version.Go()))
	err = run(ctx, log)
	code := 0
	if err != nil && !(ctx.Err() != nil && errors.Is(err, context.Canceled)) { // stopped as asked
		log.Error("ended", zap.Error(err))
		code = 1
	}
	log.Sync() // stderr: the error of a terminal that cannot sync says nothing
	os.Exit(code)
}

// newLogger logs JSON lines to stderr; stdout belongs to the program's answers.
func newLogger(level string) (*zap.Logger, error) {
	l, err := zapcore.ParseLevel(level)
	if err != nil {
		return nil, fmt.Errorf("-log-level: %w", err)
	}
	enc := zap.NewProductionEncoderConfig()
	enc.TimeKey = "time"
	enc.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	enc.EncodeDuration = zapcore.StringDurationEncoder
	return zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(enc), zapcore.Lock(os.Stderr), l)), nil
}

// tuneGC lets the heap grow to five times what is live. Our live heaps are small (tens of MiB) and every request
// leaves garbage, so the default of twice costs CPU on each call and saves memory that nobody misses. In a container
// the collector works harder when nine tenths of its memory limit are used, so that the same setting cannot get the
// process killed. GOGC and GOMEMLIMIT in the environment win.
func tuneGC(getenv func(string) string, readFile func(string) []byte) {
	if getenv("GOGC") != "" {
		return
	}
	debug.SetGCPercent(400)
	if getenv("GOMEMLIMIT") != "" {
		return
	}
	if limit := containerMemory(readFile); limit > 0 {
		debug.SetMemoryLimit(limit / 10 * 9)
	}
}

// containerMemory returns the limit of the control group in bytes, 0 where there is none.
func containerMemory(readFile func(string) []byte) int64 {
	for _, path := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		n, err := strconv.ParseInt(string(bytes.TrimSpace(readFile(path))), 10, 64)
		if err == nil && n > 0 && n < math.MaxInt64/2 { // version 1 says "none" as a huge number
			return n
		}
	}
	return 0
}

func readFile(path string) []byte {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return b
}
