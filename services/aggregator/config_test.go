package main

import (
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"vmcp/internal/gatewayconfig"
	"vmcp/services/aggregator/internal/backend"
	"vmcp/services/aggregator/internal/fleet"
)

func parse(args ...string) (*config, error) {
	c := new(config)
	fs := flag.NewFlagSet("aggregator", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	c.flags(fs)
	return c, fs.Parse(args)
}

func TestFlags(t *testing.T) {
	c, err := parse("-config", "a.yaml", "-config", "dir", "-run", "x=npx -y 'a b' --opt=1", "-run", "z=z")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.validate(); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"a.yaml", "dir"}, c.source.Paths); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(commands{"x": {"npx", "-y", "a b", "--opt=1"}, "z": {"z"}}, c.commands); diff != "" {
		t.Error(diff)
	}
	if c.source.Parts != gatewayconfig.PartAggregator {
		t.Errorf("parts %v, want the aggregator's alone: no secret of another service is read", c.source.Parts)
	}
	for _, bad := range []string{"name", "=command", "name=", "name='open"} {
		if _, err := parse("-run", bad); err == nil {
			t.Errorf("-run %q is accepted", bad)
		}
	}
	c, err = parse("-authz", "", "-seal-keys", "", "-session-keys", "")
	if err != nil {
		t.Fatal(err)
	}
	err = c.validate()
	for _, flag := range []string{"-config", "-authz", "-seal-keys", "-session-keys"} {
		if err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%v does not name %s", err, flag)
		}
	}
}

// TestHidden: everything of the gateway that the flags and documents name is hidden from children, absolute.
func TestHidden(t *testing.T) {
	c, err := parse("-hide", "/state", "-hide", "/run/x", "-state", "aggregator", "-seal-keys", "/k/seal", "-session-keys", "/k/session", "-tls", "/tls", "-secrets", "/secrets")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.hidden(&gatewayconfig.Gateway{Aggregator: gatewayconfig.Aggregator{SecretFiles: []string{"gateway.yaml"}}})
	want := []string{"/state", "/run/x", filepath.Join(dir, "aggregator"), "/k/seal", "/k/session", "/tls", "/secrets", filepath.Join(dir, "gateway.yaml")}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v, (-want +got):\n%s", err, diff)
	}
}

func TestCommand(t *testing.T) {
	c, err := parse("-run", "image:1=server --flag")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		b     gatewayconfig.Backend
		want  []string
		wrong string // in the error
	}{
		{gatewayconfig.Backend{Name: "a", Kind: "MCPServer", Image: "image:1", Transport: gatewayconfig.TransportStdio}, []string{"server", "--flag"}, ""},
		{gatewayconfig.Backend{Name: "b", Kind: "MCPServer", Image: "image:1", Command: "other", Transport: gatewayconfig.TransportStdio}, []string{"server", "--flag"}, ""},
		{gatewayconfig.Backend{Name: "b", Kind: "MCPServer", Image: "image:2", Command: "'an other' one", Transport: gatewayconfig.TransportStdio}, []string{"an other", "one"}, ""},
		{gatewayconfig.Backend{Name: "b", Kind: "MCPServer", Image: "image:2", Command: "'open", Transport: gatewayconfig.TransportStdio}, nil, "vmcp/command"},
		{gatewayconfig.Backend{Name: "b", Kind: "MCPServer", Image: "image:2", Transport: gatewayconfig.TransportStdio}, nil, "-run 'image:2=COMMAND"},
		{gatewayconfig.Backend{Name: "c", Kind: "MCPServer", Image: "image:1", Transport: gatewayconfig.TransportHTTP}, nil, "MCPServerEntry"},
		{gatewayconfig.Backend{Name: "a", Kind: "MCPServerEntry", Transport: gatewayconfig.TransportHTTP}, nil, ""},
	} {
		got, err := c.command(tt.b)
		if diff := cmp.Diff(tt.want, got); diff != "" || (err != nil) != (tt.wrong != "") || err != nil && !strings.Contains(err.Error(), tt.wrong) {
			t.Errorf("%v: %q, %v, want %q and an error with %q", tt.b, got, err, tt.want, tt.wrong)
		}
	}
}

// TestStatus: the page for people, and the metrics that say the same.
func TestStatus(t *testing.T) {
	registry := prometheus.NewRegistry()
	f := fleet.New(fleet.Config{Metrics: backend.NewMetrics(registry)}, fleet.Spec{Aggregator: &gatewayconfig.Aggregator{ConflictResolution: "prefix",
		Backends: []gatewayconfig.Backend{{Name: "a", Transport: gatewayconfig.TransportHTTP, URL: "http://127.0.0.1:1/mcp", Breaker: gatewayconfig.Breaker{Failures: 1, Timeout: time.Hour}}}}})
	defer f.Close()
	registry.MustRegister(gauges{f})
	w := httptest.NewRecorder()
	documents := inForce{}
	documents.set(true, nil)
	documents.set(false, errors.New("line 7"))
	status(f, []string{"careful"}, &documents)(w, httptest.NewRequest("GET", "/status", nil))
	var got struct {
		Backends  []map[string]any
		Warnings  []string
		Documents documentStatus
	}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || len(got.Backends) != 1 || got.Backends[0]["backend"] != "a" || got.Backends[0]["state"] != "starting" ||
		got.Backends[0]["breaker"] != "closed" || !slices.Equal(got.Warnings, []string{"careful"}) || got.Documents.Problem != "line 7" || got.Documents.Since.IsZero() {
		t.Errorf("%s, %v", w.Body, err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range families {
		names = append(names, f.GetName())
	}
	for _, want := range []string{"vmcp_backend_up", "vmcp_backend_items", "vmcp_backend_breaker_open", "vmcp_backend_children", "vmcp_backend_sessions", "vmcp_backend_items_left_out"} {
		if !slices.Contains(names, want) {
			t.Errorf("there is no %s: %s", want, names)
		}
	}
}
