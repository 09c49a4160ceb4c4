package k8s

import (
	"bytes"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	envoyconfig "vmcp/deploy/envoy"
	"vmcp/internal/envoyproc"
	"vmcp/internal/gatewayconfig"
)

var update = flag.Bool("update", false, "write base/envoy anew from deploy/envoy")

// TestEnvoyFiles: what is packed is what e2e runs, with the addresses of pods, and the proxies that the packed documents
// trust.
func TestEnvoyFiles(t *testing.T) {
	docs, err := documents("base/documents/engineering-tools.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var proxies gatewayconfig.TrustedProxies
	for _, doc := range docs {
		if text := text(doc, "metadata", "annotations", "vmcp/trusted-proxies"); text != "" {
			if proxies, err = gatewayconfig.ParseTrustedProxies(text); err != nil {
				t.Fatal(err)
			}
		}
	}
	config, err := envoyproc.Render(envoyconfig.Config, envoyproc.Addresses{
		TLS: "0.0.0.0:8443", Plain: "unix:/run/vmcp/parked.sock", Admin: "/run/vmcp/envoy-admin.sock", Authz: "unix:/run/vmcp/authz.sock",
		Aggregator: "mtls://aggregator:8443", AuthServer: "mtls://authserver:8443",
		TLSFile: "/etc/vmcp/envoy/tls.yaml", RoleFile: "/etc/vmcp/envoy/role.yaml", PeersFile: "/etc/vmcp/envoy/peers.yaml",
		AccessLog: "/dev/stdout", Endpoint: "/mcp", TrustedHops: proxies.Hops, TrustedCIDRs: proxies.Ranges,
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]byte{"envoy.yaml": config, "tls.yaml": envoyconfig.TLS, "role.yaml": envoyconfig.Role, "peers.yaml": envoyconfig.Peers} {
		path := filepath.Join("base/envoy", name)
		if *update {
			if err := os.WriteFile(path, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what deploy/envoy makes (%v): go test ./deploy/k8s -update", path, err)
		}
	}
}

type object = map[string]any

func text(v any, path ...string) string {
	s, _ := At(v, path...).(string)
	return s
}

func resources(t *testing.T) []object {
	t.Helper()
	all, err := Resources()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestNothingForgotten: base has no file that its kustomization does not name.
func TestNothingForgotten(t *testing.T) {
	kustomization, err := documents("base/kustomization.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var there, named []string
	for _, r := range List(kustomization[0], "resources") {
		named = append(named, "base/"+r.(string))
	}
	for _, g := range List(kustomization[0], "configMapGenerator") {
		for _, f := range List(g, "files") {
			named = append(named, "base/"+f.(string))
		}
	}
	err = fs.WalkDir(os.DirFS("."), "base", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && path != "base/kustomization.yaml" {
			there = append(there, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(named)
	if diff := cmp.Diff(named, there); diff != "" {
		t.Errorf("named in the kustomization (-) and there (+):\n%s", diff)
	}
}

func kind(all []object, kinds ...string) (some []object) {
	for _, o := range all {
		if slices.Contains(kinds, text(o, "kind")) {
			some = append(some, o)
		}
	}
	return some
}

// TestPods: what every pod must and must not have.
func TestPods(t *testing.T) {
	all := append(resources(t), examples(t)...)
	workloads := kind(all, "Deployment", "StatefulSet")
	if len(workloads) != 4 {
		t.Fatalf("%d workloads, want 4", len(workloads))
	}
	for _, w := range workloads {
		name, pod := text(w, "metadata", "name"), At(w, "spec", "template", "spec")
		want := func(v any, value any, path ...string) {
			t.Helper()
			if got := At(v, path...); fmt.Sprint(got) != fmt.Sprint(value) {
				t.Errorf("%s: %s is %v, want %v", name, strings.Join(path, "."), got, value)
			}
		}
		labels := At(w, "spec", "template", "metadata", "labels")
		if diff := cmp.Diff(At(w, "spec", "selector", "matchLabels"), labels); diff != "" {
			t.Errorf("%s selects other pods than its own:\n%s", name, diff)
		}
		want(pod, false, "automountServiceAccountToken")
		want(pod, true, "securityContext", "runAsNonRoot")
		want(pod, "RuntimeDefault", "securityContext", "seccompProfile", "type")
		for _, field := range []string{"hostNetwork", "hostPID", "hostIPC", "serviceAccountName"} {
			want(pod, nil, field)
		}
		volumes := List(pod, "volumes")
		for _, c := range List(w, "spec", "volumeClaimTemplates") {
			volumes = append(volumes, object{"name": text(c, "metadata", "name")})
		}
		for _, v := range volumes {
			if At(v, "hostPath") != nil {
				t.Errorf("%s: volume %s is a hostPath", name, text(v, "name"))
			}
			if m := text(v, "configMap", "name"); m != "" && !slices.ContainsFunc(kind(all, "ConfigMap"), func(o object) bool { return text(o, "metadata", "name") == m }) {
				t.Errorf("%s: there is no ConfigMap %s", name, m)
			}
		}
		mounted := map[string]bool{}
		for _, c := range append(List(pod, "initContainers"), List(pod, "containers")...) {
			want(c, false, "securityContext", "allowPrivilegeEscalation")
			want(c, true, "securityContext", "readOnlyRootFilesystem")
			want(c, []string{"ALL"}, "securityContext", "capabilities", "drop")
			want(c, nil, "securityContext", "capabilities", "add")
			want(c, nil, "securityContext", "privileged")
			for _, required := range [][]string{{"resources", "limits", "memory"}, {"resources", "requests", "cpu"}, {"readinessProbe"}, {"livenessProbe"}} {
				if At(c, required...) == nil && !(installs(c) && strings.HasSuffix(required[0], "Probe")) {
					t.Errorf("%s: container %s has no %s", name, text(c, "name"), strings.Join(required, "."))
				}
			}
			var paths []string
			for _, m := range List(c, "volumeMounts") {
				mounted[text(m, "name")] = true
				paths = append(paths, text(m, "mountPath"))
				if At(volumes, text(m, "name")) == nil {
					t.Errorf("%s: no volume %s", name, text(m, "name"))
				}
			}
			for _, p := range []string{"startupProbe", "readinessProbe", "livenessProbe"} {
				for _, how := range []string{"httpGet", "tcpSocket"} {
					if probe := At(c, p, how); probe != nil && At(List(c, "ports"), text(probe, "port")) == nil {
						t.Errorf("%s: %s asks port %q, which %s does not have", name, p, text(probe, "port"), text(c, "name"))
					}
				}
			}
			for _, a := range List(c, "args") {
				flag, value, _ := strings.Cut(a.(string), "=")
				path := strings.TrimPrefix(value, "unix:")
				if strings.HasPrefix(path, "/") && flag != "-secrets" && !slices.ContainsFunc(paths, func(m string) bool { return path == m || strings.HasPrefix(path, m+"/") }) {
					t.Errorf("%s: %s is on no volume of container %s", name, a, text(c, "name"))
				}
				if flag == "-admin" && !strings.HasPrefix(value, "unix:") {
					t.Errorf("%s: %s: metrics and profiles are for this pod alone", name, a)
				}
			}
		}
		for _, v := range volumes {
			if !mounted[text(v, "name")] {
				t.Errorf("%s: nobody mounts volume %s", name, text(v, "name"))
			}
		}
	}
	envoy := At(workloads[slices.IndexFunc(workloads, func(o object) bool { return text(o, "metadata", "name") == "gateway" })], "spec", "template", "spec", "containers", "envoy")
	if got, want := text(envoy, "image"), "envoyproxy/envoy:distroless-v"+envoyproc.Version; got != want {
		t.Errorf("Envoy's image is %s, want %s, the version that the tests run", got, want)
	}
}

// TestAddresses: every host:port that a flag or Envoy's file names is a port of a Service that leads to a pod's port.
func TestAddresses(t *testing.T) {
	all := resources(t)
	served := map[string]bool{}
	for _, s := range kind(all, "Service") {
		app := text(s, "spec", "selector", "app")
		for _, p := range List(s, "spec", "ports") {
			address := fmt.Sprintf("%s:%v", text(s, "metadata", "name"), At(p, "port"))
			target := At(p, "targetPort")
			number, ok := ports(all, app)[fmt.Sprint(target)]
			if !ok && slices.Contains(slices.Collect(maps.Values(ports(all, app))), target) {
				number, ok = target, true
			}
			if served[address] = ok; !ok {
				t.Errorf("Service %s: pods %s have no port %v", address, app, target)
			}
			// Without a cluster IP nothing translates: the name leads to the pods themselves.
			if At(s, "spec", "clusterIP") == "None" && number != At(p, "port") {
				t.Errorf("Service %s is headless, but the pods listen on %v", address, number)
			}
		}
	}
	var named []string
	for _, w := range kind(all, "Deployment", "StatefulSet") {
		pod := At(w, "spec", "template", "spec")
		for _, c := range append(List(pod, "initContainers"), List(pod, "containers")...) {
			for _, a := range List(c, "args") {
				switch flag, value, _ := strings.Cut(a.(string), "="); {
				case !strings.Contains(value, ":") || strings.HasPrefix(value, "unix:"):
				case strings.HasPrefix(value, ":"):
					if !slices.ContainsFunc(List(c, "ports"), func(p any) bool { return fmt.Sprintf(":%v", At(p, "containerPort")) == value }) {
						t.Errorf("%s: %s is not among the ports of %s", flag, value, text(c, "name"))
					}
				default:
					named = append(named, value)
				}
			}
		}
	}
	var envoy object
	if err := yaml.Unmarshal([]byte(text(all[slices.IndexFunc(all, func(o object) bool { return text(o, "metadata", "name") == "vmcp-envoy" })], "data", "envoy.yaml")), &envoy); err != nil {
		t.Fatal(err)
	}
	for _, cluster := range []string{"aggregator", "authserver"} {
		a := At(envoy, "static_resources", "clusters", cluster, "load_assignment", "endpoints", "0", "lb_endpoints", "0", "endpoint", "address", "socket_address")
		named = append(named, fmt.Sprintf("%v:%v", At(a, "address"), At(a, "port_value")))
	}
	if len(named) != 5 {
		t.Errorf("addresses %v, want 5", named)
	}
	for _, address := range named {
		if !served[address] {
			t.Errorf("%s is no port of a Service", address)
		}
	}
}

// ports are the container ports of an application's pods, by name.
func ports(all []object, app string) map[string]any {
	found := map[string]any{}
	for _, w := range kind(all, "Deployment", "StatefulSet") {
		pod := At(w, "spec", "template", "spec")
		for _, c := range append(List(pod, "initContainers"), List(pod, "containers")...) {
			for _, p := range List(c, "ports") {
				if text(w, "spec", "template", "metadata", "labels", "app") == app {
					found[text(p, "name")] = At(p, "containerPort")
				}
			}
		}
	}
	return found
}

// TestNetwork: exactly these connections are let through.
func TestNetwork(t *testing.T) {
	all := resources(t)
	policies := kind(all, "NetworkPolicy")
	if !slices.ContainsFunc(policies, func(p object) bool {
		return len(At(p, "spec", "podSelector").(object)) == 0 && len(List(p, "spec", "policyTypes")) == 2 && At(p, "spec", "ingress") == nil && At(p, "spec", "egress") == nil
	}) {
		t.Fatal("no policy denies everything")
	}
	// allowed says whether the policies of pods app let peer through to port of pods target.
	allowed := func(direction, side, app, peer, target, name string) bool {
		for _, p := range policies {
			if selected := At(p, "spec", "podSelector", "matchLabels", "app"); selected != app {
				continue
			}
			for _, rule := range List(p, "spec", direction) {
				from := List(rule, side)
				peers := len(from) == 0 || slices.ContainsFunc(from, func(f any) bool { return text(f, "podSelector", "matchLabels", "app") == peer })
				if peers && slices.ContainsFunc(List(rule, "ports"), func(p any) bool { return At(p, "port") == name || At(p, "port") == ports(all, target)[name] }) {
					return true
				}
			}
		}
		return false
	}
	var got []string
	apps := []string{"gateway", "aggregator", "authserver"}
	for _, to := range apps {
		for port := range ports(all, to) {
			for _, from := range append(apps, "outside") {
				if from != to && allowed("ingress", "from", to, from, to, port) && (from == "outside" || allowed("egress", "to", from, to, to, port)) {
					got = append(got, from+" "+to+" "+port)
				}
			}
		}
	}
	slices.Sort(got)
	want := []string{
		"aggregator authserver rpc", "aggregator gateway permissions",
		"gateway aggregator catalog", "gateway aggregator mcp", "gateway authserver oauth", "gateway authserver rpc",
		"outside gateway https",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("connections (-want +got):\n%s", diff)
	}
}

// TestDocuments: filled in, the documents load, and each Secret that they name is mounted where it is read, and nowhere
// else.
func TestDocuments(t *testing.T) {
	b, err := os.ReadFile("base/documents/engineering-tools.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "gateway.yaml")
	load := func(text string, parts gatewayconfig.Part, secrets ...string) error {
		t.Helper()
		src := gatewayconfig.Source{Paths: []string{path}, Parts: parts, Secrets: filepath.Join(t.TempDir(), "secrets")}
		for _, s := range secrets {
			if err := os.MkdirAll(filepath.Join(src.Secrets, filepath.Dir(s)), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(src.Secrets, s), []byte("s3cret"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := gatewayconfig.Load(src)
		return err
	}
	if err := load(string(b), gatewayconfig.PartAuthz); err == nil || !strings.Contains(err.Error(), "<your-vmcp-endpoint>") {
		t.Errorf("with placeholders: got %v, want an error that names them", err)
	}
	filled := fill(string(b))
	if err := load(filled, gatewayconfig.PartAuthz); err != nil {
		t.Error(err)
	}
	for parts, s := range map[gatewayconfig.Part]struct{ workload, secret string }{
		gatewayconfig.PartAggregator: {"aggregator", "github-pat/authorization"},
		gatewayconfig.PartAuthServer: {"authserver", "idp-client-secret/client-secret"},
	} {
		if err := load(filled, parts, s.secret); err != nil {
			t.Error(err)
		}
		if err := load(filled, parts); err == nil || !strings.Contains(err.Error(), filepath.Dir(s.secret)) {
			t.Errorf("without %s: got %v", s.secret, err)
		}
		var mounted []string
		for _, w := range kind(resources(t), "Deployment", "StatefulSet") {
			pod := At(w, "spec", "template", "spec")
			for _, c := range append(List(pod, "initContainers"), List(pod, "containers")...) {
				for _, m := range List(c, "volumeMounts") {
					if text(m, "mountPath") == "/etc/vmcp/secrets/"+filepath.Dir(s.secret) {
						mounted = append(mounted, text(w, "metadata", "name"))
						if got := text(At(pod, "volumes", text(m, "name")), "secret", "secretName"); got != filepath.Dir(s.secret) {
							t.Errorf("%s is Secret %s", text(m, "mountPath"), got)
						}
					}
				}
			}
		}
		if diff := cmp.Diff([]string{s.workload}, mounted); diff != "" {
			t.Errorf("who has %s (-want +got):\n%s", s.secret, diff)
		}
	}
}

// fill puts values in place of what the documents leave to the reader.
func fill(text string) string {
	return strings.NewReplacer(
		"<your-vmcp-endpoint>", "mcp.example.com",
		"<TENANT_ID>", "11111111-2222-3333-4444-555555555555",
		"<YOUR_CLIENT_ID>", "66666666-7777-8888-9999-000000000000",
	).Replace(text)
}
