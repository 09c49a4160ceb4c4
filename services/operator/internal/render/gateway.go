// Package render says which objects of Kubernetes a gateway and a server in a pod are made of. It changes the manifests of
// deploy/k8s, which people without an operator use, and knows no cluster: what is given decides.
package render

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"vmcp/api/v1beta1"
	envoyconfig "vmcp/deploy/envoy"
	"vmcp/deploy/k8s"
	"vmcp/internal/envoyproc"
	"vmcp/internal/gatewayconfig"
)

// Labels of what the operator makes.
const (
	ManagedBy    = "app.kubernetes.io/managed-by" // Manager
	Manager      = "vmcp-operator"
	GatewayLabel = "vmcp/gateway" // the VirtualMCPServer's name
	ServerLabel  = "vmcp/server"  // the MCPServer's name
)

// Object is one object of Kubernetes.
type Object = unstructured.Unstructured

// Images are what pods run.
type Images struct {
	Prefix, Tag string // of the services: <Prefix>authz:<Tag>
	Envoy       string
}

// Of is the image of one of our programs.
func (i Images) Of(program string) string { return i.Prefix + program + ":" + i.Tag }

// Gateway is all that a gateway's objects follow from.
type Gateway struct {
	Namespace string
	Images    Images
	Config    *gatewayconfig.Gateway
	Spec      *v1beta1.VirtualMCPServerSpec
	TLSSecret string // annotation vmcp/tls-secret
	Storage   string // annotation vmcp/authserver-storage: a size, or ephemeral
	Class     string // annotation vmcp/authserver-storage-class
	Replicas  map[string]int64
	Servers   bool // some servers of the group run in pods of the operator
}

// Names that others need to know.
func (g *Gateway) name() string           { return g.Config.Name }
func Documents(gateway string) string     { return gateway + "-documents" }
func Secrets(gateway, part string) string { return gateway + "-secrets-" + part }
func Keys(gateway, kind string) string    { return gateway + "-keys-" + kind }
func TLS(gateway, role string) string     { return gateway + "-tls-" + role }
func Service(gateway string) string       { return "vmcp-" + gateway }
func Deployments(gateway string) []string { return []string{gateway, gateway + "-aggregator"} }
func AuthServerSet(gateway string) string { return gateway + "-authserver" }
func URL(gateway, namespace string) string {
	return fmt.Sprintf("http://%s.%s.svc.cluster.local:4483", Service(gateway), namespace)
}

// components are the names of base and what they are in a gateway's.
func (g *Gateway) rename(name string) string {
	n := g.name()
	switch name {
	case "gateway":
		return n
	case "aggregator", "authserver", "authz", "dns", "nothing":
		return n + "-" + name
	case "vmcp-documents", "vmcp-envoy":
		return n + strings.TrimPrefix(name, "vmcp")
	}
	if rest, ok := strings.CutPrefix(name, "vmcp-"); ok { // vmcp-tls-…, vmcp-keys-…
		return n + "-" + rest
	}
	return name
}

// The manifests that are changed; object copies what it takes from them.
var (
	gatewayBase = sync.OnceValues(k8s.Resources)
	serverBase  = sync.OnceValues(k8s.StdioServer)
)

// Objects are all but Secrets and the documents, which change without a new pod.
func (g *Gateway) Objects() ([]*Object, error) {
	base, err := gatewayBase()
	if err != nil {
		return nil, err
	}
	envoy, err := g.envoy()
	if err != nil {
		return nil, err
	}
	var all []*Object
	for _, raw := range base {
		o, err := object(raw)
		if err != nil {
			return nil, err
		}
		was := o.GetName()
		if o.GetKind() == "Namespace" || was == "vmcp-documents" || was == "authserver" && g.Config.AuthServer == nil {
			continue
		}
		o.SetName(g.rename(was))
		o.SetNamespace(g.Namespace)
		mark(o.Object, g.name())
		setLabels(o, map[string]string{ManagedBy: Manager, GatewayLabel: g.name()})
		switch o.GetKind() {
		case "ConfigMap":
			o.Object["data"] = envoy
		case "Service":
			if was == "gateway" {
				g.service(o)
			}
		case "NetworkPolicy":
			g.network(was, o)
		case "Deployment", "StatefulSet":
			if err := g.workload(was, o, hash(envoy)); err != nil {
				return nil, err
			}
		}
		all = append(all, o)
	}
	slices.SortStableFunc(all, func(a, b *Object) int { return cmp.Compare(order(a), order(b)) })
	return all, nil
}

// order puts what pods read before the pods.
func order(o *Object) int {
	switch o.GetKind() {
	case "ConfigMap", "NetworkPolicy":
		return 0
	case "Deployment", "StatefulSet":
		return 2
	}
	return 1
}

// object is one of base with the types that an API server's JSON has.
func object(raw map[string]any) (*Object, error) {
	if raw["apiVersion"] == nil { // made by kustomize
		raw = maps.Clone(raw)
		raw["apiVersion"] = "v1"
	}
	text, err := json.Marshal(raw)
	if err != nil {
		return nil, err
	}
	o := &Object{}
	return o, o.UnmarshalJSON(text)
}

// mark adds the gateway's label wherever pods are labelled or chosen by app, and to policies of all pods.
func mark(v any, gateway string) {
	switch x := v.(type) {
	case map[string]any:
		if app, ok := x["app"].(string); ok && app != "" {
			x[GatewayLabel] = gateway
		}
		if s, ok := x["podSelector"].(map[string]any); ok && len(s) == 0 {
			x["podSelector"] = map[string]any{"matchLabels": map[string]any{GatewayLabel: gateway}}
		}
		for _, e := range x {
			mark(e, gateway)
		}
	case []any:
		for _, e := range x {
			mark(e, gateway)
		}
	}
}

func setLabels(o *Object, more map[string]string) {
	labels := o.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, more)
	o.SetLabels(labels)
}

// envoy are Envoy's files.
func (g *Gateway) envoy() (map[string]any, error) {
	a := envoyproc.Addresses{
		TLS: "unix:/run/vmcp/parked.sock", Plain: "0.0.0.0:8080", Admin: "/run/vmcp/envoy-admin.sock", Authz: "unix:/run/vmcp/authz.sock",
		Aggregator: "mtls://" + g.rename("aggregator") + ":8443", AuthServer: "mtls://" + g.rename("authserver") + ":8443",
		TLSFile: "/etc/vmcp/envoy/tls.yaml", RoleFile: "/etc/vmcp/envoy/role.yaml", PeersFile: "/etc/vmcp/envoy/peers.yaml",
		AccessLog: "/dev/stdout", Endpoint: g.Config.Endpoint.Path,
		TrustedHops: g.Config.TrustedProxies.Hops, TrustedCIDRs: g.Config.TrustedProxies.Ranges,
	}
	files := map[string]any{"role.yaml": string(envoyconfig.Role), "peers.yaml": string(envoyconfig.Peers)}
	certificate := "/etc/vmcp/mtls/" // of a listener that nobody reaches
	if g.TLSSecret != "" {
		a.TLS, certificate = "0.0.0.0:8443", "/etc/vmcp/tls/"
	}
	config, err := envoyproc.Render(envoyconfig.Config, a)
	if err != nil {
		return nil, err
	}
	tls, err := envoyproc.RenderTLS(envoyconfig.TLS, certificate+"tls.crt", certificate+"tls.key")
	files["envoy.yaml"], files["tls.yaml"] = string(config), string(tls)
	return files, err
}

// service is what clients connect to: port 4483, plain, for an Ingress or Gateway that ends TLS, and 443 where there is a
// certificate.
func (g *Gateway) service(o *Object) {
	o.SetName(Service(g.name()))
	ports := []any{map[string]any{"name": "http", "port": int64(4483), "targetPort": "http", "protocol": "TCP"}}
	if g.TLSSecret != "" {
		ports = append(ports, map[string]any{"name": "https", "port": int64(443), "targetPort": "https", "protocol": "TCP"})
	}
	set(o.Object, ports, "spec", "ports")
	if g.Spec.ServiceType != "" {
		set(o.Object, g.Spec.ServiceType, "spec", "type")
	}
	if g.Spec.SessionAffinity != "" {
		set(o.Object, g.Spec.SessionAffinity, "spec", "sessionAffinity")
	}
}

// network adds to base's policies what the documents say of where servers and issuers are.
func (g *Gateway) network(was string, o *Object) {
	egress := func(rule map[string]any) {
		set(o.Object, append(k8s.List(o.Object, "spec", "egress"), rule), "spec", "egress")
	}
	switch was {
	case "gateway":
		http := map[string]any{"ports": []any{map[string]any{"port": "http", "protocol": "TCP"}}}
		set(o.Object, append(k8s.List(o.Object, "spec", "ingress"), http), "spec", "ingress")
		if g.Config.AuthServer == nil && !g.Config.Authz.Anonymous {
			egress(anywhere(portsOf(g.Config.Authz.Issuer.URL, g.Config.Authz.Issuer.JWKSURL)))
		}
	case "aggregator":
		if g.Servers {
			egress(map[string]any{"to": []any{map[string]any{"podSelector": map[string]any{
				"matchExpressions": []any{map[string]any{"key": ServerLabel, "operator": "Exists"}}}}}})
		}
		var urls []string
		for _, b := range g.Config.Aggregator.Backends {
			if !b.Bridge && b.Kind != "MCPServer" {
				urls = append(urls, b.URL)
			}
		}
		if ports := portsOf(urls...); len(ports) > 0 {
			egress(anywhere(ports))
		}
	case "authserver":
		var urls []string
		for _, u := range g.Config.AuthServer.Upstreams {
			urls = append(urls, u.IssuerURL)
		}
		if ports := portsOf(urls...); len(ports) > 0 {
			egress(anywhere(ports))
		}
	}
}

// portsOf are those of the URLs, in order, but for 443, which base has.
func portsOf(urls ...string) []int64 {
	ports := map[int64]bool{}
	for _, text := range urls {
		u, err := url.Parse(text)
		if err != nil || text == "" {
			continue
		}
		port, err := strconv.ParseInt(u.Port(), 10, 32)
		if err != nil {
			port = map[string]int64{"http": 80, "https": 443}[u.Scheme]
		}
		if port != 443 && port != 0 {
			ports[port] = true
		}
	}
	return slices.Sorted(maps.Keys(ports))
}

// anywhere is base's rule for what is outside: every address but those of clouds' metadata.
func anywhere(ports []int64) map[string]any {
	rule := map[string]any{"to": []any{
		map[string]any{"ipBlock": map[string]any{"cidr": "0.0.0.0/0", "except": []any{"169.254.0.0/16"}}},
		map[string]any{"ipBlock": map[string]any{"cidr": "::/0", "except": []any{"fe80::/10", "fd00:ec2::254/128"}}},
	}}
	list := []any{}
	for _, p := range append([]int64{443}, ports...) {
		list = append(list, map[string]any{"port": p, "protocol": "TCP"})
	}
	rule["ports"] = list
	return rule
}

// restarts are hashed into a pod's template: what a program reads when it starts and not again.
func (g *Gateway) restarts(was, envoy string) string {
	parts := []any{g.Config.Endpoint}
	switch was {
	case "gateway":
		parts = append(parts, envoy, g.Config.Authz.Issuer, g.Config.TrustedProxies)
	case "authserver":
		a := *g.Config.AuthServer
		a.SigningKeys, a.HMACKeys = nil, nil
		parts = append(parts, a)
	}
	return hash(parts)
}

func hash(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain data
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// workload fits a Deployment or StatefulSet of base to the gateway.
func (g *Gateway) workload(was string, o *Object, envoy string) error {
	set(o.Object, g.restarts(was, envoy), "spec", "template", "metadata", "annotations", "vmcp/restart")
	set(o.Object, Manager, "spec", "template", "metadata", "labels", ManagedBy)
	spec := k8s.At(o.Object, "spec", "template", "spec").(map[string]any)
	for _, list := range []string{"initContainers", "containers"} {
		for _, c := range k8s.List(spec, list) {
			c := c.(map[string]any)
			image := fmt.Sprint(c["image"])
			if program, ours := strings.CutPrefix(strings.TrimSuffix(image, ":dev"), "vmcp-"); ours {
				c["image"] = g.Images.Of(program)
			} else {
				c["image"] = g.Images.Envoy
			}
			g.arguments(c)
		}
	}
	volumes := []any{}
	for _, v := range k8s.List(spec, "volumes") {
		v := v.(map[string]any)
		switch v["name"] {
		case "github-pat", "idp-client-secret": // base's examples
			volumes = append(volumes, map[string]any{"name": "secrets", "secret": map[string]any{"secretName": Secrets(g.name(), was), "defaultMode": int64(0o440)}})
			continue
		case "tls":
			if was == "gateway" {
				if g.TLSSecret == "" {
					continue
				}
				set(v, g.TLSSecret, "secret", "secretName")
			}
		}
		for _, of := range [][2]string{{"configMap", "name"}, {"secret", "secretName"}} {
			if name, ok := k8s.At(v, of[0], of[1]).(string); ok && name != g.TLSSecret {
				set(v, g.rename(name), of[0], of[1])
			}
		}
		volumes = append(volumes, v)
	}
	spec["volumes"] = volumes
	switch was {
	case "gateway":
		g.edge(k8s.At(spec, "containers", "envoy").(map[string]any))
		set(o.Object, g.Replicas[o.GetName()], "spec", "replicas")
	case "aggregator":
		set(o.Object, g.Replicas[o.GetName()], "spec", "replicas")
	case "authserver":
		set(o.Object, o.GetName(), "spec", "serviceName")
		g.storage(o, spec)
	}
	if g.Spec.ServiceAccount != "" {
		spec["serviceAccountName"] = g.Spec.ServiceAccount
	}
	var pulls []any
	for _, p := range g.Spec.ImagePullSecrets {
		pulls = append(pulls, map[string]any{"name": p.Name})
	}
	if pulls != nil {
		spec["imagePullSecrets"] = pulls
	}
	if was == "gateway" {
		was = "envoy"
	}
	return patch(o, g.Spec.PodTemplateSpec, "vmcp", was)
}

// arguments fits flags and mounts of one of our programs.
func (g *Gateway) arguments(c map[string]any) {
	args := []any{}
	for _, a := range k8s.List(c, "args") {
		flag, value, _ := strings.Cut(fmt.Sprint(a), "=")
		switch flag {
		case "-secrets": // as documents: any number of them, without a mount for each
			a = "-config=" + value
		case "-authz", "-aggregator", "-authserver":
			if flag == "-authserver" && g.Config.AuthServer == nil {
				continue
			}
			host, port, _ := strings.Cut(value, ":")
			a = flag + "=" + g.rename(host) + ":" + port
		}
		args = append(args, a)
	}
	if c["name"] == "authz" && g.Config.Authz.Anonymous {
		args = append(args, "-allow-anonymous")
	}
	if len(args) > 0 {
		c["args"] = args
	}
	mounts := []any{}
	for _, m := range k8s.List(c, "volumeMounts") {
		m := m.(map[string]any)
		if path := fmt.Sprint(m["mountPath"]); strings.HasPrefix(path, "/etc/vmcp/secrets/") {
			m = map[string]any{"name": "secrets", "mountPath": "/etc/vmcp/secrets", "readOnly": true}
		}
		if m["mountPath"] == "/etc/vmcp/tls" && g.TLSSecret == "" {
			continue
		}
		mounts = append(mounts, m)
	}
	c["volumeMounts"] = mounts
}

// edge fits Envoy's container: the plain port is always there.
func (g *Gateway) edge(envoy map[string]any) {
	ports := []any{map[string]any{"name": "http", "containerPort": int64(8080), "protocol": "TCP"}}
	if g.TLSSecret != "" {
		ports = append(ports, map[string]any{"name": "https", "containerPort": int64(8443), "protocol": "TCP"})
	}
	envoy["ports"] = ports
	for _, probe := range []string{"readinessProbe", "livenessProbe"} {
		set(envoy, "http", probe, "tcpSocket", "port")
	}
}

// storage says where the state of authserver is.
func (g *Gateway) storage(o *Object, spec map[string]any) {
	if g.Storage == "ephemeral" {
		spec["volumes"] = append(k8s.List(spec, "volumes"), map[string]any{"name": "state", "emptyDir": map[string]any{}})
		delete(o.Object["spec"].(map[string]any), "volumeClaimTemplates")
		return
	}
	// With the gateway go its sign-ins: nothing could read them without the keys, which go too.
	set(o.Object, map[string]any{"whenDeleted": "Delete", "whenScaled": "Retain"}, "spec", "persistentVolumeClaimRetentionPolicy")
	claim := k8s.At(o.Object, "spec", "volumeClaimTemplates", "0", "spec").(map[string]any)
	if g.Storage != "" {
		set(claim, g.Storage, "resources", "requests", "storage")
	}
	if g.Class != "" {
		claim["storageClassName"] = g.Class
	}
}

// set puts a value at a path of mappings, making those that are not there.
func set(in map[string]any, value any, path ...string) {
	for _, step := range path[:len(path)-1] {
		next, ok := in[step].(map[string]any)
		if !ok {
			next = map[string]any{}
			in[step] = next
		}
		in = next
	}
	in[path[len(path)-1]] = value
}
