package main

import (
	"flag"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmcp/internal/gatewayconfig"
)

func parse(t *testing.T, args ...string) *config {
	t.Helper()
	c := new(config)
	fs := flag.NewFlagSet("authz", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	c.flags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFlags(t *testing.T) {
	c := parse(t, "-config", "a.yaml", "-config", "dir", "-name", "team", "-aggregator", "unix:/x", "-aggregator", "host:1", "-client-address", "127.0.0.1:4483")
	if err := c.validate(); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"a.yaml", "dir"}, c.source.Paths); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"unix:/x", "host:1"}, []string(c.aggregator)); diff != "" {
		t.Error(diff)
	}
	if c.source.Parts != gatewayconfig.PartAuthz {
		t.Errorf("parts %v, want authz's alone: no secret of another service is read", c.source.Parts)
	}
}

// TestValidate: every problem at once.
func TestValidate(t *testing.T) {
	err := parse(t, "-client-address", "nonsense", "-seal-keys", "", "-audit-log", "").validate()
	for _, flag := range []string{"-config", "-aggregator", "-client-address", "-seal-keys", "-audit-log"} {
		if err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%v does not name %s", err, flag)
		}
	}
}

// T55: whose tokens are ours is watched for revocations, or does not start.
func TestAuthserverFlagFitsDocuments(t *testing.T) {
	for _, tt := range []struct {
		own, anonymous bool
		flag           string
		ok             bool
	}{{own: true, flag: "unix:/x", ok: true}, {own: true}, {flag: "unix:/x"}, {ok: true}, {own: true, anonymous: true, flag: "unix:/x"}, {anonymous: true, ok: true}} {
		gw := &gatewayconfig.Gateway{Authz: gatewayconfig.Authz{Issuer: gatewayconfig.Issuer{Own: tt.own}, Anonymous: tt.anonymous}}
		if err := parse(t, "-authserver", tt.flag).fits(gw); (err == nil) != tt.ok {
			t.Errorf("%+v: %v", tt, err)
		}
	}
}

func TestLoopbackPort(t *testing.T) {
	for address, want := range map[string]int{
		"": 0, "127.0.0.1:4483": 4483, "localhost:80": 80, "[::1]:1": 1, "127.9.9.9:5": 5,
		"0.0.0.0:4483": 0, ":4483": 0, "192.0.2.1:4483": 0, "localhost.example:4483": 0,
		"127.0.0.1": -1, "127.0.0.1:0": -1, "127.0.0.1:x": -1, "127.0.0.1:65536": -1,
	} {
		got, err := parse(t, "-client-address", address).loopbackPort()
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("%q: %d, %v, want %d", address, got, err, want)
		}
	}
}
