// Package mtls is how the gateway's processes reach each other: Unix sockets and loopback on one machine, mutual TLS by
// role between machines. It owns addresses, roles and certificates in use; making certificates is internal/pki's, and
// serving is internal/daemon's.
package mtls

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"vmcp/internal/loopback"
)

// Role is what a process is to its peers in a cluster: the DNS name that its certificate holds, whatever its address.
type Role string

// The roles of the gateway's processes. deploy/envoy/envoy.yaml names those that Envoy connects to.
const (
	RoleEnvoy      Role = "envoy.vmcp.internal"
	RoleAuthz      Role = "authz.vmcp.internal"
	RoleAggregator Role = "aggregator.vmcp.internal"
	RoleAuthServer Role = "authserver.vmcp.internal"
)

// Roles are those of the gateway's own processes.
var Roles = []Role{RoleEnvoy, RoleAuthz, RoleAggregator, RoleAuthServer}

// Name is the first label of the role, by which files and Secrets are called.
func (r Role) Name() string {
	name, _, _ := strings.Cut(string(r), ".")
	return name
}

// RoleBridge is that of the bridge beside one MCP server: it shares a container with that server, whatever it is, so its
// key is good for nothing else.
func RoleBridge(server string) Role { return Role(server + ".bridge.vmcp.internal") }

// Identity is how this process proves its role to others and knows theirs: mutual TLS 1.3. Files that are replaced are
// used from the next handshake on; connections that are open stay.
//
// The nil Identity has no certificate. It listens and connects only where nobody else reaches: on Unix sockets and on
// loopback. Unix sockets are never encrypted, TCP always is once there is a certificate.
type Identity struct {
	dir string
	log *zap.Logger

	mu     sync.Mutex
	files  []os.FileInfo // as last read
	last   *credential
	failed string // the last error, logged once
}

// credential is one reading of the files. Immutable.
type credential struct {
	own   tls.Certificate
	peers *x509.CertPool
}

// Load reads ca.crt, tls.crt and tls.key in dir, as a Kubernetes Secret of type kubernetes.io/tls has them. The
// certificate must be signed by the authority of ca.crt, for servers and clients. An empty dir gives the nil Identity.
func Load(dir string, log *zap.Logger) (*Identity, error) {
	if dir == "" {
		return nil, nil
	}
	id := &Identity{dir: dir, log: log}
	var err error
	if id.files, err = id.stat(); err == nil {
		id.last, err = id.read()
	}
	if err != nil {
		return nil, fmt.Errorf("-tls: %w", err)
	}
	return id, nil
}

// Listen opens addr like the function Listen. On TCP it takes only clients that have one of the roles.
func (id *Identity) Listen(addr string, clients ...Role) (net.Listener, error) {
	if id == nil || strings.HasPrefix(addr, "unix:") {
		return Listen(addr)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", addr, err)
	}
	return tls.NewListener(l, &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			c := id.current()
			return &tls.Config{
				MinVersion:             tls.VersionTLS13,
				Certificates:           []tls.Certificate{c.own},
				ClientAuth:             tls.RequireAndVerifyClientCert,
				ClientCAs:              c.peers,
				NextProtos:             []string{"h2", "http/1.1"},
				SessionTicketsDisabled: true, // a resumed session would outlive the authority that vouched for it
				VerifyConnection: func(s tls.ConnectionState) error {
					names := s.PeerCertificates[0].DNSNames
					if !slices.ContainsFunc(clients, func(r Role) bool { return slices.Contains(names, string(r)) }) {
						id.log.Warn("client refused: its certificate has none of the roles taken here",
							zap.String("listener", addr), zap.Strings("roles", names))
						return errors.New("this role is not taken here")
					}
					return nil
				},
			}, nil
		},
	}), nil
}

// Dial makes a gRPC client of addr, in the form that Listen takes. On TCP the server must have the role.
func (id *Identity) Dial(addr string, server Role, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	security := insecure.NewCredentials()
	if network, _ := Network(addr); network == "tcp" {
		if id != nil {
			security = &clientCredentials{id, server}
		} else if !loopback.Address(addr) {
			return nil, fmt.Errorf("connecting to %s: it is on another machine: %w", addr, errNoIdentity)
		}
	}
	return grpc.NewClient(target(addr), append(opts,
		grpc.WithTransportCredentials(security),
		// A process that was restarted is found again at once, not after the two minutes of the default.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 500 * time.Millisecond}, MinConnectTimeout: 5 * time.Second,
		}),
		// A machine that is gone says nothing. Ours are never asked while they talk: watches have heartbeats.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
	)...)
}

// DialTLS connects to host:port, whose server must have the role.
func (id *Identity) DialTLS(ctx context.Context, address string, server Role) (net.Conn, error) {
	if id == nil {
		return nil, fmt.Errorf("connecting to %s: it is taken only with a certificate: %w", address, errNoIdentity)
	}
	return (&tls.Dialer{NetDialer: &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}, Config: id.client(server)}).DialContext(ctx, "tcp", address)
}

func (id *Identity) client(server Role) *tls.Config {
	now := id.current()
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{now.own},
		RootCAs:      now.peers,
		ServerName:   string(server),
	}
}

var errNoIdentity = errors.New("give this process's certificate by -tls DIR, or use a Unix socket or a loopback address")

// current returns the credential of now: the files are read again when one of them was replaced. Files that do not fit
// together leave the last good ones in force.
func (id *Identity) current() *credential {
	id.mu.Lock()
	defer id.mu.Unlock()
	files, err := id.stat()
	if err == nil && slices.EqualFunc(files, id.files, same) {
		return id.last
	}
	var next *credential
	if err == nil {
		next, err = id.read()
	}
	switch {
	case err == nil:
		id.files, id.last, id.failed = files, next, ""
		id.log.Info("certificate and authority reloaded", zap.String("directory", id.dir))
	case err.Error() != id.failed:
		id.failed = err.Error()
		id.log.Error("certificate not reloaded, the last good one stays in use", zap.Error(err))
	}
	return id.last
}

func same(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

func (id *Identity) stat() ([]os.FileInfo, error) {
	var files []os.FileInfo
	for _, name := range []string{"ca.crt", "tls.crt", "tls.key"} {
		info, err := os.Stat(filepath.Join(id.dir, name))
		if err != nil {
			return nil, err
		}
		files = append(files, info)
	}
	return files, nil
}

func (id *Identity) read() (*credential, error) {
	ca, err := os.ReadFile(filepath.Join(id.dir, "ca.crt"))
	if err != nil {
		return nil, err
	}
	c := &credential{peers: x509.NewCertPool()}
	if !c.peers.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%s holds no certificate", filepath.Join(id.dir, "ca.crt"))
	}
	if c.own, err = tls.LoadX509KeyPair(filepath.Join(id.dir, "tls.crt"), filepath.Join(id.dir, "tls.key")); err != nil {
		return nil, fmt.Errorf("reading tls.crt and tls.key in %s: %w", id.dir, err)
	}
	between := x509.NewCertPool()
	for _, der := range c.own.Certificate[1:] {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(id.dir, "tls.crt"), err)
		}
		between.AddCert(cert)
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if _, err := c.own.Leaf.Verify(x509.VerifyOptions{Roots: c.peers, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
			return nil, fmt.Errorf("peers would refuse %s (it needs to be signed by ca.crt, for servers and clients): %w", filepath.Join(id.dir, "tls.crt"), err)
		}
	}
	return c, nil
}

// clientCredentials are credentials.NewTLS with the certificate of now.
type clientCredentials struct {
	id     *Identity
	server Role
}

func (c *clientCredentials) tls() credentials.TransportCredentials {
	return credentials.NewTLS(c.id.client(c.server))
}

func (c *clientCredentials) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return c.tls().ClientHandshake(ctx, string(c.server), conn)
}

func (c *clientCredentials) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("only for clients")
}

// Info implements credentials.TransportCredentials.
func (c *clientCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone implements credentials.TransportCredentials.
func (c *clientCredentials) Clone() credentials.TransportCredentials { return c }

// OverrideServerName implements credentials.TransportCredentials: the name is the role, always.
func (c *clientCredentials) OverrideServerName(string) error { return nil }
