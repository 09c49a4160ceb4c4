package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vmcp/deploy/k8s"
	"vmcp/internal/browser"
	"vmcp/internal/child"
	"vmcp/internal/entrasim"
	"vmcp/internal/envoyproc"
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
	servers := map[string]*mcptest.HTTP{
		"github-backend":     mcptest.NewHTTP(t, mcptest.Options{Server: mcptest.GitHub}),
		"kubernetes-backend": mcptest.NewHTTP(t, mcptest.Options{Server: mcptest.Kubernetes}),
	}
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
	for _, role := range []mtls.Role{mtls.RoleEnvoy, mtls.RoleAuthz, mtls.RoleAggregator, mtls.RoleAuthServer} {
		name, _, _ := strings.Cut(string(role), ".")
		c.secrets["vmcp-tls-"+name] = certificate(t, inside, string(role))
	}
	c.more = map[string][]string{"authserver": {"-entra-address=" + entra.URL}}
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
	if calls := asked(servers["kubernetes-backend"]); len(calls) > 0 {
		t.Errorf("kubernetes-backend was asked %q", calls)
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

// cluster stands for Kubernetes: it lays out volumes, resolves names of Services, and starts every container once.
type cluster struct {
	root      string
	resources []map[string]any
	secrets   map[string]map[string]string
	documents func(string) string
	more      map[string][]string // further arguments, by container

	addresses map[string]string // by "app port"
}

type container struct {
	app, name string
	root      string
	object    any
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	resources, err := k8s.Resources()
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.MkdirTemp("", "vmcp-pods-") // short: sockets are in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	c := &cluster{root: root, resources: resources, addresses: map[string]string{}}
	for app, pod := range c.pods() {
		for _, ct := range containers(pod) {
			for _, p := range items(ct, "ports") {
				c.addresses[fmt.Sprintf("%s %v", app, k8s.At(p, "containerPort"))] = freeAddress(t)
			}
		}
	}
	return c
}

// pods are the pod templates by application.
func (c *cluster) pods() map[string]any {
	pods := map[string]any{}
	for _, r := range c.resources {
		if template := k8s.At(r, "spec", "template"); template != nil {
			pods[fmt.Sprint(k8s.At(template, "metadata", "labels", "app"))] = k8s.At(template, "spec")
		}
	}
	return pods
}

func containers(pod any) []any {
	return append(items(pod, "initContainers"), items(pod, "containers")...)
}

func items(v any, path ...string) []any {
	l, _ := k8s.At(v, path...).([]any)
	return slices.Clone(l)
}

// address is where this test lets a port of an application's pod be.
func (c *cluster) address(app string, port any) string {
	return c.addresses[fmt.Sprintf("%s %v", app, port)]
}

// service is the address behind a Service's name and port, empty where there is none.
func (c *cluster) service(name, port string) string {
	for _, r := range c.resources {
		if r["kind"] != "Service" || k8s.At(r, "metadata", "name") != name {
			continue
		}
		app := fmt.Sprint(k8s.At(r, "spec", "selector", "app"))
		for _, p := range items(r, "spec", "ports") {
			if fmt.Sprint(k8s.At(p, "port")) != port {
				continue
			}
			target := k8s.At(p, "targetPort")
			for _, ct := range containers(c.pods()[app]) {
				for _, cp := range items(ct, "ports") {
					if k8s.At(cp, "name") == target || k8s.At(cp, "containerPort") == target {
						return c.address(app, k8s.At(cp, "containerPort"))
					}
				}
			}
		}
	}
	return ""
}

var (
	argAddress   = regexp.MustCompile(`^(-[a-z-]+=)([a-z]*):([0-9]+)$`)
	envoyAddress = regexp.MustCompile(`address: ([^\s,{}]+)(,?\s+)port_value: (\d+)`)
)

// run starts everything and waits until the probes say that it is ready.
func (c *cluster) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	var all []container
	t.Cleanup(func() {
		cancel()
		running.Wait()
		if t.Failed() {
			for _, ct := range all {
				text, _ := os.ReadFile(ct.root + "/log")
				t.Logf("%s:\n%s", ct.name, text[max(0, len(text)-3000):])
			}
		}
	})
	for app, pod := range c.pods() {
		for _, object := range containers(pod) {
			name := fmt.Sprint(k8s.At(object, "name"))
			ct := container{app: app, name: name, root: filepath.Join(c.root, name), object: object}
			all = append(all, ct)
			c.mount(t, pod, ct)
			cfg := child.Config{Name: name, Path: filepath.Join(bin, name), Env: []string{}, Log: ct.root + "/log"}
			if name == "envoy" {
				var err error
				if cfg.Path, err = envoyproc.Find(t.Context(), filepath.Join(root, ".tools")); err != nil {
					t.Fatal(err)
				}
			} else if image, _, _ := strings.Cut(fmt.Sprint(k8s.At(object, "image")), ":"); image != "vmcp-"+name {
				t.Errorf("container %s has the image %s", name, image)
			}
			for _, a := range items(object, "args") {
				cfg.Args = append(cfg.Args, c.argument(t, ct, a.(string)))
			}
			cfg.Args = append(cfg.Args, c.more[name]...)
			running.Go(func() {
				if err := child.Run(ctx, cfg); err != nil {
					t.Error(err)
				}
			})
		}
	}
	for _, ct := range all {
		eventually(t, ct.name+" is ready", func() bool { return c.ready(ct) || t.Failed() })
	}
	if t.Failed() {
		t.FailNow()
	}
}

// argument is one argument with this test's paths and addresses.
func (c *cluster) argument(t *testing.T, ct container, arg string) string {
	t.Helper()
	if m := argAddress.FindStringSubmatch(arg); m != nil {
		address := c.address(ct.app, m[3])
		if m[2] != "" {
			address = c.service(m[2], m[3])
		}
		if address == "" {
			t.Fatalf("%s: %s leads nowhere", ct.name, arg)
		}
		return m[1] + address
	}
	for _, sep := range []string{"=unix:", "="} {
		if flag, value, ok := strings.Cut(arg, sep); ok && path.IsAbs(value) {
			return flag + sep + ct.root + value
		}
	}
	if path.IsAbs(arg) {
		return ct.root + arg
	}
	return arg
}

// ready asks a container's readiness probe.
func (c *cluster) ready(ct container) bool {
	probe := k8s.At(ct.object, "readinessProbe")
	port := func(how string) string {
		return c.address(ct.app, k8s.At(ct.object, "ports", fmt.Sprint(k8s.At(probe, how, "port")), "containerPort"))
	}
	if k8s.At(probe, "tcpSocket") != nil {
		conn, err := net.Dial("tcp", port("tcpSocket"))
		if err == nil {
			conn.Close()
		}
		return err == nil
	}
	status, err := get("http://" + port("httpGet") + fmt.Sprint(k8s.At(probe, "httpGet", "path")))
	return err == nil && status == 200
}

// mount lays out the volumes of a container under its root. Volumes of a pod are shared.
func (c *cluster) mount(t *testing.T, pod any, ct container) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(os.MkdirAll(ct.root, 0o700))
	for _, m := range items(ct.object, "volumeMounts") {
		name := fmt.Sprint(k8s.At(m, "name"))
		at, volume := ct.root+fmt.Sprint(k8s.At(m, "mountPath")), k8s.At(pod, "volumes", name)
		dir := filepath.Join(c.root, "volumes", ct.app, name)
		check(os.MkdirAll(dir, 0o700))
		check(os.MkdirAll(filepath.Dir(at), 0o700))
		check(os.Symlink(dir, at))
		var data map[string]string
		if secret := k8s.At(volume, "secret", "secretName"); secret != nil {
			if data = c.secrets[secret.(string)]; data == nil {
				t.Fatalf("%s needs Secret %s, which is not documented", ct.name, secret)
			}
		} else if config := k8s.At(volume, "configMap", "name"); config != nil {
			data = c.configMap(t, ct, config.(string))
		}
		// As the kubelet does: files are links into a directory that is replaced as a whole.
		if _, err := os.Lstat(dir + "/..data"); data == nil || err == nil {
			continue
		}
		check(os.Mkdir(dir+"/..now", 0o700))
		check(os.Symlink("..now", dir+"/..data"))
		for key, text := range data {
			check(os.WriteFile(filepath.Join(dir, "..now", key), []byte(text), 0o440))
			check(os.Symlink("..data/"+key, filepath.Join(dir, key)))
		}
	}
}

func (c *cluster) configMap(t *testing.T, ct container, name string) map[string]string {
	t.Helper()
	for _, r := range c.resources {
		if r["kind"] != "ConfigMap" || k8s.At(r, "metadata", "name") != name {
			continue
		}
		data := map[string]string{}
		for key, text := range r["data"].(map[string]any) {
			switch data[key] = text.(string); name {
			case "vmcp-documents":
				data[key] = c.documents(data[key])
			case "vmcp-envoy":
				data[key] = c.envoy(t, ct, key, data[key])
			}
		}
		return data
	}
	t.Fatalf("no ConfigMap %s", name)
	return nil
}

// envoy gives one of Envoy's files this test's paths and addresses.
func (c *cluster) envoy(t *testing.T, ct container, file, text string) string {
	t.Helper()
	replaced := map[string]bool{}
	text = envoyAddress.ReplaceAllStringFunc(text, func(s string) string {
		m := envoyAddress.FindStringSubmatch(s)
		address := c.address(ct.app, m[3])
		if m[1] != "0.0.0.0" {
			address = c.service(m[1], m[3])
		}
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatalf("%s: %s:%s leads nowhere", file, m[1], m[3])
		}
		replaced[m[1]] = true
		return "address: " + host + m[2] + "port_value: " + port
	})
	if want := []string{"0.0.0.0", "aggregator", "authserver"}; file == "envoy.yaml" {
		if diff := cmp.Diff(want, slices.Sorted(maps.Keys(replaced))); diff != "" {
			t.Errorf("addresses in %s (-want +got):\n%s", file, diff)
		}
	}
	return strings.NewReplacer("/etc/vmcp/", ct.root+"/etc/vmcp/", "/run/vmcp/", ct.root+"/run/vmcp/").Replace(text)
}
