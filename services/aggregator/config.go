package main

import (
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"vmcp/internal/daemon"
	"vmcp/internal/gatewayconfig"
	"vmcp/internal/stdio"
)

// config is the service's own flags: addresses and paths. What the gateway does is in the user's documents.
type config struct {
	source      gatewayconfig.Source
	common      daemon.Flags
	listen      string
	catalog     string
	authz       string
	sealKeys    string
	sessionKeys string
	state       string
	hide        []string
	commands    commands
}

// commands say which program stands for the image of an MCPServer, by image.
type commands map[string][]string

func (c commands) String() string { return "" }

// Set takes IMAGE=COMMAND ARGS…, split at blanks outside of quotes.
func (c commands) Set(v string) error {
	image, command, ok := strings.Cut(v, "=")
	words, err := stdio.Words(command)
	if !ok || image == "" || err != nil || len(words) == 0 {
		return errors.New("want IMAGE=COMMAND ARGS…")
	}
	c[image] = words
	return nil
}

func (c *config) flags(fs *flag.FlagSet) {
	c.source.Parts = gatewayconfig.PartAggregator
	c.commands = commands{}
	c.source.Flags(fs)
	c.common.Declare(fs, "aggregator")
	fs.StringVar(&c.listen, "listen", "unix:/run/vmcp/aggregator.sock", "`address` for Envoy")
	fs.StringVar(&c.catalog, "catalog", "unix:/run/vmcp/catalog.sock", "`address` where authz watches the catalog")
	fs.StringVar(&c.authz, "authz", "unix:/run/vmcp/authz.sock", "`address` of authz")
	fs.StringVar(&c.sealKeys, "seal-keys", "/etc/vmcp/keys/seal", "`directory` of the keys that seal decisions")
	fs.StringVar(&c.sessionKeys, "session-keys", "/etc/vmcp/keys/session", "`directory` of the keys that seal session ids")
	fs.StringVar(&c.state, "state", "", "`directory` for the last good lists of the backends; empty: none are kept")
	fs.Func("hide", "`path` of the gateway that programs started here cannot reach, besides the directories named by the other flags, where the kernel has Landlock; may be repeated", func(path string) error {
		c.hide = append(c.hide, path)
		return nil
	})
	fs.Var(c.commands, "run", "`IMAGE=COMMAND ARGS…`: start this program for each MCPServer with that image, before the annotation vmcp/command; may be repeated")
}

// hidden are the absolute paths that no child may reach: everything of the gateway that this process knows of.
func (c *config) hidden(gw *gatewayconfig.Gateway) ([]string, error) {
	var all []string
	for _, path := range slices.Concat(c.hide, []string{c.state, c.sealKeys, c.sessionKeys, c.common.TLS, c.source.Secrets}, gw.Aggregator.SecretFiles) {
		if path == "" {
			continue
		}
		path, err := filepath.Abs(path)
		if err != nil {
			return nil, err
		}
		all = append(all, path)
	}
	return all, nil
}

func (c *config) validate() error {
	errs := []error{c.source.Check()}
	for flag, value := range map[string]string{"authz": c.authz, "seal-keys": c.sealKeys, "session-keys": c.sessionKeys} {
		if value == "" {
			errs = append(errs, fmt.Errorf("-%s is empty", flag))
		}
	}
	return errors.Join(errs...)
}
