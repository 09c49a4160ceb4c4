package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"vmcp/deploy/k8s"
	"vmcp/internal/await"
	"vmcp/internal/browser"
	"vmcp/internal/child"
	"vmcp/internal/entrasim"
	"vmcp/internal/keyring"
	"vmcp/internal/mcptest"
	"vmcp/internal/mcpwire"
	"vmcp/internal/mtls"
	"vmcp/internal/pki"
	"vmcp/internal/stack"
)

// TestPods: the programs run with exactly the arguments and files that deploy/k8s gives them, as the kubelet would lay
// them out, and serve a sign-in and a call over mutual TLS. Changed are the root of paths and the addresses; and
// authserver is told where the simulated Entra is.
func TestPods(t *testing.T) {
	servers := map[string]*mcptest.HTTP{"github-backend": mcptest.NewHTTP(t, mcptest.Options{Server: mcptest.GitHub})}
	bridge, record := freeAddress(t), filepath.Join(t.TempDir(), "record")
	c := newCluster(t)
	https := c.address("gateway", 8443)
	_, port, _ := net.SplitHostPort(https)
	site := "localhost:" + port
	const tenant, app = "11111111-2222-3333-4444-555555555555", "66666666-7777-8888-9999-000000000000"
	entra, err := entrasim.Start(entrasim.Config{Listen: "127.0.0.1:0", Tenant: tenant, ClientID: app, ClientSecret: "from the portal",
		RedirectURIs: []string{"https://" + site + "/oauth/callback"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(entra.Close)
	c.documents = func(docs string) string {
		docs = strings.NewReplacer("<your-vmcp-endpoint>", site, "<TENANT_ID>", tenant, "<YOUR_CLIENT_ID>", app).Replace(docs)
		for name, s := range servers {
			docs = behind(name, s.URL)(docs)
		}
		docs = bridged("kubernetes-backend", bridge)(docs)
		// A value that only the aggregator has.
		return strings.Replace(docs, "  remoteUrl: "+servers["github-backend"].URL, "  remoteUrl: "+servers["github-backend"].URL+`
  headerForward:
    addHeadersFromSecret:
      - {headerName: Authorization, valueSecretRef: {name: github-pat, key: authorization}}`, 1)
	}
	public, err := pki.New(time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	c.secrets = map[string]map[string]string{
		"gateway-tls":       certificate(t, public, "localhost"),
		"idp-client-secret": {"client-secret": "from the portal"},
		"github-pat":        {"authorization": "Bearer from-github"},
	}
	for _, ring := range []string{"seal", "session", "authserver"} {
		c.secrets["vmcp-keys-"+ring] = map[string]string{"first": keyring.New()}
	}
	inside, err := pki.New(time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	for _, role := range mtls.Roles {
		c.secrets["vmcp-tls-"+role.Name()] = certificate(t, inside, string(role))
	}
	c.more = map[string][]string{"authserver": {"-entra-address=" + entra.URL}}
	runBridge(t, bridge, certificate(t, inside, string(mtls.RoleBridge("kubernetes-backend"))), filepath.Join(bin, "kubernetes-mcp"), "--record", record)
	c.run(t)

	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(c.secrets["gateway-tls"]["ca.crt"]))
	before, transport := http.DefaultTransport, &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	http.DefaultTransport = transport // of the person and of their application
	t.Cleanup(func() {
		http.DefaultTransport = before
		transport.CloseIdleConnections()
	})
	endpoint := "https://" + site + "/mcp"
	application, err := browser.NewApplication(t.Context(), endpoint, "an application")
	if err != nil {
		t.Fatal(err)
	}
	ann := entrasim.DefaultDirectory().People[0]
	tokens, err := application.SignIn(t.Context(), browser.New(), ann.UPN)
	if err != nil {
		t.Fatal(err)
	}
	who := &caller{w: &world{Stack: &stack.Stack{URL: endpoint}}, token: tokens.Access, modern: true}
	ask := func(method, params, name string) answer {
		t.Helper()
		r := who.message(method, params, name)
		r.client = &http.Client{Transport: transport}
		return who.w.send(t, r)
	}
	call := func(tool, arguments string) answer {
		t.Helper()
		return ask("tools/call", `"name":`+quoted(tool)+`,"arguments":`+arguments, tool)
	}
	if a := call("github-backend_list_issues", `{}`); !a.ok() {
		t.Errorf("a call: %d %s", a.status, a.body)
	}
	if calls := asked(servers["github-backend"]); !slices.Equal(calls, []string{"tools/call list_issues"}) {
		t.Errorf("github-backend was asked %q", calls)
	}
	for _, r := range servers["github-backend"].Requests() {
		if got := r.Header.Get("Authorization"); got != "Bearer from-github" {
			t.Errorf("%s reached github-backend with Authorization %q, want the value of its Secret", r.Method, got)
		}
	}
	// authz denies by the catalog that the aggregator sent it, and the aggregator lists by what it asks authz.
	if a := call("kubernetes-backend_delete_namespace", `{"name":"prod"}`); !denied(a, mcpwire.ItemTool, "kubernetes-backend_delete_namespace") {
		t.Errorf("a call that a policy forbids: %d %s", a.status, a.body)
	}
	if calls, _ := os.ReadFile(record); len(calls) > 0 {
		t.Errorf("kubernetes-backend was asked %q", calls)
	}
	if a := call("kubernetes-backend_get_pods", `{"namespace":"shop"}`); !a.ok() || !strings.Contains(a.body, "web-7d9c-1") {
		t.Errorf("a call over the bridge: %d %s", a.status, a.body)
	}
	if a := ask("tools/list", "", ""); !strings.Contains(a.body, `"kubernetes-backend_delete_pod"`) || strings.Contains(a.body, "delete_namespace") {
		t.Errorf("the list: %d %.2000s", a.status, a.body)
	}

	// Nobody but Envoy reaches the aggregator, and nobody reaches a process of a pod without a certificate.
	aggregator := c.address("aggregator", 8443)
	if _, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}).Get("https://" + aggregator + "/mcp"); err == nil || !strings.Contains(err.Error(), "certificate required") {
		t.Errorf("the aggregator without a certificate: got %v", err)
	}
	for _, app := range []string{"gateway", "aggregator", "authserver"} {
		if status, err := get("http://" + c.address(app, 8081) + "/metrics"); err != nil || status != 404 {
			t.Errorf("%s: metrics on the port for probes: %d, %v", app, status, err)
		}
		for page, want := range map[string]int{"/metrics": 200, "/debug/pprof/": 404, "/status": 404} {
			if status, err := get("http://" + c.address(app, 8082) + page); err != nil || status != want {
				t.Errorf("%s: %s on the port for metrics: %d, %v", app, page, status, err)
			}
		}
	}
}

// runBridge starts command behind a bridge at address, as deploy/k8s/examples does, with this certificate.
func runBridge(t *testing.T, address string, cert map[string]string, command ...string) {
	t.Helper()
	docs, err := k8s.StdioServer()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "vmcp-bridge-") // short: a socket is in it
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range cert {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pod := k8s.At(docs[0], "spec", "template", "spec")
	if install := items(pod, "initContainers", "bridge", "args"); len(install) != 1 {
		t.Errorf("the init container has %v", install)
	} else if out, err := exec.Command(filepath.Join(bin, "bridge"), strings.Replace(install[0].(string), "/vmcp/", dir+"/", 1)).CombinedOutput(); err != nil {
		t.Errorf("installing the bridge: %v %s", err, out)
	}
	health := freeAddress(t)
	paths := strings.NewReplacer("-listen=:8443", "-listen="+address, "-health=:8081", "-health="+health, "/run/vmcp/", dir+"/", "/etc/vmcp/mtls", dir)
	cfg := child.Config{Name: "bridge", Path: filepath.Join(dir, "bridge"), Env: []string{"PATH=" + os.Getenv("PATH")}, Log: filepath.Join(dir, "log")}
	for _, a := range items(pod, "containers", "files", "args") {
		cfg.Args = append(cfg.Args, paths.Replace(a.(string)))
		if a == "--" {
			break
		}
	}
	cfg.Args = append(cfg.Args, command...)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := child.Run(ctx, cfg); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
		if text, _ := os.ReadFile(cfg.Log); t.Failed() {
			t.Logf("bridge:\n%s", text)
		}
		os.RemoveAll(dir)
	})
	await.That(t, "the bridge is ready", func() bool {
		status, err := get("http://" + health + "/readyz")
		return err == nil && status == 200
	})
}

// bridged makes an entry of the packed documents a stdio server that runs behind the bridge at address.
func bridged(name, address string) edit {
	return func(docs string) string {
		all := strings.Split(docs, "\n---\n")
		for i, d := range all {
			if strings.Contains(d, "\n  name: "+name+"\n") {
				all[i] = "apiVersion: toolhive.stacklok.dev/v1beta1\nkind: MCPServer\nmetadata:\n  name: " + name + "\n  annotations: {vmcp/address: \"" + address +
					"\"}\nspec: {image: example.com/server:1, transport: stdio, groupRef: {name: engineering-tools}}"
			}
		}
		return strings.Join(all, "\n---\n")
	}
}

func certificate(t *testing.T, a *pki.Authority, name string) map[string]string {
	t.Helper()
	c, err := a.Issue([]string{name})
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{"ca.crt": string(c.CA), "tls.crt": string(c.Cert), "tls.key": string(c.Key)}
}

func get(url string) (int, error) {
	resp, err := plain.Get(url)
	if err != nil {
		return 0, err
	}
	resp.Body.Close()
	return resp.StatusCode, nil
}
