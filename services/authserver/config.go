package main

import (
	"errors"
	"flag"
	"net/url"

	"vmcp/internal/daemon"
	"vmcp/internal/gatewayconfig"
	"vmcp/internal/loopback"
)

// config is the service's own flags: addresses and paths. What the gateway does is in the user's documents.
type config struct {
	source gatewayconfig.Source
	common daemon.Flags
	listen string
	rpc    string
	keys   string
	state  string
	entra  string
}

func (c *config) flags(fs *flag.FlagSet) {
	c.source.Parts = gatewayconfig.PartAuthServer
	c.source.Flags(fs)
	c.common.Declare(fs, "authserver")
	fs.StringVar(&c.listen, "listen", "unix:/run/vmcp/authserver.sock", "`address` for Envoy, and nobody else: the client's address is taken from its header")
	fs.StringVar(&c.rpc, "rpc", "unix:/run/vmcp/authserver-rpc.sock", "`address` where authz watches keys and revocations")
	fs.StringVar(&c.keys, "keys", "/etc/vmcp/keys/authserver", "`directory` of the keys that seal the state and bind browsers")
	fs.StringVar(&c.state, "state", "/var/lib/vmcp/authserver", "`directory` of the database")
	fs.StringVar(&c.entra, "entra-address", "", "`origin` on this machine that stands in for Entra, such as http://127.0.0.1:8089; issuers stay Microsoft's")
}

// validate reports every problem of the flags at once and changes nothing.
func (c *config) validate() error {
	errs := []error{c.source.Check()}
	if c.keys == "" {
		errs = append(errs, errors.New("-keys is empty: name the directory of the keys"))
	}
	if c.state == "" {
		errs = append(errs, errors.New("-state is empty: name a directory for the database"))
	}
	if c.entra != "" {
		u, err := url.Parse(c.entra)
		if err != nil || u.Scheme != "http" || u.Path != "" || u.Host == "" {
			errs = append(errs, errors.New("-entra-address: want an origin such as http://127.0.0.1:8089"))
		} else if !loopback.Host(u.Hostname()) {
			errs = append(errs, errors.New("-entra-address: only an address on this machine may stand in for Entra"))
		}
	}
	return errors.Join(errs...)
}
