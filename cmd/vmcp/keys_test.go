package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.yaml.in/yaml/v3"

	"vmcp/internal/keyring"
	"vmcp/internal/mtls"
)

// TestKeysNew: what is printed is what the services load.
func TestKeysNew(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if status := dispatch(t.Context(), []string{"keys", "new", "-server", "files", "seal", "session", "authserver", "tls"}, &stdout, &stderr); status != 0 {
		t.Fatalf("status %d: %s", status, stderr.String())
	}
	dirs := map[string]string{}
	for docs := yaml.NewDecoder(&stdout); ; {
		var s secret
		if err := docs.Decode(&s); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if s.APIVersion != "v1" || s.Kind != "Secret" {
			t.Errorf("%s %s, want v1 Secret", s.APIVersion, s.Kind)
		}
		dir := t.TempDir()
		dirs[s.Metadata["name"]+" "+s.Type] = dir
		for key, text := range s.StringData {
			if err := os.WriteFile(filepath.Join(dir, key), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	seen := map[string]bool{}
	for _, kind := range []string{"seal", "session", "authserver"} {
		ring, err := keyring.Load(dirs["vmcp-keys-"+kind+" Opaque"])
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		seen[string(ring.Newest().MAC("x", nil))] = true
	}
	if len(seen) != 3 {
		t.Errorf("%d different keys, want 3", len(seen))
	}
	for _, role := range []string{"envoy", "authz", "aggregator", "authserver", "files"} {
		if _, err := mtls.Load(dirs["vmcp-tls-"+role+" kubernetes.io/tls"], zap.NewNop()); err != nil {
			t.Errorf("%s: %v", role, err)
		}
	}
}

func TestKeysUsage(t *testing.T) {
	for _, args := range [][]string{{"keys"}, {"keys", "new"}, {"keys", "old", "seal"}, {"keys", "new", "door"}, {"keys", "new", "-x"}} {
		var stdout, stderr bytes.Buffer
		if status := dispatch(t.Context(), args, &stdout, &stderr); status != 2 || stdout.Len() > 0 || !strings.Contains(stderr.String(), "vmcp keys new -h") {
			t.Errorf("%v: status %d, %q", args, status, stdout.String())
		}
	}
}
