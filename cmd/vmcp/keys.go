package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"vmcp/internal/daemon"
	"vmcp/internal/keyring"
	"vmcp/internal/mtls"
	"vmcp/internal/pki"
)

// secret is a Kubernetes Secret (core/v1).
type secret struct {
	APIVersion string            `yaml:"apiVersion"`
	Kind       string            `yaml:"kind"`
	Metadata   map[string]string `yaml:"metadata"`
	Type       string            `yaml:"type"`
	StringData map[string]string `yaml:"stringData"`
}

const oneYear = 365 * 24 * time.Hour

const keysHelp = `usage: vmcp keys new [-server NAME] seal|session|authserver|tls…

Prints new keys as Kubernetes Secrets:
  seal        what authz decided, on its way to the aggregator
  session     session ids of clients
  authserver  the state of the authorization server
  tls         a certificate for each role, good for a year; the authority's key is thrown away

With -server, tls also makes the certificate of the bridge beside that MCPServer.

example:
  vmcp keys new seal session authserver tls | kubectl apply -f -
`

// keys prints new keys as the Secrets that deploy/k8s expects.
func keys(_ context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("vmcp keys new", flag.ContinueOnError)
	var servers daemon.List
	fs.Var(&servers, "server", "`name` of an MCPServer that runs beside a bridge; may be repeated")
	kinds, err := parse(fs, keysHelp, args, stdout, stderr)
	if err != nil {
		return err
	}
	if len(kinds) < 2 || kinds[0] != "new" {
		return wrongUsage(fs, stderr, "want vmcp keys new, and the kinds of keys")
	}
	id := time.Now().UTC().Format(keyring.IDLayout)
	var secrets []secret
	for _, kind := range kinds[1:] {
		switch {
		case slices.Contains([]string{"seal", "session", "authserver"}, kind):
			secrets = append(secrets, newSecret("vmcp-keys-"+kind, "Opaque", map[string]string{id: keyring.New()}))
		case kind == "tls":
			certificates, err := newCertificates(time.Now().Add(oneYear), servers)
			if err != nil {
				return err
			}
			secrets = append(secrets, certificates...)
		default:
			return wrongUsage(fs, stderr, fmt.Sprintf("unknown kind %q", kind))
		}
	}
	out := yaml.NewEncoder(stdout)
	out.SetIndent(2)
	for _, s := range secrets {
		if err := out.Encode(s); err != nil {
			return err
		}
	}
	return out.Close()
}

// newCertificates makes an authority and signs one certificate for each role, those of bridges included.
func newCertificates(until time.Time, servers []string) ([]secret, error) {
	authority, err := pki.New(until)
	if err != nil {
		return nil, err
	}
	var secrets []secret
	roles := slices.Clone(mtls.Roles)
	for _, server := range servers {
		roles = append(roles, mtls.RoleBridge(server))
	}
	for _, role := range roles {
		c, err := authority.Issue([]string{string(role)})
		if err != nil {
			return nil, err
		}
		secrets = append(secrets, newSecret("vmcp-tls-"+role.Name(), "kubernetes.io/tls",
			map[string]string{"ca.crt": string(c.CA), "tls.crt": string(c.Cert), "tls.key": string(c.Key)}))
	}
	return secrets, nil
}

func newSecret(name, kind string, data map[string]string) secret {
	return secret{"v1", "Secret", map[string]string{"name": name}, kind, data}
}
