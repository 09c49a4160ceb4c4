package render

import (
	"fmt"
	"slices"

	"vmcp/api/v1beta1"
	"vmcp/deploy/k8s"
	"vmcp/internal/gatewayconfig"
)

// Server is all that the objects of an MCPServer in a pod follow from.
type Server struct {
	Name, Namespace string
	Spec            *v1beta1.MCPServerSpec
	Images          Images
	Image           string   // with its digest, where the registry told it
	Command         []string // what the image would start, without Spec.Args; for stdio
	Outbound        Outbound
	Restart         string // changes when the pods must be made anew: its Secrets have
}

// Outbound is what a permission profile lets a server reach.
type Outbound struct {
	Nothing bool
	Ports   []int64 // of any address; none: all
}

// ServerService is the Service of an MCPServer, and the name of its certificate's Secret.
func ServerService(name string) string { return "mcp-" + name }

// ServerTLS is the Secret with the certificate of a stdio server's bridge.
func ServerTLS(name string) string { return "mcp-" + name + "-tls" }

const bridgePort, defaultPort = 8443, 8080

// Stdio says that the server speaks over stdio, so that a bridge stands beside it.
func Stdio(spec *v1beta1.MCPServerSpec) bool {
	return spec.Transport == "" || spec.Transport == "stdio"
}

func port(spec *v1beta1.MCPServerSpec) int64 {
	switch {
	case Stdio(spec):
		return bridgePort
	case spec.MCPPort != 0:
		return int64(spec.MCPPort)
	}
	return defaultPort
}

// Address is the value of the annotation vmcp/address: where the aggregator finds the server.
func Address(name, namespace string, spec *v1beta1.MCPServerSpec) string {
	host := fmt.Sprintf("%s.%s.svc:%d", ServerService(name), namespace, port(spec))
	switch {
	case Stdio(spec):
		return host
	case spec.Transport == "sse":
		return "http://" + host + "/sse"
	}
	return "http://" + host + "/mcp"
}

// Objects are all but Secrets.
func (s *Server) Objects() ([]*Object, error) {
	base, err := serverBase()
	if err != nil {
		return nil, err
	}
	var all []*Object
	for _, raw := range base {
		o, err := object(raw)
		if err != nil {
			return nil, err
		}
		name := s.Name
		if o.GetKind() != "Deployment" {
			name = ServerService(s.Name)
		}
		labels := map[string]any{ServerLabel: s.Name}
		o.SetName(name)
		o.SetNamespace(s.Namespace)
		o.SetLabels(nil)
		setLabels(o, map[string]string{ManagedBy: Manager, ServerLabel: s.Name})
		switch o.GetKind() {
		case "Service":
			set(o.Object, labels, "spec", "selector")
			set(o.Object, []any{map[string]any{"name": "mcp", "port": port(s.Spec), "targetPort": "mcp", "protocol": "TCP"}}, "spec", "ports")
		case "NetworkPolicy":
			set(o.Object, labels, "spec", "podSelector", "matchLabels")
			set(o.Object, []any{map[string]any{
				"from":  []any{map[string]any{"podSelector": map[string]any{"matchLabels": map[string]any{"app": "aggregator", ManagedBy: Manager}}}},
				"ports": []any{map[string]any{"port": "mcp", "protocol": "TCP"}},
			}}, "spec", "ingress")
			if !s.Outbound.Nothing {
				set(o.Object, append(k8s.List(o.Object, "spec", "egress"), s.Outbound.rule()), "spec", "egress")
			}
		case "Deployment":
			set(o.Object, labels, "spec", "selector", "matchLabels")
			set(o.Object, map[string]any{ServerLabel: s.Name, ManagedBy: Manager}, "spec", "template", "metadata", "labels")
			if s.Restart != "" {
				set(o.Object, s.Restart, "spec", "template", "metadata", "annotations", "vmcp/restart")
			}
			if err := s.deployment(o); err != nil {
				return nil, err
			}
		}
		all = append(all, o)
	}
	return all, nil
}

func (o Outbound) rule() map[string]any {
	rule := anywhere(nil)
	delete(rule, "ports")
	if len(o.Ports) > 0 {
		var ports []any
		for _, p := range o.Ports {
			ports = append(ports, map[string]any{"port": p, "protocol": "TCP"})
		}
		rule["ports"] = ports
	}
	return rule
}

func (s *Server) deployment(o *Object) error {
	spec := k8s.At(o.Object, "spec", "template", "spec").(map[string]any)
	c := k8s.List(spec, "containers")[0].(map[string]any)
	c["name"], c["image"] = "mcp", s.Image
	s.environment(c)
	for kind, of := range map[string]v1beta1.ResourceList{"requests": s.Spec.Resources.Requests, "limits": s.Spec.Resources.Limits} {
		for name, value := range map[string]string{"cpu": of.CPU, "memory": of.Memory} {
			if value != "" {
				set(c, value, "resources", kind, name)
			}
		}
	}
	if Stdio(s.Spec) {
		for _, i := range k8s.List(spec, "initContainers") {
			i.(map[string]any)["image"] = s.Images.Of("bridge")
		}
		args := k8s.List(c, "args")
		args = args[:slices.Index(args, any("--"))+1]
		for _, a := range slices.Concat(s.Command, s.Spec.Args) {
			args = append(args, a)
		}
		c["args"] = args
		volumes := k8s.List(spec, "volumes")
		for _, v := range volumes {
			if v := v.(map[string]any); v["name"] == "tls" {
				set(v, ServerTLS(s.Name), "secret", "secretName")
			}
		}
	} else {
		s.plain(spec, c)
		if s.Spec.BackendReplicas != nil {
			set(o.Object, int64(*s.Spec.BackendReplicas), "spec", "replicas")
		}
	}
	for _, v := range s.Spec.Volumes {
		spec["volumes"] = append(k8s.List(spec, "volumes"), map[string]any{"name": v.Name, "hostPath": map[string]any{"path": v.HostPath}})
		c["volumeMounts"] = append(k8s.List(c, "volumeMounts"), map[string]any{"name": v.Name, "mountPath": v.MountPath, "readOnly": v.ReadOnly})
	}
	if s.Spec.ServiceAccount != "" { // it was given so that the server can use it
		spec["serviceAccountName"], spec["automountServiceAccountToken"] = s.Spec.ServiceAccount, true
	}
	if over := s.Spec.ResourceOverrides; over != nil && over.ProxyDeployment != nil {
		var pulls []any
		for _, p := range over.ProxyDeployment.ImagePullSecrets {
			pulls = append(pulls, map[string]any{"name": p.Name})
		}
		if pulls != nil {
			spec["imagePullSecrets"] = pulls
		}
	}
	return patch(o, s.Spec.PodTemplateSpec, "mcp", "mcp")
}

// environment is that of the server's container: env, and Secrets by reference.
func (s *Server) environment(c map[string]any) {
	var env []any
	for _, e := range s.Spec.Env {
		env = append(env, map[string]any{"name": e.Name, "value": e.Value})
	}
	for _, r := range s.Spec.Secrets {
		name := r.TargetEnvName
		if name == "" {
			name = r.Key
		}
		env = append(env, map[string]any{"name": name, "valueFrom": map[string]any{"secretKeyRef": map[string]any{"name": r.Name, "key": r.Key}}})
	}
	if !Stdio(s.Spec) {
		for _, e := range [][2]string{{"MCP_TRANSPORT", string(gatewayconfig.TransportHTTP)}, {"MCP_PORT", fmt.Sprint(port(s.Spec))}, {"MCP_HOST", "0.0.0.0"}} {
			if e[0] == "MCP_TRANSPORT" && s.Spec.Transport == "sse" {
				e[1] = "sse"
			}
			if !slices.ContainsFunc(env, func(have any) bool { return k8s.At(have, "name") == e[0] }) {
				env = append(env, map[string]any{"name": e[0], "value": e[1]})
			}
		}
	}
	if env != nil {
		c["env"] = env
	}
}

// plain takes the bridge out: the image's own server listens.
func (s *Server) plain(spec, c map[string]any) {
	delete(spec, "initContainers")
	for _, key := range []string{"command", "args", "lifecycle"} {
		delete(c, key)
	}
	var args []any
	for _, a := range s.Spec.Args {
		args = append(args, a)
	}
	if args != nil {
		c["args"] = args
	}
	c["ports"] = []any{map[string]any{"name": "mcp", "containerPort": port(s.Spec), "protocol": "TCP"}}
	for _, probe := range []string{"startupProbe", "livenessProbe", "readinessProbe"} {
		set(c, map[string]any{"port": "mcp"}, probe, "tcpSocket")
		delete(c[probe].(map[string]any), "httpGet")
	}
	keep := func(list []any) []any {
		return slices.DeleteFunc(list, func(v any) bool {
			return slices.Contains([]string{"bridge", "run", "tls"}, fmt.Sprint(k8s.At(v, "name")))
		})
	}
	spec["volumes"] = keep(k8s.List(spec, "volumes"))
	c["volumeMounts"] = keep(k8s.List(c, "volumeMounts"))
}
