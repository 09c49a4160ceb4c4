// Package child runs a long-lived program of ours as a child process that never outlives us: Envoy and the services
// under `vmcp up` and in tests. It owns the child's start, log file and end; what the child does is its caller's.
// MCP servers that speak over pipes are internal/stdio's.
package child

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Config says what is run.
type Config struct {
	Name string // for errors
	Path string
	Args []string
	Env  []string // nil: ours
	Log  string   // file that takes stdout and stderr; appended to
	// Started is called with the process id once it runs; may be nil.
	Started func(pid int)
	// StopTime is how long the child has to end after SIGTERM before it is killed; 0: 18 s, above the services' own: 10 s
	// for calls in flight, then in the aggregator 4 s for MCP servers to end.
	StopTime time.Duration
}

// Run runs the child until ctx ends, then stops it and returns nil. A child that ends by itself is an error that holds
// what its log says about it. On Linux the child also ends when this process dies, however it dies.
func Run(ctx context.Context, cfg Config) error {
	// The parent-death signal belongs to the thread that forks: keep it for as long as the child lives.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	log, err := os.OpenFile(cfg.Log, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("starting %s: %w", cfg.Name, err)
	}
	defer log.Close()
	start, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("starting %s: %w", cfg.Name, err)
	}

	cmd := exec.CommandContext(ctx, cfg.Path, cfg.Args...)
	cmd.Env = cfg.Env
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = attributes()
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = cfg.StopTime
	if cmd.WaitDelay == 0 {
		cmd.WaitDelay = 18 * time.Second
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", cfg.Name, err)
	}
	if cfg.Started != nil {
		cfg.Started(cmd.Process.Pid)
	}
	err = cmd.Wait()
	if ctx.Err() != nil {
		return nil
	}
	if err == nil {
		err = errors.New("exit status 0")
	}
	end, _ := log.Seek(0, io.SeekEnd)
	written, _ := io.ReadAll(io.NewSectionReader(log, max(start, end-1<<20), 1<<20))
	lines, telling := Telling(written)
	said := strings.Join(lines, "\n  ")
	switch {
	case telling:
		said = ": " + said
	case said != "":
		said = "; it last wrote:\n  " + said
	}
	return fmt.Errorf("%s ended: %w%s\n  log: %s", cfg.Name, err, said, cfg.Log)
}
