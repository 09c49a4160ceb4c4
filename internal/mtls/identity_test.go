package mtls

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"vmcp/internal/await"
	"vmcp/internal/pki"
)

// authority signs certificates of roles.
type authority struct{ *pki.Authority }

func newAuthority(t *testing.T) authority {
	t.Helper()
	a, err := pki.New(time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return authority{a}
}

// issue replaces the files of dir.
func (a authority) issue(t *testing.T, dir string, role Role, usages ...x509.ExtKeyUsage) {
	t.Helper()
	c, err := a.Issue([]string{string(role)}, usages...)
	if err == nil {
		err = c.Write(dir)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (a authority) identity(t *testing.T, role Role) *Identity {
	t.Helper()
	dir := t.TempDir()
	a.issue(t, dir, role)
	id, err := Load(dir, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// serveHealth serves gRPC's health service as id for the roles and returns the address.
func serveHealth(t *testing.T, id *Identity, clients ...Role) string {
	t.Helper()
	l, err := id.Listen("127.0.0.1:0", clients...)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	healthv1.RegisterHealthServer(s, health.NewServer())
	served := make(chan error)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// ask makes one call on a new connection.
func ask(t *testing.T, id *Identity, addr string, server Role) error {
	t.Helper()
	conn, err := id.Dial(addr, server)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), await.Limit)
	defer cancel()
	_, err = healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{})
	return err
}

func TestRoles(t *testing.T) {
	ca, foreign := newAuthority(t), newAuthority(t)
	addr := serveHealth(t, ca.identity(t, RoleAuthz), RoleAggregator, RoleAuthServer)
	for name, tt := range map[string]struct {
		client *Identity
		server Role
		want   string // in the error
	}{
		"accepted":          {ca.identity(t, RoleAggregator), RoleAuthz, ""},
		"second role":       {ca.identity(t, RoleAuthServer), RoleAuthz, ""},
		"wrong role":        {ca.identity(t, RoleEnvoy), RoleAuthz, "Unavailable"},
		"below a role":      {ca.identity(t, "x."+RoleAggregator), RoleAuthz, "Unavailable"},
		"wildcard":          {ca.identity(t, "*.vmcp.internal"), RoleAuthz, "Unavailable"},
		"foreign authority": {foreign.identity(t, RoleAggregator), RoleAuthz, "unknown authority"},
		"other server":      {ca.identity(t, RoleAggregator), RoleAuthServer, "not " + string(RoleAuthServer)},
		"no TLS at all":     {nil, RoleAuthz, "error reading server preface"},
	} {
		err := ask(t, tt.client, addr, tt.server)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
}

// TestHTTPRoles: what Envoy meets. A client needs a certificate, and TLS 1.3.
func TestHTTPRoles(t *testing.T) {
	ca := newAuthority(t)
	server := ca.identity(t, RoleAggregator)
	core, logs := observer.New(zap.WarnLevel)
	server.log = zap.New(core)
	l, err := server.Listen("127.0.0.1:0", RoleEnvoy)
	if err != nil {
		t.Fatal(err)
	}
	s := http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, r.TLS.PeerCertificates[0].DNSNames[0])
		}),
		ErrorLog: stdlog.New(io.Discard, "", 0),
	}
	served := make(chan error)
	go func() { served <- s.Serve(l) }()
	get := func(version uint16, certs ...tls.Certificate) (string, error) {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: server.last.peers, ServerName: string(RoleAggregator),
			Certificates: certs, MaxVersion: version}}
		defer transport.CloseIdleConnections()
		res, err := (&http.Client{Transport: transport}).Get("https://" + l.Addr().String())
		if err != nil {
			return "", err
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		return string(b), err
	}
	envoy := ca.identity(t, RoleEnvoy).last.own
	if got, err := get(0, envoy); err != nil || got != string(RoleEnvoy) {
		t.Errorf("Envoy: %q, %v", got, err)
	}
	if _, err := get(0); err == nil || !strings.Contains(err.Error(), "certificate required") {
		t.Errorf("no certificate: got %v", err)
	}
	if _, err := get(tls.VersionTLS12, envoy); err == nil || !strings.Contains(err.Error(), "version") {
		t.Errorf("TLS 1.2: got %v", err)
	}
	if _, err := get(0, ca.identity(t, RoleAuthz).last.own); err == nil {
		t.Error("authz was taken for Envoy")
	}
	if logs.FilterField(zap.Strings("roles", []string{string(RoleAuthz)})).Len() != 1 {
		t.Errorf("the refusal is not in the log: %v", logs.All())
	}
	s.Close()
	if err := <-served; err != http.ErrServerClosed {
		t.Error(err)
	}
}

// TestRotation: new certificates of another authority are used without a restart, on both sides; broken ones are not.
func TestRotation(t *testing.T) {
	before, after := newAuthority(t), newAuthority(t)
	server, client := before.identity(t, RoleAuthz), before.identity(t, RoleAggregator)
	addr := serveHealth(t, server, RoleAggregator)
	if err := ask(t, client, addr, RoleAuthz); err != nil {
		t.Fatal(err)
	}
	after.issue(t, server.dir, RoleAuthz)
	if err := ask(t, client, addr, RoleAuthz); err == nil {
		t.Error("the client believed an authority that it does not have yet")
	}
	after.issue(t, client.dir, RoleAggregator)
	if err := ask(t, client, addr, RoleAuthz); err != nil {
		t.Errorf("after the rotation: %v", err)
	}
	if err := ask(t, before.identity(t, RoleAggregator), addr, RoleAuthz); err == nil {
		t.Error("a certificate of the old authority is still taken")
	}
	for _, broken := range []func() error{
		func() error { return os.WriteFile(filepath.Join(server.dir, "tls.key"), []byte("half"), 0o600) },
		func() error { return os.Remove(filepath.Join(server.dir, "ca.crt")) },
	} {
		if err := broken(); err != nil {
			t.Fatal(err)
		}
		if err := ask(t, client, addr, RoleAuthz); err != nil {
			t.Errorf("files are broken, the last good ones are not in use: %v", err)
		}
	}
	after.issue(t, server.dir, RoleAuthz)
	if err := ask(t, client, addr, RoleAuthz); err != nil {
		t.Errorf("repaired: %v", err)
	}
}

func TestLoadRefuses(t *testing.T) {
	ca, foreign := newAuthority(t), newAuthority(t)
	for name, tt := range map[string]struct {
		change func(t *testing.T, dir string)
		want   string
	}{
		"no key":            {func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, "tls.key")) }, "tls.key"},
		"empty authority":   {func(t *testing.T, dir string) { os.WriteFile(filepath.Join(dir, "ca.crt"), nil, 0o600) }, "ca.crt"},
		"foreign authority": {func(t *testing.T, dir string) { copyFile(t, foreign.identity(t, RoleAuthz).dir, dir, "ca.crt") }, "unknown authority"},
		"another's key":     {func(t *testing.T, dir string) { copyFile(t, ca.identity(t, RoleAuthz).dir, dir, "tls.key") }, "tls.key"},
		"not for clients":   {func(t *testing.T, dir string) { ca.issue(t, dir, RoleAuthz, x509.ExtKeyUsageServerAuth) }, "usage"},
	} {
		dir := t.TempDir()
		ca.issue(t, dir, RoleAuthz)
		tt.change(t, dir)
		if _, err := Load(dir, zap.NewNop()); err == nil || !strings.Contains(err.Error(), "-tls") || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want an error about %s", name, err, tt.want)
		}
	}
}

func copyFile(t *testing.T, from, to, name string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(from, name))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(to, name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestPlainOnlyHere: without a certificate nothing goes to other machines or comes from them.
func TestPlainOnlyHere(t *testing.T) {
	id, err := Load("", zap.NewNop())
	if id != nil || err != nil {
		t.Fatalf("%v, %v", id, err)
	}
	for addr, ok := range map[string]bool{
		"127.0.0.1:0": true, "localhost:0": true, "unix:" + shortDir(t) + "/s": true,
		":0": false, "0.0.0.0:0": false, "[::]:0": false, "192.0.2.1:0": false, "localhost.example:0": false,
	} {
		l, err := id.Listen(addr, RoleEnvoy)
		if err == nil {
			l.Close()
		}
		if ok != (err == nil) || !ok && !strings.Contains(err.Error(), "-tls") {
			t.Errorf("listening on %s: %v, want ok %v", addr, err, ok)
		}
		conn, err := id.Dial(addr, RoleAuthz)
		if err == nil {
			conn.Close()
		}
		if ok != (err == nil) || !ok && !strings.Contains(err.Error(), "-tls") {
			t.Errorf("connecting to %s: %v, want ok %v", addr, err, ok)
		}
	}
	if l, err := newAuthority(t).identity(t, RoleAuthz).Listen("unix:"+shortDir(t)+"/s", RoleEnvoy); err != nil {
		t.Error(err)
	} else if _, ok := l.(*net.UnixListener); !ok {
		t.Errorf("a Unix socket is a %T, want no TLS on it", l)
	} else {
		l.Close()
	}
}
