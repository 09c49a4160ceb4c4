package stack

import (
	"context"
	"fmt"
	"syscall"

	"vmcp/internal/child"
)

// supervise runs a service until ctx ends. Only Restart and Kill end it otherwise without ending everything.
func (s *Stack) supervise(ctx context.Context, c child.Config) error {
	c.Env = environment()
	c.Started = func(pid int) { s.started(c.Name, pid) }
	for {
		one, cancel := context.WithCancel(ctx)
		s.mu.Lock()
		s.restart[c.Name] = cancel
		s.mu.Unlock()
		err := child.Run(one, c)
		cancel()
		s.mu.Lock()
		down := s.down[c.Name] // also where it may be started again by now: the end was a wanted one
		delete(s.down, c.Name)
		s.mu.Unlock()
		switch {
		case ctx.Err() != nil:
			return nil
		case down != nil:
			select {
			case <-ctx.Done():
				return nil
			case <-down:
			}
		case err != nil:
			return err
		}
	}
}

// Kill ends a service at once, as a crash would, and keeps it down until start is called. For tests.
func (s *Stack) Kill(name string) (start func(), err error) {
	down := make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down[name] = down
	if err := syscall.Kill(s.pids[name], syscall.SIGKILL); err != nil {
		return nil, fmt.Errorf("killing %s: %w", name, err)
	}
	return func() { close(down) }, nil
}

// Restart stops a service and starts it again. It returns when it has been told to stop.
func (s *Stack) Restart(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.restart[name]()
}

func (s *Stack) started(name string, pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pids[name] = pid
	s.writeRunning()
}

// PID is the process id of envoy, authz or aggregator.
func (s *Stack) PID(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pids[name]
}
