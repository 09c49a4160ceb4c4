package stack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"vmcp/internal/gatewayconfig"
	"vmcp/internal/keyring"
	"vmcp/internal/loopback"
)

func (s *Stack) file(name string) string { return filepath.Join(s.State, name) }
func (s *Stack) sock(name string) string { return filepath.Join(s.run, name+".sock") }

// Socket is the path of a service's socket, for tests that go around Envoy.
func (s *Stack) Socket(name string) string { return s.sock(name) }

// prepare makes the directories and keys, and takes the state directory for this process.
func prepare(cfg *Config, gw *gatewayconfig.Gateway) (*Stack, error) {
	s := &Stack{name: gw.Name, services: []string{"aggregator", "authz"}, Listen: cfg.Listen, endpoint: gw.Endpoint.Path, proxies: gw.TrustedProxies,
		pids: map[string]int{}, restart: map[string]context.CancelFunc{}, down: map[string]chan struct{}{}}
	host, port, _ := net.SplitHostPort(cfg.Listen) // checked
	switch {
	case cfg.PublicTLS && gw.Endpoint.URL != "":
		s.URL = gw.Endpoint.URL
	case loopback.Host(host): // Entra takes plain http redirects on this name only
		s.URL = cfg.scheme() + "://localhost:" + port + s.endpoint
	default:
		s.URL = cfg.scheme() + "://" + cfg.Listen + s.endpoint
	}
	var err error
	if s.State, err = StateDirectory(cfg.State, gw.Name); err != nil {
		return nil, err
	}
	for _, dir := range []string{s.State, s.file("authz"), s.file("aggregator"), s.file("authserver"), s.file("parked-tls")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("making the state directory: %w", err)
		}
	}
	if s.lock, err = lock(s.file("lock")); err != nil {
		return nil, fmt.Errorf("the state directory %s: %w", s.State, err)
	}
	for _, ring := range []string{"seal", "session", "authserver"} {
		if err := keyring.Ensure(s.file("keys/" + ring)); err != nil {
			s.release()
			return nil, err
		}
	}
	if s.run, err = socketDirectory(s.State); err != nil {
		s.release()
		return nil, fmt.Errorf("making a directory for sockets: %w", err)
	}
	return s, nil
}

// socketDirectory is in the state directory, unless that has too long a path: a socket's may have 107 bytes. There it is
// hidden from stdio servers with the rest; in the directory of temporary files, hiding it keeps them from making any.
func socketDirectory(state string) (string, error) {
	run := filepath.Join(state, "run")
	if len(run)+len("/authserver-admin.sock") > 107 {
		return os.MkdirTemp("", "vmcp-")
	}
	if err := os.RemoveAll(run); err != nil { // what a killed process left
		return "", err
	}
	return run, os.Mkdir(run, 0o700)
}

// release undoes what prepare took; keys and logs stay.
func (s *Stack) release() {
	if s.run != "" {
		os.RemoveAll(s.run)
		os.Remove(s.runningFile())
	}
	s.lock.Close()
}

// StateDirectory is where the state of a gateway of that name is, absolute.
func StateDirectory(given, name string) (string, error) {
	if given != "" {
		return filepath.Abs(given)
	}
	base := os.Getenv("XDG_STATE_HOME")
	if base == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("finding a place for state: %w: give --state DIR", err)
		}
		base = filepath.Join(home, ".local", "state")
	}
	return filepath.Abs(filepath.Join(base, "vmcp", name))
}

// lock takes a file for as long as this process lives, however it dies, and writes its pid into it. Two gateways with
// one state would sign, seal and append to each other's files.
func lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, _ := os.ReadFile(path)
		f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		return nil, fmt.Errorf("a gateway runs on it already, process %s: stop that one, or give another --state DIR",
			strings.TrimSpace(string(holder)))
	}
	if err := errors.Join(f.Truncate(0), writeAt(f, fmt.Sprintln(os.Getpid()))); err != nil {
		f.Close()
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	return f, nil
}

func writeAt(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}
