package stack

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os/exec"
	"strings"
	"syscall"

	"vmcp/internal/gatewayconfig"
	"vmcp/internal/stdio"
)

// check refuses what cannot work, before anything is written or started.
func check(cfg *Config, gw *gatewayconfig.Gateway) error {
	if _, _, err := net.SplitHostPort(cfg.Listen); err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	if (cfg.TLSCert == "") != (cfg.TLSKey == "") {
		return errors.New("--tls-cert and --tls-key go together")
	}
	if cfg.EntraSim && gw.AuthServer == nil {
		return errors.New("--entra-sim: the VirtualMCPServer has no authServerConfig, so nobody signs in through Entra")
	}
	if err := checkOrigins(cfg, gw); err != nil {
		return err
	}
	return checkPrograms(cfg, gw)
}

// CheckFree refuses an address on which somebody listens: Envoy would share the port with another Envoy without a word,
// and its own error otherwise comes late.
func CheckFree(address string) error {
	l, err := net.Listen("tcp", numeric(address))
	if err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("%s is in use, by another gateway perhaps: stop that, or choose another address with --listen", address)
		}
		return fmt.Errorf("--listen: %w", err)
	}
	return l.Close()
}

// scheme is that of the URL which clients use here.
func (c *Config) scheme() string {
	if c.TLSCert != "" {
		return "https"
	}
	return "http"
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
func checkOrigins(cfg *Config, gw *gatewayconfig.Gateway) error {
	if cfg.PublicTLS {
		return nil
	}
	_, port, _ := net.SplitHostPort(cfg.Listen)
	scheme := cfg.scheme()
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
