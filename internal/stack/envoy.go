package stack

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	envoyconfig "vmcp/deploy/envoy"
	"vmcp/internal/envoyproc"
	"vmcp/internal/pki"
)

// envoyConfig writes the shipped configuration with this run's addresses. The listener that nobody needs gets a socket
// in the private directory.
func (s *Stack) envoyConfig(cfg *Config) (string, error) {
	// The TLS listener does not open without a certificate, also where it is parked on a private socket. Nobody trusts
	// this one, and nothing here is reached by mutual TLS.
	authority, err := pki.New(time.Now().AddDate(1, 0, 0))
	if err != nil {
		return "", err
	}
	parked, err := authority.Issue([]string{"localhost"})
	if err == nil {
		err = parked.Write(s.file("parked-tls"))
	}
	if err != nil {
		return "", err
	}
	ca, cert, key := s.file("parked-tls/ca.crt"), s.file("parked-tls/tls.crt"), s.file("parked-tls/tls.key")
	role, err := envoyproc.RenderTLS(envoyconfig.Role, cert, key)
	if err != nil {
		return "", err
	}
	peers, err := envoyproc.RenderPeers(envoyconfig.Peers, ca)
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
	text, err := envoyproc.Render(envoyconfig.Config, envoyproc.Addresses{
		TLS: numeric(tls), Plain: numeric(plain), Admin: s.sock("envoy-admin"),
		Authz: "unix:" + s.sock("authz"), Aggregator: "unix:" + s.sock("aggregator"), AuthServer: "unix:" + s.sock("authserver"),
		TLSFile: s.file("envoy-tls.yaml"), RoleFile: s.file("envoy-role.yaml"), PeersFile: s.file("envoy-peers.yaml"), AccessLog: s.file("access.jsonl"), Endpoint: s.endpoint,
		TrustedHops: s.proxies.Hops, TrustedCIDRs: s.proxies.Ranges,
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
