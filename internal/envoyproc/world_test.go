package envoyproc

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/structpb"

	"vmcp/internal/freeport"
	"vmcp/internal/pki"
)

// gateway is the shipped configuration on a real Envoy, with an authz and an aggregator that remember what they saw.
type gateway struct {
	dir, url, log, accessLog string
	process                  Config
	addresses                Addresses
	authz                    *authz
	aggregator               *upstream
	stopAuthz                func()
	impatient                bool // Envoy gives authz the second that is shipped, not a minute
}

type authz struct {
	authv3.UnimplementedAuthorizationServer
	mu   sync.Mutex
	seen []*authv3.CheckRequest
}

// Check allows, unless the header mcp-test asks for something else.
func (a *authz) Check(ctx context.Context, req *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	a.mu.Lock()
	a.seen = append(a.seen, req)
	a.mu.Unlock()
	h := req.Attributes.Request.Http
	denied := func(code typev3.StatusCode, body string) (*authv3.CheckResponse, error) {
		return &authv3.CheckResponse{
			Status:          &status.Status{Code: int32(codes.PermissionDenied)},
			DynamicMetadata: metadata("deny"),
			HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{
				Status:  &typev3.HttpStatus{Code: code},
				Headers: []*corev3.HeaderValueOption{set("content-type", "application/x-authz"), set("www-authenticate", "Bearer")},
				Body:    body,
			}},
		}, nil
	}
	ok := &authv3.OkHttpResponse{
		Headers:         []*corev3.HeaderValueOption{set("x-vmcp-decision", "sealed"), set("x-vmcp-principal", "ann")},
		HeadersToRemove: []string{"authorization"},
	}
	switch want := header(req, "mcp-test"); {
	case strings.HasPrefix(h.Path, "/.well-known/"):
		return denied(200, "metadata")
	case want == "400":
		return denied(400, "from authz")
	case want == "503":
		return denied(503, "from authz")
	case want == "204":
		return denied(204, "")
	case want == "slow":
		<-ctx.Done()
		return nil, ctx.Err()
	case want == "path":
		ok.Headers = append(ok.Headers, set(":path", "/admin"))
	case want == "cookie":
		ok.Headers = append(ok.Headers, set("cookie", "a=b"))
	}
	return &authv3.CheckResponse{
		Status:          &status.Status{},
		DynamicMetadata: metadata("allow"),
		HttpResponse:    &authv3.CheckResponse_OkResponse{OkResponse: ok},
	}, nil
}

func set(key, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: key, Value: value}, // Envoy ignores RawValue in answers
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}

func metadata(decision string) *structpb.Struct {
	s, err := structpb.NewStruct(map[string]any{
		"decision": decision, "reason": "policy", "method": "tools/call", "name": "k8s_delete", "backend": "k8s", "caller": "ann",
	})
	if err != nil {
		panic(err)
	}
	return s
}

// header returns all values of a header that reached authz, joined by "|".
func header(req *authv3.CheckRequest, name string) string {
	var values []string
	for _, h := range req.Attributes.Request.Http.GetHeaderMap().GetHeaders() {
		if h.Key == name {
			values = append(values, string(h.RawValue))
		}
	}
	return strings.Join(values, "|")
}

func (a *authz) last() *authv3.CheckRequest {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.seen) == 0 {
		return nil
	}
	return a.seen[len(a.seen)-1]
}

func (a *authz) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.seen)
}

type upstream struct {
	mu   sync.Mutex
	seen []*http.Request
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	u.mu.Lock()
	u.seen = append(u.seen, r)
	u.mu.Unlock()
	fmt.Fprintf(w, "upstream got %d bytes", len(body))
}

func (u *upstream) take() []*http.Request {
	u.mu.Lock()
	defer u.mu.Unlock()
	seen := u.seen
	u.seen = nil
	return seen
}

// envoy returns the real binary, installed into the repository's .tools as `make` does.
func envoy(t testing.TB) string {
	t.Helper()
	path, err := Find(t.Context(), "../../.tools")
	if err != nil {
		t.Fatalf("these tests need the real Envoy: %v", err)
	}
	return path
}

func shipped(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../deploy/envoy", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// tempDir is short enough for socket paths, unlike t.TempDir.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "vmcp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func freePort(t testing.TB) string {
	t.Helper()
	address, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// certify writes a certificate for localhost of an authority that nobody knows.
func certify(t testing.TB, dir string) {
	t.Helper()
	a, err := pki.New(time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	c, err := a.Issue([]string{"localhost"})
	if err == nil {
		err = c.Write(dir)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// prepare writes the rendered configuration of a gateway whose plain listener is open.
func prepare(t testing.TB) *gateway {
	t.Helper()
	dir := tempDir(t)
	g := &gateway{dir: dir, authz: &authz{}, aggregator: &upstream{}, log: filepath.Join(dir, "envoy.log"), accessLog: filepath.Join(dir, "access.log")}
	g.addresses = Addresses{
		TLS:        "unix:" + dir + "/tls.sock",
		Plain:      freePort(t),
		Admin:      dir + "/admin.sock",
		Authz:      "unix:" + dir + "/authz.sock",
		Aggregator: "unix:" + dir + "/agg.sock",
		AuthServer: "unix:" + dir + "/as.sock",
		TLSFile:    dir + "/tls.yaml",
		RoleFile:   dir + "/role.yaml",
		PeersFile:  dir + "/peers.yaml",
		AccessLog:  g.accessLog,
		Endpoint:   "/mcp",
	}
	g.url = "http://" + g.addresses.Plain
	certify(t, dir)
	cert, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	tlsFile, err := RenderTLS(shipped(t, "tls.yaml"), cert, key)
	if err != nil {
		t.Fatal(err)
	}
	roleFile, err := RenderTLS(shipped(t, "role.yaml"), cert, key)
	if err != nil {
		t.Fatal(err)
	}
	peersFile, err := RenderPeers(shipped(t, "peers.yaml"), cert)
	if err != nil {
		t.Fatal(err)
	}
	g.process = Config{Path: envoy(t), File: dir + "/envoy.yaml", Log: g.log, Admin: g.addresses.Admin}
	for path, content := range map[string][]byte{g.addresses.TLSFile: tlsFile, g.addresses.RoleFile: roleFile, g.addresses.PeersFile: peersFile} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g.render(t)
	return g
}

// render writes Envoy's configuration with the addresses of now.
func (g *gateway) render(t testing.TB) {
	t.Helper()
	shipped := shipped(t, "envoy.yaml")
	if !g.impatient { // what these tests are about is not how fast a busy machine is
		const second, minute = "envoy_grpc: {cluster_name: authz}, timeout: 1s", "envoy_grpc: {cluster_name: authz}, timeout: 60s"
		if bytes.Count(shipped, []byte(second)) != 1 {
			t.Fatal("how long Envoy waits for authz stands elsewhere")
		}
		shipped = bytes.Replace(shipped, []byte(second), []byte(minute), 1)
	}
	config, err := Render(shipped, g.addresses)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(g.process.File, config, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (g *gateway) startAuthz(t testing.TB) {
	t.Helper()
	os.Remove(g.dir + "/authz.sock")
	l, err := net.Listen("unix", g.dir+"/authz.sock")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.MaxRecvMsgSize(6 << 20))
	authv3.RegisterAuthorizationServer(s, g.authz)
	go s.Serve(l)
	g.stopAuthz = s.Stop
	t.Cleanup(s.Stop)
}

func start(t testing.TB, change ...func(*Addresses)) *gateway {
	t.Helper()
	g := prepare(t)
	for _, c := range change {
		c(&g.addresses)
		g.render(t)
	}
	g.startAuthz(t)
	l, err := net.Listen("unix", g.dir+"/agg.sock")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: g.aggregator}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	g.run(t)
	return g
}

// run runs Envoy until the test ends, or until stop is called.
func (g *gateway) run(t testing.TB) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		err := Run(ctx, g.process)
		if err != nil {
			t.Error(err)
		}
		cancel(err)
	})
	stop = func() { cancel(nil); wg.Wait() }
	t.Cleanup(stop)
	ready, done := context.WithTimeout(ctx, 20*time.Second)
	defer done()
	if err := Ready(ready, g.process.Admin); err != nil {
		t.Fatal(err)
	}
	return stop
}

func (g *gateway) do(t testing.TB, method, path string, body io.Reader, headers ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, g.url+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header[headers[i]] = append(req.Header[headers[i]], headers[i+1]) // as spelled
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(got)
}
