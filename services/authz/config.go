package main

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"path/filepath"
	"strconv"

	"vmcp/internal/daemon"
	"vmcp/internal/gatewayconfig"
	"vmcp/internal/loopback"
)

// config is the service's own flags: addresses and paths. What the gateway does is in the user's documents.
type config struct {
	source      gatewayconfig.Source
	common      daemon.Flags
	listen      string
	permissions string
	aggregator  daemon.List
	authserver  string
	sealKeys    string
	state       string
	auditLog    string
	clients     string
	anonymous   bool
}

func (c *config) flags(fs *flag.FlagSet) {
	c.source.Parts = gatewayconfig.PartAuthz
	c.source.Flags(fs)
	c.common.Declare(fs, "authz")
	fs.StringVar(&c.listen, "listen", "unix:/run/vmcp/authz.sock", "`address` for Envoy and, on the same machine, the aggregator")
	fs.StringVar(&c.permissions, "permissions", "", "a second `address`, for aggregators on other machines")
	fs.Var(&c.aggregator, "aggregator", "`address` of an aggregator's catalog, where a name may stand for many replicas; may be repeated")
	fs.StringVar(&c.authserver, "authserver", "", "`address` where authserver tells its keys and revocations, where the documents have an authServerConfig")
	fs.StringVar(&c.sealKeys, "seal-keys", "/etc/vmcp/keys/seal", "`directory` of the keys that seal decisions")
	fs.StringVar(&c.state, "state", "", "`directory` for the issuer's last good keys and revocations; empty: none are kept")
	fs.StringVar(&c.auditLog, "audit-log", "-", "`file` for the audit trail; - for standard output")
	fs.StringVar(&c.clients, "client-address", "", "`host:port` that clients connect to, where it is on loopback: its names are then accepted")
	fs.BoolVar(&c.anonymous, "allow-anonymous", false, "allow incomingAuth.type anonymous although clients do not connect by loopback")
}

// validate reports every problem of the flags at once and changes nothing.
func (c *config) validate() error {
	errs := []error{c.source.Check()}
	if len(c.aggregator) == 0 {
		errs = append(errs, errors.New("-aggregator is missing: name the aggregator's catalog address"))
	}
	if _, err := c.loopbackPort(); err != nil {
		errs = append(errs, err)
	}
	for flag, value := range map[string]string{"seal-keys": c.sealKeys, "audit-log": c.auditLog} {
		if value == "" {
			errs = append(errs, fmt.Errorf("-%s is empty", flag))
		}
	}
	return errors.Join(errs...)
}

// fits says whether the flags are those of the documents. Without authserver's feed a token that was revoked would be let
// in until it expires, and nobody would notice.
func (c *config) fits(gw *gatewayconfig.Gateway) error {
	switch own := gw.Authz.Issuer.Own && !gw.Authz.Anonymous; {
	case own && c.authserver == "":
		return errors.New("the documents have an authServerConfig, but -authserver is missing: name the address where authserver tells its keys and revocations")
	case !own && c.authserver != "":
		return errors.New("-authserver is given, but nobody signs in by an authServerConfig of the documents: its keys and revocations would mean nothing")
	}
	return nil
}

// kept is the path of a file in the state directory; empty where there is none.
func (c *config) kept(name string) string {
	if c.state == "" {
		return ""
	}
	return filepath.Join(c.state, name)
}

// loopbackPort is the port of a client address on loopback, 0 for another address or none.
func (c *config) loopbackPort() (int, error) {
	if c.clients == "" {
		return 0, nil
	}
	host, port, err := net.SplitHostPort(c.clients)
	if err != nil {
		return 0, fmt.Errorf("-client-address: %w", err)
	}
	n, err := strconv.Atoi(port)
	if err != nil || n < 1 || n > 65535 {
		return 0, fmt.Errorf("-client-address: %q is not a port", port)
	}
	if loopback.Host(host) {
		return n, nil
	}
	return 0, nil
}
