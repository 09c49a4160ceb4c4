package main

import (
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"vmcp/internal/gatewayconfig"
	"vmcp/internal/keyring/keyringtest"
	"vmcp/internal/secret"
)

func parse(t *testing.T, args ...string) *config {
	t.Helper()
	c := new(config)
	fs := flag.NewFlagSet("authserver", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	c.flags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFlags(t *testing.T) {
	c := parse(t, "-config", "a.yaml", "-config", "dir", "-name", "team", "-entra-address", "http://127.0.0.1:8089")
	if err := c.validate(); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"a.yaml", "dir"}, c.source.Paths); diff != "" {
		t.Error(diff)
	}
	if c.source.Parts != gatewayconfig.PartAuthServer {
		t.Errorf("parts %v, want authserver's alone: no secret of another service is read", c.source.Parts)
	}
}

// TestValidate: every problem at once.
func TestValidate(t *testing.T) {
	err := parse(t, "-state", "", "-keys", "", "-entra-address", "https://login.example.com").validate()
	for _, flag := range []string{"-config", "-state", "-keys", "-entra-address"} {
		if err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%v does not name %s", err, flag)
		}
	}
	for address, ok := range map[string]bool{
		"http://127.0.0.1:1": true, "http://localhost:1": true, "http://[::1]:1": true, "": true,
		"http://192.0.2.1:1": false, "http://localhost.example:1": false, "http://0.0.0.0:1": false, "https://127.0.0.1:1": false,
		"http://127.0.0.1:1/x": false, "127.0.0.1:1": false,
	} {
		if err := parse(t, "-config", "x", "-entra-address", address).validate(); (err == nil) != ok {
			t.Errorf("%q: %v", address, err)
		}
	}
}

// The documents of the guide are enough.
func TestGuide(t *testing.T) {
	secrets := t.TempDir()
	if err := os.MkdirAll(filepath.Join(secrets, "idp-client-secret"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(secrets, "idp-client-secret", "client-secret"), []byte("value"), 0o600); err != nil {
		t.Fatal(err)
	}
	gw, err := gatewayconfig.Load(gatewayconfig.Source{Paths: []string{"../../internal/gatewayconfig/testdata/seed/engineering-tools.yaml"},
		Secrets: secrets, Parts: gatewayconfig.PartAuthServer})
	if err != nil {
		t.Fatal(err)
	}
	current := &current{}
	current.set(gw.AuthServer)
	_, origin, err := newUpstream(gw.AuthServer.Upstreams[0], current, zap.NewNop())
	if err != nil || origin != "https://login.microsoftonline.com" {
		t.Errorf("upstream at %s: %v", origin, err)
	}
}

func TestHMACKeys(t *testing.T) {
	ring := keyringtest.New(t)
	if got := hmacKeys([]secret.Value{"a", "b"}, ring); len(got) != 2 || got[0] != "a" {
		t.Errorf("configured keys: %d", len(got))
	}
	if got := hmacKeys(nil, ring); len(got) != 1 || len(got[0]) != 32 {
		t.Errorf("derived keys: %d", len(got))
	}
}
