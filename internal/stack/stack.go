// Package stack runs the whole gateway on this machine: Envoy and the services as child processes with Unix sockets
// between them, from the shipped Envoy configuration and the user's own documents. `vmcp up`, the demo and e2e use it.
// It owns the layout of the state directory and the order of starting; what a request meets is in the services.
package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	envoyconfig "vmcp/deploy/envoy"
	"vmcp/internal/child"
	"vmcp/internal/envoyproc"
	"vmcp/internal/gatewayconfig"
	"vmcp/internal/keyring"
	"vmcp/internal/stdio"
)

// Config says what is run and where.
type Config struct {
	Source    gatewayconfig.Source // Paths, Name, Secrets
	Listen    string               // host:port for clients
	State     string               // directory that outlives a run; empty: one by the virtual server's name
	Bin       string               // directory of the services' binaries
	Tools     string               // directory where Envoy is found or installed
	Run       []string             // IMAGE=COMMAND ARGS…
	TLSCert   string               // with TLSKey: clients connect by TLS
	TLSKey    string
	PublicTLS bool // TLS ends in front of Listen: issuer and resourceUrl name another origin
	Workers   int  // Envoy's worker threads; 0: 1
	// EntraSim starts a simulated Entra tenant and signs people in there; EntraAddress names one that runs already
	// (http://127.0.0.1:PORT). Issuers stay Microsoft's.
	EntraSim     bool
	EntraVersion int    // of the simulation's access tokens: 1 or 2; 0: as a new tenant, 1
	People       string // YAML file with the simulation's people; empty: one for each role of the guide
	EntraAddress string
	// StartTimeout bounds the time until calls succeed; 0: 60 s.
	StartTimeout time.Duration
	Progress     io.Writer
}

// Stack is a running gateway.
type Stack struct {
	URL    string // of the MCP endpoint, as clients reach it
	State  string // directory: logs, audit.jsonl, access.jsonl, keys, lists
	Listen string // host:port

	run      string   // sockets
	services []string // that say when they are ready, in the order of asking
	endpoint string
	mu       sync.Mutex
	pids     map[string]int
	restart  map[string]context.CancelFunc
	down     map[string]chan struct{} // services that Kill keeps from starting
}

// Up starts the gateway, calls ready when calls will succeed, and blocks until ctx ends or a part fails for good.
func Up(ctx context.Context, cfg Config, ready func(*Stack)) error {
	cfg.Source.Loopback, cfg.Source.Parts = true, gatewayconfig.PartAll
	gw, err := gatewayconfig.Load(cfg.Source)
	if err != nil {
		return err
	}
	for _, n := range gw.Notes {
		fmt.Fprintln(cfg.Progress, n)
	}
	if err := checkPrograms(&cfg, gw); err != nil {
		return err
	}
	s, err := prepare(&cfg, gw)
	if err != nil {
		return err
	}
	defer os.RemoveAll(s.run)

	fmt.Fprintln(cfg.Progress, "looking for Envoy", envoyproc.Version, "(installed by pip where there is none, 37 MB)")
	envoy, err := envoyproc.Find(ctx, cfg.Tools)
	if err != nil {
		return err
	}
	envoyFile, err := s.envoyConfig(&cfg)
	if err != nil {
		return err
	}

	g, ctx := errgroup.WithContext(ctx)
	services := []child.Config{s.authz(&cfg, gw), s.aggregator(&cfg)}
	if gw.AuthServer != nil {
		if cfg.EntraSim {
			sim, err := s.entrasim(&cfg, gw.AuthServer)
			if err != nil {
				return err
			}
			services = append(services, sim)
		}
		services = append(services, s.authserver(&cfg))
		s.services = append(s.services, "authserver")
	} else if cfg.EntraSim {
		return errors.New("--entra-sim: the VirtualMCPServer has no authServerConfig, so nobody signs in through Entra")
	}
	for _, c := range services {
		fmt.Fprintln(cfg.Progress, "starting", c.Name)
		g.Go(func() error { return s.supervise(ctx, c) })
	}
	fmt.Fprintln(cfg.Progress, "starting envoy")
	g.Go(func() error {
		return envoyproc.Run(ctx, envoyproc.Config{Path: envoy, File: envoyFile, Log: s.file("envoy.log"),
			Admin: s.sock("envoy-admin"), Concurrency: cfg.Workers, Started: func(pid int) { s.started("envoy", pid) }})
	})
	g.Go(func() error {
		limit := cfg.StartTimeout
		if limit == 0 {
			limit = 60 * time.Second
		}
		wait, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		if err := s.wait(wait); err != nil {
			if ctx.Err() != nil { // a child failed first and says more
				return ctx.Err()
			}
			return err
		}
		s.report(wait, cfg.Progress)
		ready(s)
		return nil
	})
	return g.Wait()
}

func (s *Stack) file(name string) string { return filepath.Join(s.State, name) }
func (s *Stack) sock(name string) string { return filepath.Join(s.run, name+".sock") }

// Socket is the path of a service's socket, for tests that go around Envoy.
func (s *Stack) Socket(name string) string { return s.sock(name) }

// prepare makes the directories and keys.
func prepare(cfg *Config, gw *gatewayconfig.Gateway) (*Stack, error) {
	host, port, err := net.SplitHostPort(cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("--listen: %w", err)
	}
	if (cfg.TLSCert == "") != (cfg.TLSKey == "") {
		return nil, errors.New("--tls-cert and --tls-key go together")
	}
	scheme := "http"
	if cfg.TLSCert != "" {
		scheme = "https"
	}
	if err := checkOrigins(cfg, gw, scheme); err != nil {
		return nil, err
	}
	s := &Stack{services: []string{"aggregator", "authz"}, Listen: cfg.Listen, State: cfg.State, endpoint: gw.Endpoint.Path, pids: map[string]int{}, restart: map[string]context.CancelFunc{}, down: map[string]chan struct{}{}}
	switch {
	case cfg.PublicTLS && gw.Endpoint.URL != "":
		s.URL = gw.Endpoint.URL
	case isLoopback(host): // Entra takes plain http redirects on this name only
		s.URL = scheme + "://localhost:" + port + s.endpoint
	default:
		s.URL = scheme + "://" + cfg.Listen + s.endpoint
	}
	if s.State == "" {
		base := os.Getenv("XDG_STATE_HOME")
		if base == "" {
			home, err := os.UserHomeDir()
			if err != nil {
				return nil, fmt.Errorf("finding a place for state: %w: give --state DIR", err)
			}
			base = filepath.Join(home, ".local", "state")
		}
		s.State = filepath.Join(base, "vmcp", gw.Name)
	}
	if s.State, err = filepath.Abs(s.State); err != nil {
		return nil, err
	}
	for _, dir := range []string{s.State, s.file("authz"), s.file("aggregator"), s.file("authserver"), s.file("parked-tls")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("making the state directory: %w", err)
		}
	}
	for _, ring := range []string{"seal", "session", "authserver"} {
		if err := keyring.Ensure(s.file("keys/" + ring)); err != nil {
			return nil, err
		}
	}
	// Sockets live in a short private path: a socket's path may have 107 bytes, a state directory's more.
	if s.run, err = os.MkdirTemp("", "vmcp-"); err != nil {
		return nil, fmt.Errorf("making a directory for sockets: %w", err)
	}
	return s, nil
}

// checkPrograms refuses images that no program stands for, and programs that are not there.
func checkPrograms(cfg *Config, gw *gatewayconfig.Gateway) error {
	programs := map[string]string{}
	for _, r := range cfg.Run {
		image, command, ok := strings.Cut(r, "=")
		words, err := stdio.Words(command)
		if !ok || err != nil || len(words) == 0 {
			return fmt.Errorf("--run %q: want IMAGE='COMMAND ARGS…'", r)
		}
		programs[image] = words[0]
	}
	var errs []error
	for _, b := range gw.Aggregator.Backends {
		if b.Kind != "MCPServer" {
			continue
		}
		program, ok := programs[b.Image]
		if !ok {
			errs = append(errs, fmt.Errorf("MCPServer %s has the image %s, and no container engine is used here: give --run '%s=COMMAND ARGS…' with a program that is the same server", b.Name, b.Image, b.Image))
		} else if _, err := exec.LookPath(program); err != nil {
			errs = append(errs, fmt.Errorf("MCPServer %s: --run: %w", b.Name, err))
		}
	}
	return errors.Join(errs...)
}

// checkOrigins refuses documents whose URLs lead elsewhere: a client would follow them away from this gateway.
func checkOrigins(cfg *Config, gw *gatewayconfig.Gateway, scheme string) error {
	if cfg.PublicTLS {
		return nil
	}
	_, port, _ := net.SplitHostPort(cfg.Listen)
	var errs []error
	for _, u := range []struct{ field, value string }{
		{"incomingAuth.oidcConfigRef.resourceUrl", gw.Endpoint.ResourceURL},
		{"authServerConfig.issuer", ownIssuer(gw)},
	} {
		if u.value == "" {
			continue
		}
		p, err := url.Parse(u.value)
		if err != nil {
			return fmt.Errorf("%s: %w", u.field, err)
		}
		own := p.Scheme == scheme && (p.Host == cfg.Listen || isLoopback(p.Hostname()) && p.Port() == port)
		if !own {
			errs = append(errs, fmt.Errorf("%s is %s, but clients connect to %s://localhost:%s here: write that, or use --listen, --tls-cert and --tls-key, or --public-tls where TLS ends in front", u.field, u.value, scheme, port))
		}
	}
	return errors.Join(errs...)
}

func ownIssuer(gw *gatewayconfig.Gateway) string {
	if gw.AuthServer == nil {
		return ""
	}
	return gw.AuthServer.Issuer
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// envoyConfig writes the shipped configuration with this run's addresses. The listener that nobody needs gets a socket
// in the private directory.
func (s *Stack) envoyConfig(cfg *Config) (string, error) {
	cert, key, err := envoyproc.WriteSelfSigned(s.file("parked-tls"))
	if err != nil {
		return "", err
	}
	tls, plain := "unix:"+s.sock("parked"), cfg.Listen
	if cfg.TLSCert != "" {
		if cert, err = filepath.Abs(cfg.TLSCert); err != nil {
			return "", err
		}
		if key, err = filepath.Abs(cfg.TLSKey); err != nil {
			return "", err
		}
		tls, plain = cfg.Listen, "unix:"+s.sock("parked")
	}
	tlsText, err := envoyproc.RenderTLS(envoyconfig.TLS, cert, key)
	if err != nil {
		return "", err
	}
	// Nothing here is reached by mutual TLS, but Envoy wants the certificates that the shipped file names.
	parked := s.file("parked-tls/tls.crt")
	role, err := envoyproc.RenderTLS(envoyconfig.Role, parked, s.file("parked-tls/tls.key"))
	if err != nil {
		return "", err
	}
	peers, err := envoyproc.RenderPeers(envoyconfig.Peers, parked)
	if err != nil {
		return "", err
	}
	text, err := envoyproc.Render(envoyconfig.Config, envoyproc.Addresses{
		TLS: numeric(tls), Plain: numeric(plain), Admin: s.sock("envoy-admin"),
		Authz: "unix:" + s.sock("authz"), Aggregator: "unix:" + s.sock("aggregator"), AuthServer: "unix:" + s.sock("authserver"),
		TLSFile: s.file("envoy-tls.yaml"), RoleFile: s.file("envoy-role.yaml"), PeersFile: s.file("envoy-peers.yaml"), AccessLog: s.file("access.jsonl"), Endpoint: s.endpoint,
	})
	if err != nil {
		return "", err
	}
	for name, text := range map[string][]byte{"envoy-tls.yaml": tlsText, "envoy-role.yaml": role, "envoy-peers.yaml": peers, "envoy.yaml": text} {
		if err := os.WriteFile(s.file(name), text, 0o600); err != nil {
			return "", fmt.Errorf("writing Envoy's configuration: %w", err)
		}
	}
	return s.file("envoy.yaml"), nil
}

// numeric gives Envoy, which resolves no names for listeners, the address of localhost.
func numeric(addr string) string {
	if rest, ok := strings.CutPrefix(addr, "localhost:"); ok {
		return "127.0.0.1:" + rest
	}
	return addr
}

// documents are the flags by which every service finds the user's documents.
func (c *Config) documents() []string {
	args := []string{"-loopback"}
	for _, p := range c.Source.Paths {
		args = append(args, "-config", p)
	}
	if c.Source.Name != "" {
		args = append(args, "-name", c.Source.Name)
	}
	if c.Source.Secrets != "" {
		args = append(args, "-secrets", c.Source.Secrets)
	}
	return args
}

func (s *Stack) authz(cfg *Config, gw *gatewayconfig.Gateway) child.Config {
	args := cfg.documents()
	if gw.AuthServer != nil {
		args = append(args, "-authserver", "unix:"+s.sock("authserver-rpc"))
	}
	return child.Config{Name: "authz", Path: filepath.Join(cfg.Bin, "authz"), Log: s.file("authz.log"),
		Args: append(args,
			"-listen", "unix:"+s.sock("authz"), "-admin", "unix:"+s.sock("authz-admin"),
			"-aggregator", "unix:"+s.sock("catalog"), "-seal-keys", s.file("keys/seal"),
			"-state", s.file("authz"), "-audit-log", s.file("audit.jsonl"), "-client-address", cfg.Listen)}
}

func (s *Stack) aggregator(cfg *Config) child.Config {
	args := append(cfg.documents(),
		"-listen", "unix:"+s.sock("aggregator"), "-catalog", "unix:"+s.sock("catalog"),
		"-admin", "unix:"+s.sock("aggregator-admin"), "-authz", "unix:"+s.sock("authz"),
		"-seal-keys", s.file("keys/seal"), "-session-keys", s.file("keys/session"), "-state", s.file("aggregator"))
	for _, r := range cfg.Run {
		args = append(args, "-run", r)
	}
	return child.Config{Name: "aggregator", Path: filepath.Join(cfg.Bin, "aggregator"), Log: s.file("aggregator.log"), Args: args}
}

func (s *Stack) authserver(cfg *Config) child.Config {
	args := append(cfg.documents(),
		"-listen", "unix:"+s.sock("authserver"), "-rpc", "unix:"+s.sock("authserver-rpc"), "-admin", "unix:"+s.sock("authserver-admin"),
		"-keys", s.file("keys/authserver"), "-state", s.file("authserver"))
	if cfg.EntraAddress != "" {
		args = append(args, "-entra-address", cfg.EntraAddress)
	}
	return child.Config{Name: "authserver", Path: filepath.Join(cfg.Bin, "authserver"), Log: s.file("authserver.log"), Args: args}
}

// entrasim is the simulated tenant, for the application that the documents name.
func (s *Stack) entrasim(cfg *Config, as *gatewayconfig.AuthServer) (child.Config, error) {
	up := as.Upstreams[0]
	issuer, err := url.Parse(up.IssuerURL)
	if err != nil {
		return child.Config{}, err
	}
	address, err := FreeAddress()
	if err != nil {
		return child.Config{}, fmt.Errorf("--entra-sim: %w", err)
	}
	cfg.EntraAddress = "http://" + address
	secret := s.file("entrasim.secret")
	if err := os.WriteFile(secret, []byte(up.ClientSecret), 0o600); err != nil {
		return child.Config{}, fmt.Errorf("--entra-sim: %w", err)
	}
	args := []string{
		"-listen", address, "-tenant", strings.Split(strings.Trim(issuer.Path, "/"), "/")[0], "-client-id", up.ClientID,
		"-client-secret-file", secret, "-redirect-uri", up.RedirectURI, "-access-token-version", strconv.Itoa(cfg.EntraVersion),
	}
	if cfg.People != "" {
		args = append(args, "-people", cfg.People)
	}
	return child.Config{Name: "entrasim", Path: filepath.Join(cfg.Bin, "entrasim"), Log: s.file("entrasim.log"), Args: args}, nil
}

// environment is ours, with half of the cores for each Go service where nothing else is said: on a small machine the
// processes of one call share them, and threads beyond that only wake each other (7 % of the CPU of a lone client's
// call on two cores, measured).
func environment() []string {
	env := os.Environ()
	if os.Getenv("GOMAXPROCS") == "" {
		env = append(env, "GOMAXPROCS="+strconv.Itoa(max(1, runtime.NumCPU()/2)))
	}
	return env
}

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
		down := s.down[c.Name]
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
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.down, name)
		close(down)
	}, nil
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
}

// PID is the process id of envoy, authz or aggregator.
func (s *Stack) PID(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pids[name]
}

// wait returns when every part says that it is ready.
func (s *Stack) wait(ctx context.Context) error {
	for _, name := range s.services {
		if err := waitReady(ctx, s.sock(name+"-admin")); err != nil {
			return fmt.Errorf("%s does not become ready: %w (log %s)", name, err, s.file(name+".log"))
		}
	}
	return envoyproc.Ready(ctx, s.sock("envoy-admin"))
}

// report prints what each backend offers, or that it is away.
func (s *Stack) report(ctx context.Context, w io.Writer) {
	client := Client(s.sock("aggregator-admin"))
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, "GET", "http://admin/status", nil)
	if err != nil {
		return
	}
	resp, err := client.Do(req)
	if err != nil {
		return // the gateway is ready all the same
	}
	defer resp.Body.Close()
	var status struct {
		Backends []struct {
			Backend, State            string
			Tools, Prompts, Resources int
		}
	}
	if json.NewDecoder(resp.Body).Decode(&status) != nil {
		return
	}
	for _, b := range status.Backends {
		if b.State == "listed" {
			fmt.Fprintf(w, "%s: %d tools, %d prompts, %d resources\n", b.Backend, b.Tools, b.Prompts, b.Resources)
		} else {
			fmt.Fprintf(w, "%s: not available yet, see %s\n", b.Backend, s.file("aggregator.log"))
		}
	}
}

// waitReady asks a service's admin socket until it is ready; the error holds its last reasons.
func waitReady(ctx context.Context, sock string) error {
	client := Client(sock)
	defer client.CloseIdleConnections()
	last := errors.New("no answer")
	for {
		req, err := http.NewRequestWithContext(ctx, "GET", "http://admin/readyz", nil)
		if err != nil {
			return err
		}
		if resp, err := client.Do(req); err == nil {
			text, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
			last = errors.New(strings.TrimSpace(string(text)))
		} else if ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return last
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Client is an HTTP client whose every request goes to one Unix socket.
func Client(sock string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", sock)
		},
	}}
}
