package envoyproc

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"vmcp/internal/child"
)

// Config says how Envoy is run.
type Config struct {
	Path        string        // the binary, from Find
	File        string        // the rendered configuration
	Log         string        // file that takes what Envoy writes to stdout and stderr; appended to
	Admin       string        // path of the admin socket, Addresses.Admin
	Concurrency int           // worker threads; zero: 1
	Started     func(pid int) // told when it runs; may be nil
}

// stopTime is how long Envoy has to end after SIGTERM before it is killed.
const stopTime = 5 * time.Second

// Validate runs Envoy's own check of the configuration file: what it would refuse at start.
func Validate(ctx context.Context, cfg Config) error {
	out, err := exec.CommandContext(ctx, cfg.Path, "--mode", "validate", "--log-level", "error", "-c", cfg.File).CombinedOutput()
	if err != nil {
		lines, _ := child.Telling(out)
		return fmt.Errorf("envoy refuses %s: %w\n%s", cfg.File, err, strings.Join(lines, "\n"))
	}
	return nil
}

// Run runs Envoy until ctx ends, then stops it and returns nil. Envoy ending by itself is an error that says what
// its log says about it.
func Run(ctx context.Context, cfg Config) error {
	return child.Run(ctx, child.Config{
		Name: "envoy", Path: cfg.Path, Log: cfg.Log, StopTime: stopTime, Started: cfg.Started,
		Args: []string{
			"-c", cfg.File,
			"--concurrency", strconv.Itoa(max(cfg.Concurrency, 1)),
			"--drain-time-s", "60", "--drain-strategy", "immediate", // once it is told to drain, see cmd/drain
			"--disable-hot-restart", // no shared memory: several gateways on one machine
			"--file-flush-interval-msec", "1000",
			"--log-level", "warn",
		},
	})
}

// Ready waits until the Envoy behind the admin socket has all its listeners open. It returns ctx's error and what was
// in the way when ctx ends first; it does not notice an Envoy that ended, so ctx should end with Run.
func Ready(ctx context.Context, admin string) error {
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", admin)
		},
	}}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := askReady(ctx, client)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for Envoy: %w (%v)", context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

func askReady(ctx context.Context, client *http.Client) error {
	req, err := http.NewRequestWithContext(ctx, "GET", "http://envoy/ready", nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(res.Body, 1000))
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("it says %s", strings.TrimSpace(string(body)))
	}
	return nil
}
