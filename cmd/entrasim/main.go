// Command entrasim runs a simulated Entra tenant on loopback, for the demo and for trying things out.
//
// It prints "ready" and its address when it listens, and ends with SIGTERM or SIGINT.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	"go.uber.org/zap"

	"vmcp/internal/daemon"
	"vmcp/internal/entrasim"
	"vmcp/internal/secret"
)

var (
	cfg        entrasim.Config
	secretFile string
	people     string
)

func main() {
	flags(flag.CommandLine)
	daemon.Main(run)
}

func flags(f *flag.FlagSet) {
	f.StringVar(&cfg.Listen, "listen", "127.0.0.1:0", "loopback `address` and port; port 0 picks one")
	f.StringVar(&cfg.Tenant, "tenant", "7e4a0000-0000-4000-8000-000000000001", "directory (tenant) id, a `GUID`")
	f.StringVar(&cfg.ClientID, "client-id", "c11e4700-0000-4000-8000-000000000001", "application (client) id, a `GUID`")
	f.StringVar(&secretFile, "client-secret-file", "", "`file` with the client secret; required")
	f.Func("redirect-uri", "registered redirect `URI`; may be repeated", func(s string) error {
		cfg.RedirectURIs = append(cfg.RedirectURIs, s)
		return nil
	})
	f.StringVar(&people, "people", "", "YAML `file` with people and their roles; default: one person per role of the guide")
	f.StringVar(&cfg.AppIDURI, "app-id-uri", "", "Application ID `URI`; default: api://<client id>")
	f.IntVar(&cfg.TokenVersion, "access-token-version", 0, "requestedAccessTokenVersion: 0 (not set), 1 or 2; 0 and 1 give v1.0 tokens, as the guide's steps do")
	f.BoolVar(&cfg.SSO, "sso", false, "an account stays signed in, until prompt=select_account or a logout")
}

func run(ctx context.Context, log *zap.Logger) error {
	if secretFile == "" {
		return errors.New("-client-secret-file is required")
	}
	value, err := os.ReadFile(secretFile)
	if err != nil {
		return fmt.Errorf("client secret: %w", err)
	}
	cfg.ClientSecret = secret.Value(strings.TrimSpace(string(value)))
	if people != "" {
		if cfg.Directory, err = entrasim.LoadDirectory(people); err != nil {
			return err
		}
	}
	tenant, err := entrasim.Start(cfg)
	if err != nil {
		return err
	}
	defer tenant.Close()
	log.Info("simulated Entra tenant", zap.String("url", tenant.URL), zap.String("issuer", tenant.Issuer()), zap.Strings("redirect_uris", cfg.RedirectURIs))
	fmt.Println("ready", tenant.URL)
	<-ctx.Done()
	return nil
}
