package stack

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"syscall"

	"vmcp/internal/gatewayconfig"
	"vmcp/internal/loopback"
)

// check refuses what cannot work, before anything is written or started.
func check(cfg *Config, gw *gatewayconfig.Gateway) error {
	if _, _, err := net.SplitHostPort(cfg.Listen); err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	if (cfg.TLSCert == "") != (cfg.TLSKey == "") {
		return errors.New("--tls-cert and --tls-key go together")
	}
	if cfg.TLSCert != "" { // Envoy would wait for them without a word, and answer nobody
		if _, err := tls.LoadX509KeyPair(cfg.TLSCert, cfg.TLSKey); err != nil {
			return fmt.Errorf("--tls-cert, --tls-key: %w", err)
		}
	}
	if gw.Authz.Anonymous && !cfg.Anonymous && !loopback.Address(cfg.Listen) {
		return fmt.Errorf("incomingAuth.type is anonymous, and others than programs of this machine reach %s: they could call every permitted tool; listen on 127.0.0.1, have people sign in, or accept that with --allow-anonymous", cfg.Listen)
	}
	if cfg.EntraSim && gw.AuthServer == nil {
		return errors.New("--entra-sim: the VirtualMCPServer has no authServerConfig, so nobody signs in through Entra")
	}
	return checkOrigins(cfg, gw)
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
		own := p.Scheme == scheme && (p.Host == cfg.Listen || loopback.Host(p.Hostname()) && p.Port() == port)
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
