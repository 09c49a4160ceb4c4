package stack

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"vmcp/internal/child"
	"vmcp/internal/freeport"
	"vmcp/internal/gatewayconfig"
)

// configure says how the services are run, entrasim before authserver, which it gives its address.
func (s *Stack) configure(cfg *Config, gw *gatewayconfig.Gateway) ([]child.Config, error) {
	services := []child.Config{s.authz(cfg, gw), s.aggregator(cfg)}
	if gw.AuthServer == nil {
		return services, nil
	}
	if cfg.EntraSim {
		sim, err := s.entrasim(cfg, gw.AuthServer)
		if err != nil {
			return nil, err
		}
		services = append(services, sim)
	}
	s.services = append(s.services, "authserver")
	return append(services, s.authserver(cfg)), nil
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
	if cfg.Anonymous {
		args = append(args, "-allow-anonymous")
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
		"-seal-keys", s.file("keys/seal"), "-session-keys", s.file("keys/session"), "-state", s.file("aggregator"),
		"-hide", s.State, "-hide", s.run)
	if key := cfg.TLSKey; key != "" {
		args = append(args, "-hide", key)
	}
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
	address, err := freeport.Address()
	if err != nil {
		return child.Config{}, fmt.Errorf("--entra-sim: %w", err)
	}
	s.simulated, cfg.EntraAddress = address, "http://"+address
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
