package envoyproc

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"vmcp/internal/await"
	"vmcp/internal/daemon"
	"vmcp/internal/mtls"
	"vmcp/internal/pki"
)

// TestMTLS: Envoy and an aggregator elsewhere prove their roles to each other, and take new certificates while running.
func TestMTLS(t *testing.T) {
	g := prepare(t)
	issue := func(a *pki.Authority, dir string, role mtls.Role) {
		t.Helper()
		c, err := a.Issue([]string{string(role)})
		if err == nil {
			err = c.Write(dir)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	authority := func() *pki.Authority {
		t.Helper()
		a, err := pki.New(time.Now().Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	before := authority()
	ours, theirs := t.TempDir(), t.TempDir()
	issue(before, ours, mtls.RoleEnvoy)
	issue(before, theirs, mtls.RoleAggregator)
	role, err := RenderTLS(shipped(t, "role.yaml"), filepath.Join(ours, "tls.crt"), filepath.Join(ours, "tls.key"))
	if err != nil {
		t.Fatal(err)
	}
	peers, err := RenderPeers(shipped(t, "peers.yaml"), filepath.Join(ours, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, g.addresses.RoleFile, role)
	write(t, g.addresses.PeersFile, peers)

	id, err := mtls.Load(theirs, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	l, err := id.Listen("127.0.0.1:0", mtls.RoleEnvoy)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error)
	server := daemon.NewHTTPServer(g.aggregator, zap.NewNop())
	server.SetKeepAlivesEnabled(false) // a handshake for each call
	go func() { served <- daemon.ServeHTTP(ctx, l, server) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	g.addresses.Aggregator = "mtls://" + l.Addr().String()
	g.render(t)
	g.startAuthz(t)
	g.run(t)

	call := func() int {
		t.Helper()
		res, err := http.Post(g.url+"/mcp", "application/json", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	// until waits for Envoy, which learns of new files by itself.
	until := func(what string, want int) {
		t.Helper()
		await.That(t, what, func() bool { return call() == want })
	}
	until("both certificates are good", 200)
	issue(before, theirs, mtls.RoleAuthServer)
	until("the server has another role", 503)
	issue(before, theirs, mtls.RoleAggregator)
	until("the right role again", 200)
	issue(before, ours, mtls.RoleAuthz)
	until("Envoy has another role", 503)
	after := authority()
	issue(after, theirs, mtls.RoleAggregator)
	issue(after, ours, mtls.RoleEnvoy)
	until("everything is new", 200)
}

func write(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}
