package render

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"vmcp/api/v1beta1"
	"vmcp/deploy/k8s"
	"vmcp/internal/gatewayconfig"
)

const guide = "../../../../internal/gatewayconfig/testdata/seed/engineering-tools.yaml"

// specOf reads a spec as the API has it.
func specOf(t *testing.T, text string, to any) {
	t.Helper()
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, to); err != nil {
		t.Fatal(err)
	}
}

// find is an object of a kind and name; nil: there is none.
func find(all []*Object, kind, name string) any {
	for _, o := range all {
		if o.GetKind() == kind && o.GetName() == name {
			return o.Object
		}
	}
	return nil
}

// A look is where a field shows: kind, name and path of an object, and what is there.
type look struct {
	kind, name, path, want string
}

func (l look) check(t *testing.T, all []*Object) {
	t.Helper()
	got := k8s.At(find(all, l.kind, l.name), strings.Split(l.path, "/")...)
	text, _ := json.Marshal(got)
	if l.want == "" && got != nil || l.want != "" && !strings.Contains(string(text), l.want) {
		t.Errorf("%s %s: %s is %s, want %s in it", l.kind, l.name, l.path, text, l.want)
	}
}

// TestServerFields: each field of an MCPServer that pods can have shows in its objects.
func TestServerFields(t *testing.T) {
	const pod = "spec/template/spec/"
	const mcp = pod + "containers/mcp/"
	for name, c := range map[string]struct {
		spec  string
		looks []look
	}{
		"stdio": {`{image: a}`, []look{
			{"Deployment", "s", mcp + "args", `"--","/server","stdio"]`},
			{"Deployment", "s", mcp + "command", `["/vmcp/bridge"]`},
			{"Deployment", "s", mcp + "image", `"a@sha256:1"`},
			{"Deployment", "s", pod + "initContainers/bridge/image", `"r/vmcp-bridge:v1"`},
			{"Deployment", "s", pod + "automountServiceAccountToken", `false`},
			{"Deployment", "s", pod + "volumes/tls/secret/secretName", `"mcp-s-tls"`},
			{"Deployment", "s", mcp + "securityContext/readOnlyRootFilesystem", `true`},
			{"Service", "mcp-s", "spec/ports/mcp/port", `8443`},
			{"Service", "mcp-s", "spec/selector", `{"vmcp/server":"s"}`},
			{"NetworkPolicy", "mcp-s", "spec/ingress/0/from", `"app":"aggregator"`},
			{"NetworkPolicy", "mcp-s", "spec/egress", `169.254.0.0/16`},
		}},
		"args":      {`{image: a, args: [--read-only, x]}`, []look{{"Deployment", "s", mcp + "args", `"/server","stdio","--read-only","x"]`}}},
		"env":       {`{image: a, env: [{name: A, value: b}]}`, []look{{"Deployment", "s", mcp + "env/A/value", `"b"`}}},
		"secrets":   {`{image: a, secrets: [{name: pat, key: token, targetEnvName: TOKEN}, {name: pat, key: OTHER}]}`, []look{{"Deployment", "s", mcp + "env/TOKEN/valueFrom/secretKeyRef", `{"key":"token","name":"pat"}`}, {"Deployment", "s", mcp + "env/OTHER/valueFrom/secretKeyRef/key", `"OTHER"`}}},
		"resources": {`{image: a, resources: {limits: {cpu: "1", memory: 2Gi}, requests: {cpu: 5m}}}`, []look{{"Deployment", "s", mcp + "resources/limits", `{"cpu":"1","memory":"2Gi"}`}, {"Deployment", "s", mcp + "resources/requests", `"cpu":"5m"`}}},
		"volumes":   {`{image: a, volumes: [{name: data, hostPath: /srv, mountPath: /data, readOnly: true}]}`, []look{{"Deployment", "s", mcp + "volumeMounts/data", `"readOnly":true`}, {"Deployment", "s", pod + "volumes/data/hostPath/path", `"/srv"`}}},
		"account":   {`{image: a, serviceAccount: reader}`, []look{{"Deployment", "s", pod + "serviceAccountName", `"reader"`}, {"Deployment", "s", pod + "automountServiceAccountToken", `true`}}},
		"pulls":     {`{image: a, resourceOverrides: {proxyDeployment: {imagePullSecrets: [{name: pull}]}}}`, []look{{"Deployment", "s", pod + "imagePullSecrets", `"pull"`}}},
		"pod": {`{image: a, podTemplateSpec: {metadata: {labels: {team: x}}, spec: {nodeSelector: {disk: ssd}, containers: [{name: mcp, workingDir: /w, securityContext: {runAsUser: 7}}]}}}`, []look{
			{"Deployment", "s", pod + "nodeSelector", `{"disk":"ssd"}`}, {"Deployment", "s", "spec/template/metadata/labels/team", `"x"`},
			{"Deployment", "s", mcp + "workingDir", `"/w"`}, {"Deployment", "s", mcp + "securityContext", `"runAsUser":7`},
			{"Deployment", "s", mcp + "securityContext", `"readOnlyRootFilesystem":true`}, {"Deployment", "s", mcp + "args", `"/server"`},
		}},
		"http": {`{image: a, transport: streamable-http, mcpPort: 9000, args: [x], backendReplicas: 3}`, []look{
			{"Deployment", "s", mcp + "command", ""}, {"Deployment", "s", mcp + "args", `["x"]`}, {"Deployment", "s", pod + "initContainers", ""},
			{"Deployment", "s", mcp + "ports/mcp/containerPort", `9000`}, {"Deployment", "s", mcp + "readinessProbe", `"tcpSocket"`}, {"Deployment", "s", mcp + "startupProbe", `"tcpSocket":{"port":"mcp"}`},
			{"Deployment", "s", mcp + "env/MCP_PORT/value", `"9000"`}, {"Deployment", "s", mcp + "env/MCP_TRANSPORT/value", `"streamable-http"`},
			{"Deployment", "s", "spec/replicas", `3`}, {"Service", "mcp-s", "spec/ports/mcp/port", `9000`}, {"Deployment", "s", pod + "volumes/tls", ""},
		}},
		"sse": {`{image: a, transport: sse, env: [{name: MCP_PORT, value: "1"}]}`, []look{
			{"Deployment", "s", mcp + "env/MCP_TRANSPORT/value", `"sse"`}, {"Deployment", "s", mcp + "env/MCP_PORT/value", `"1"`}, {"Service", "mcp-s", "spec/ports/mcp/port", `8080`}}},
	} {
		t.Run(name, func(t *testing.T) {
			var spec v1beta1.MCPServerSpec
			specOf(t, c.spec, &spec)
			all, err := (&Server{Name: "s", Namespace: "n", Spec: &spec, Images: Images{Prefix: "r/vmcp-", Tag: "v1"}, Image: "a@sha256:1", Command: []string{"/server", "stdio"}}).Objects()
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range c.looks {
				l.check(t, all)
			}
		})
	}
	var spec v1beta1.MCPServerSpec
	specOf(t, `{image: a, podTemplateSpec: {spec: {containers: {}}}}`, &spec)
	if _, err := (&Server{Name: "s", Spec: &spec}).Objects(); err == nil || !strings.Contains(err.Error(), "podTemplateSpec") {
		t.Errorf("a podTemplateSpec that is none: %v", err)
	}
}

// TestOutbound: a profile without network leaves DNS, one with ports these.
func TestOutbound(t *testing.T) {
	for want, out := range map[string]Outbound{`^1 rule`: {Nothing: true}, `"port":5432`: {Ports: []int64{5432}}, `169.254.0.0/16`: {}} {
		all, err := (&Server{Name: "s", Namespace: "n", Spec: &v1beta1.MCPServerSpec{Image: "a"}, Command: []string{"x"}, Outbound: out}).Objects()
		if err != nil {
			t.Fatal(err)
		}
		egress := k8s.List(find(all, "NetworkPolicy", "mcp-s"), "spec", "egress")
		text, _ := json.Marshal(egress)
		if n := len(egress); want == `^1 rule` && n != 1 || want != `^1 rule` && !strings.Contains(string(text), want) {
			t.Errorf("%v: %s", out, text)
		}
	}
}

func gateway(t *testing.T, spec string) *Gateway {
	t.Helper()
	config, err := gatewayconfig.Load(gatewayconfig.Source{Paths: []string{guide}})
	if err != nil {
		t.Fatal(err)
	}
	g := &Gateway{Namespace: "n", Images: Images{Prefix: "r/vmcp-", Tag: "v1", Envoy: "r/envoy:1"}, Config: config, Spec: &v1beta1.VirtualMCPServerSpec{},
		Replicas: map[string]int64{"engineering-tools": 2, "engineering-tools-aggregator": 4}, Servers: true}
	specOf(t, spec, g.Spec)
	return g
}

// TestGatewayFields: each field and annotation of a VirtualMCPServer that pods can have shows in its objects.
func TestGatewayFields(t *testing.T) {
	const pod, n = "spec/template/spec/", "engineering-tools"
	for name, c := range map[string]struct {
		spec   string
		change func(*Gateway)
		looks  []look
	}{
		"plain": {`{}`, nil, []look{
			{"Service", "vmcp-" + n, "spec/ports", `[{"name":"http","port":4483,"protocol":"TCP","targetPort":"http"}]`},
			{"Deployment", n, pod + "containers/envoy/image", `"r/envoy:1"`}, {"Deployment", n, pod + "initContainers/authz/image", `"r/vmcp-authz:v1"`},
			{"Deployment", n, pod + "initContainers/authz/args", `"-aggregator=engineering-tools-aggregator:9443"`},
			{"Deployment", n + "-aggregator", pod + "containers/aggregator/args", `"-authz=engineering-tools-authz:9443"`},
			{"Deployment", n + "-aggregator", pod + "containers/aggregator/args", `"-config=/etc/vmcp/secrets"`},
			{"Deployment", n + "-aggregator", pod + "volumes/secrets/secret/secretName", `"engineering-tools-secrets-aggregator"`},
			{"Deployment", n + "-aggregator", "spec/replicas", `4`}, {"Deployment", n, "spec/replicas", `2`},
			{"Deployment", n, pod + "volumes/tls", ""}, {"Deployment", n, "spec/selector/matchLabels", `"vmcp/gateway":"engineering-tools"`},
			{"ConfigMap", n + "-envoy", "data/envoy.yaml", `engineering-tools-aggregator`},
			{"StatefulSet", n + "-authserver", "spec/persistentVolumeClaimRetentionPolicy/whenDeleted", `"Delete"`},
			{"StatefulSet", n + "-authserver", "spec/volumeClaimTemplates/0/spec/resources/requests/storage", `"1Gi"`},
			{"NetworkPolicy", n + "-aggregator", "spec/egress", `"key":"vmcp/server"`},
			{"NetworkPolicy", n + "-nothing", "spec/podSelector", `{"matchLabels":{"vmcp/gateway":"engineering-tools"}}`},
			{"PodDisruptionBudget", n, "spec/selector/matchLabels", `"vmcp/gateway":"engineering-tools"`},
		}},
		"service": {`{serviceType: LoadBalancer, sessionAffinity: ClientIP, serviceAccount: edge, imagePullSecrets: [{name: pull}]}`, nil, []look{
			{"Service", "vmcp-" + n, "spec/type", `"LoadBalancer"`}, {"Service", "vmcp-" + n, "spec/sessionAffinity", `"ClientIP"`},
			{"Deployment", n, pod + "serviceAccountName", `"edge"`}, {"StatefulSet", n + "-authserver", pod + "imagePullSecrets", `"pull"`},
		}},
		"pods": {`{podTemplateSpec: {spec: {tolerations: [{operator: Exists}], containers: [{name: vmcp, env: [{name: A, value: b}]}, {name: logs, image: l}, {name: authserver, env: [{name: C, value: d}]}]}}}`, nil, []look{
			{"Deployment", n, pod + "containers/envoy/env/A/value", `"b"`}, {"Deployment", n, pod + "containers/logs/image", `"l"`},
			{"Deployment", n + "-aggregator", pod + "containers/aggregator/env/A/value", `"b"`}, {"Deployment", n + "-aggregator", pod + "containers/logs", ""},
			{"StatefulSet", n + "-authserver", pod + "containers/authserver/env/C/value", `"d"`}, {"StatefulSet", n + "-authserver", pod + "tolerations", `"Exists"`},
		}},
		"tls": {`{}`, func(g *Gateway) { g.TLSSecret = "public" }, []look{
			{"Service", "vmcp-" + n, "spec/ports/https/port", `443`}, {"Deployment", n, pod + "volumes/tls/secret/secretName", `"public"`},
			{"ConfigMap", n + "-envoy", "data/tls.yaml", `/etc/vmcp/tls/tls.crt`},
		}},
		"storage": {`{}`, func(g *Gateway) { g.Storage, g.Class = "5Gi", "fast" }, []look{
			{"StatefulSet", n + "-authserver", "spec/volumeClaimTemplates/0/spec", `"storageClassName":"fast"`}, {"StatefulSet", n + "-authserver", "spec/volumeClaimTemplates/0/spec/resources/requests/storage", `"5Gi"`},
		}},
		"ephemeral": {`{}`, func(g *Gateway) { g.Storage = "ephemeral" }, []look{
			{"StatefulSet", n + "-authserver", "spec/volumeClaimTemplates", ""}, {"StatefulSet", n + "-authserver", pod + "volumes/state/emptyDir", `{}`},
		}},
		"issuer elsewhere": {`{}`, func(g *Gateway) {
			g.Config.AuthServer, g.Config.Authz.Issuer.URL = nil, "https://issuer.example.com:9443"
		}, []look{
			{"StatefulSet", n + "-authserver", "spec", ""}, {"Service", n + "-authserver", "spec", ""}, {"NetworkPolicy", n, "spec/egress", `9443`},
			{"NetworkPolicy", n + "-authserver", "spec", ""},
		}},
		"servers elsewhere": {`{}`, func(g *Gateway) {
			g.Config.Aggregator.Backends = []gatewayconfig.Backend{{Kind: "MCPServerEntry", URL: "http://a.example.com:7777/mcp"}}
		}, []look{{"NetworkPolicy", n + "-aggregator", "spec/egress", `7777`}}},
		"anonymous": {`{}`, func(g *Gateway) { g.Config.Authz.Anonymous = true }, []look{{"Deployment", n, pod + "initContainers/authz/args", `-allow-anonymous`}}},
	} {
		t.Run(name, func(t *testing.T) {
			g := gateway(t, c.spec)
			if c.change != nil {
				c.change(g)
			}
			all, err := g.Objects()
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range c.looks {
				l.check(t, all)
			}
			for _, o := range all {
				if o.GetNamespace() != "n" || o.GetLabels()[ManagedBy] != Manager || o.GetLabels()[GatewayLabel] != n {
					t.Errorf("%s %s is in %q with labels %v", o.GetKind(), o.GetName(), o.GetNamespace(), o.GetLabels())
				}
				if text := fmt.Sprint(o.Object); strings.Contains(text, ":dev") || strings.Contains(text, "github-pat") && o.GetKind() != "ConfigMap" {
					t.Errorf("%s %s has what is an example of base: %s", o.GetKind(), o.GetName(), text)
				}
			}
		})
	}
}

// TestRestarts: what programs read once at start makes new pods, and only those; what they read again makes none.
func TestRestarts(t *testing.T) {
	hashes := func(g *Gateway) map[string]string {
		t.Helper()
		all, err := g.Objects()
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]string{}
		for _, o := range all {
			if h, ok := k8s.At(o.Object, "spec", "template", "metadata", "annotations", "vmcp/restart").(string); ok {
				found[o.GetName()] = h
			}
		}
		return found
	}
	const n = "engineering-tools"
	before := hashes(gateway(t, `{}`))
	for name, c := range map[string]struct {
		change func(*gatewayconfig.Gateway)
		pods   []string
	}{
		"policy":   {func(g *gatewayconfig.Gateway) { g.Authz.Policies.Texts = nil }, nil},
		"server":   {func(g *gatewayconfig.Gateway) { g.Aggregator.Backends = g.Aggregator.Backends[:1] }, nil},
		"endpoint": {func(g *gatewayconfig.Gateway) { g.Endpoint.Audience = "x" }, []string{n, n + "-aggregator", n + "-authserver"}},
		"issuer":   {func(g *gatewayconfig.Gateway) { g.Authz.Issuer.JWKSURL = "x" }, []string{n}},
		"proxies":  {func(g *gatewayconfig.Gateway) { g.TrustedProxies.Hops = 1 }, []string{n}},
		"sign-in":  {func(g *gatewayconfig.Gateway) { g.AuthServer.ClientScopes = []string{"x"} }, []string{n + "-authserver"}},
		"its keys": {func(g *gatewayconfig.Gateway) { g.AuthServer.HMACKeys = nil }, nil},
	} {
		g := gateway(t, `{}`)
		c.change(g.Config)
		var changed []string
		for pod, h := range hashes(g) {
			if before[pod] != h {
				changed = append(changed, pod)
			}
		}
		slices.Sort(changed)
		if !slices.Equal(changed, c.pods) {
			t.Errorf("%s: new pods of %v, want %v", name, changed, c.pods)
		}
	}
	if _, err := os.Stat(guide); err != nil || len(before) != 3 {
		t.Errorf("%d kinds of pods, %v", len(before), err)
	}
}
