package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"vmcp/internal/durable"
	"vmcp/internal/version"
)

// running is what a gateway writes into its state directory, so that another process finds it.
type running struct {
	Gateway  string         `json:"gateway"`
	URL      string         `json:"url"`
	PID      int            `json:"pid"`
	Version  string         `json:"version"`
	Sockets  string         `json:"sockets"` // directory
	Services []string       `json:"services"`
	PIDs     map[string]int `json:"pids"` // by part, envoy among them
}

func (s *Stack) runningFile() string { return s.file("running.json") }

// writeRunning is called with mu held.
func (s *Stack) writeRunning() {
	text, _ := json.Marshal(running{s.name, s.URL, os.Getpid(), version.String(), s.run, s.services, s.pids})
	durable.Write(s.runningFile(), text) // only `vmcp status` misses it
}

// Status is how a gateway does. The names in JSON stay.
type Status struct {
	Gateway  string    `json:"gateway"`
	URL      string    `json:"url"`
	State    string    `json:"state_directory"`
	PID      int       `json:"pid"` // of the program that runs it
	Version  string    `json:"version"`
	Ready    bool      `json:"ready"` // all parts are; servers that are away do not count
	Parts    []Part    `json:"parts"`
	Backends []Backend `json:"backends"`
	Warnings []string  `json:"warnings"`
	// Documents are those that the aggregator has in force.
	Documents Documents `json:"documents"`
}

// Part is one process of the gateway.
type Part struct {
	Part     string `json:"part"`
	PID      int    `json:"pid"`
	Ready    bool   `json:"ready"`
	WaitsFor string `json:"waits_for,omitempty"`
}

// ErrNotRunning is the error for a state directory without a gateway.
var ErrNotRunning = errors.New("no gateway runs")

// FetchStatus asks the gateway that runs on a state directory.
func FetchStatus(ctx context.Context, dir string) (*Status, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, err := runningOn(dir)
	if err != nil {
		return nil, err
	}
	st := &Status{Gateway: r.Gateway, URL: r.URL, State: dir, PID: r.PID, Version: r.Version, Ready: true, Backends: []Backend{}, Warnings: []string{}}
	ask := func(part, page string) {
		p := Part{Part: part, PID: r.PIDs[part], Ready: true}
		client := Client(filepath.Join(r.Sockets, part+"-admin.sock"))
		defer client.CloseIdleConnections()
		if reasons, err := notReady(ctx, client, page); err != nil {
			p.Ready, p.WaitsFor = false, "no answer"
		} else if reasons != "" {
			p.Ready, p.WaitsFor = false, reasons
		}
		st.Ready = st.Ready && p.Ready
		st.Parts = append(st.Parts, p)
		if part == "authz" {
			st.Warnings = append(st.Warnings, policyWarnings(ctx, client)...)
		}
		if part == "aggregator" {
			if s, err := fetchServers(ctx, client); err == nil {
				st.Backends, st.Warnings = append(st.Backends, s.Backends...), append(st.Warnings, s.Warnings...)
				st.Documents = s.Documents
			}
		}
	}
	ask("envoy", "/ready")
	for _, service := range r.Services {
		ask(service, "/readyz")
	}
	return st, nil
}

// runningOn reads what the gateway that runs on a state directory says of itself.
func runningOn(dir string) (*running, error) {
	if !held(filepath.Join(dir, "lock")) {
		return nil, fmt.Errorf("%w on the state directory %s", ErrNotRunning, dir)
	}
	text, err := os.ReadFile(filepath.Join(dir, "running.json"))
	if err != nil {
		return nil, fmt.Errorf("the gateway on %s has not started its parts yet: %w", dir, err)
	}
	r := &running{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("reading running.json in %s: %w", dir, err)
	}
	return r, nil
}

// held says whether a process holds the lock of a state directory.
func held(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB), syscall.EWOULDBLOCK)
}

// Running lists the state directories of the gateways that run, among those that nobody chose a directory for.
func Running() ([]string, error) {
	base, err := StateDirectory("", "")
	if err != nil {
		return nil, err
	}
	locks, err := filepath.Glob(filepath.Join(base, "*", "lock"))
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, lock := range locks {
		if held(lock) {
			dirs = append(dirs, filepath.Dir(lock))
		}
	}
	return dirs, nil
}
