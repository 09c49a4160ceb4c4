package control

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"vmcp/deploy/k8s"
)

// small is a gateway with one server elsewhere, and with no sign-in of its own.
const small = `
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPGroup
metadata: {name: group}
spec: {}
---
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServerEntry
metadata: {name: remote}
spec: {groupRef: {name: group}, transport: streamable-http, remoteUrl: "https://mcp.example.org/mcp"}
---
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPOIDCConfig
metadata: {name: issuer}
spec: {type: inline, inline: {issuer: "https://issuer.example.com"}}
---
apiVersion: toolhive.stacklok.dev/v1beta1
kind: VirtualMCPServer
metadata: {name: small}
spec:
  groupRef: {name: group}
  incomingAuth:
    type: oidc
    oidcConfigRef: {name: issuer, audience: "https://mcp.example.com", resourceUrl: "https://mcp.example.com"}
    authzConfig: {type: inline, inline: {policies: ["permit(principal, action, resource);"]}}
`

// change merges text into an object of ours.
func change(t *testing.T, ns, kind, name, patch string) {
	t.Helper()
	o := get(t, ns, ours, kind, name)
	if err := cluster.Patch(t.Context(), o, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
		t.Fatal(err)
	}
}

// eventually waits for what no status says.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 300 {
		if ok() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("it never came to this: %s", what)
}

// awaitCondition waits for the status of a condition, and for a text in its message.
func awaitCondition(t *testing.T, ns, kind, name, of, want, message string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s %s: %s is %s: %s", kind, name, of, want, message), func() bool {
		for _, c := range k8s.List(get(t, ns, ours, kind, name).Object, "status", "conditions") {
			if k8s.At(c, "type") == of {
				return k8s.At(c, "status") == want && strings.Contains(fmt.Sprint(k8s.At(c, "reason"), " ", k8s.At(c, "message")), message)
			}
		}
		return false
	})
}

// TestConditions: what is wrong is said by the condition it belongs to, at the objects that are meant, and mended.
func TestConditions(t *testing.T) {
	for _, c := range []struct{ name, kind, object, patch, condition, message, undo string }{
		{"group", "VirtualMCPServer", "small", `{"spec":{"groupRef":{"name":"gruop"}}}`, "GroupRefValidated", `no MCPGroup "gruop" in the namespace, did you mean "group"?`, `{"spec":{"groupRef":{"name":"group"}}}`},
		{"policy", "VirtualMCPServer", "small", `{"spec":{"incomingAuth":{"authzConfig":{"inline":{"policies":["permit(principal"]}}}}}`, "AuthzConfigRefValidated", "AuthzConfigInvalid", `{"spec":{"incomingAuth":{"authzConfig":{"inline":{"policies":["permit(principal, action, resource);"]}}}}}`},
		{"issuer", "VirtualMCPServer", "small", `{"spec":{"incomingAuth":{"oidcConfigRef":{"name":"none"}}}}`, "OIDCConfigRefValidated", `no MCPOIDCConfig "none"`, `{"spec":{"incomingAuth":{"oidcConfigRef":{"name":"issuer"}}}}`},
		{"issuer's own", "MCPOIDCConfig", "issuer", `{"spec":{"inline":{"issuer":"ftp://x"}}}`, "OIDCConfigRefValidated", "spec.inline.issuer", `{"spec":{"inline":{"issuer":"https://issuer.example.com"}}}`},
		{"pods", "VirtualMCPServer", "small", `{"spec":{"podTemplateSpec":{"spec":{"containers":[{"name":"vmcp","ports":"x"}]}}}}`, "PodTemplateSpecValid", "podTemplateSpec", `{"spec":{"podTemplateSpec":null}}`},
		{"annotation", "VirtualMCPServer", "small", `{"metadata":{"annotations":{"vmcp/tls-secrt":"x"}}}`, "Valid", `did you mean "vmcp/tls-secret"?`, `{"metadata":{"annotations":{"vmcp/tls-secrt":null}}}`},
		{"anonymous", "VirtualMCPServer", "small", `{"spec":{"incomingAuth":{"type":"anonymous","oidcConfigRef":null}}}`, "AuthConfigured", "kubectl annotate virtualmcpserver small vmcp/allow-anonymous=true", `{"spec":{"incomingAuth":{"type":"oidc","oidcConfigRef":{"name":"issuer","audience":"https://mcp.example.com","resourceUrl":"https://mcp.example.com"}}}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ns := namespace(t)
			create(t, ns, small)
			await(t, ns, "VirtualMCPServer", "small", "Pending", "phase")
			change(t, ns, c.kind, c.object, c.patch)
			awaitCondition(t, ns, "VirtualMCPServer", "small", c.condition, "False", c.message)
			await(t, ns, "VirtualMCPServer", "small", "Degraded", "phase") // what was made stays
			if get(t, ns, "apps/v1", "Deployment", "small") == nil {
				t.Error("the Deployment is gone")
			}
			if c.kind != "VirtualMCPServer" {
				awaitCondition(t, ns, c.kind, c.object, "Valid", "False", "")
			}
			var events eventsv1.EventList
			eventually(t, "there is an event", func() bool {
				if err := cluster.List(t.Context(), &events, client.InNamespace(ns)); err != nil {
					t.Fatal(err)
				}
				for _, e := range events.Items {
					if e.Type == "Warning" && e.Regarding.Name == "small" {
						return true
					}
				}
				return false
			})
			change(t, ns, c.kind, c.object, c.undo)
			awaitCondition(t, ns, "VirtualMCPServer", "small", c.condition, "True", "")
			await(t, ns, "VirtualMCPServer", "small", "Pending", "phase")
		})
	}
}

// TestOneServersFault: a server that something is wrong with is left out and says so; the others go on.
func TestOneServersFault(t *testing.T) {
	ns := namespace(t)
	create(t, ns, small+`---
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServerEntry
metadata: {name: wrong}
spec: {groupRef: {name: group}, transport: streamable-http, remoteUrl: "no URL"}
`)
	await(t, ns, "MCPServerEntry", "wrong", "spec.remoteUrl", "message")
	await(t, ns, "VirtualMCPServer", "small", "left out: MCPServerEntry/wrong: spec.remoteUrl", "notes")
	await(t, ns, "VirtualMCPServer", "small", "Pending", "phase")
	documents := get(t, ns, "v1", "ConfigMap", "small-documents")
	if data := fmt.Sprint(documents.Object["data"]); !strings.Contains(data, "mcpserverentry-remote.yaml") || strings.Contains(data, "wrong") {
		t.Errorf("documents %s", data)
	}
}

// TestServerConditions: what keeps an MCPServer from running is said where it is.
func TestServerConditions(t *testing.T) {
	for name, c := range map[string]struct{ spec, condition, message string }{
		"secret":        {`{image: "ghcr.io/github/github-mcp-server:latest", secrets: [{name: none, key: token}]}`, "SecretsFound", "kubectl create secret generic none --from-file=token=/dev/stdin"},
		"image":         {`{image: "ghcr.io/none:1"}`, "ImageResolved", "vmcp/command"},
		"no image":      {`{image: "Not An Image"}`, "ImageResolved", "is no image"},
		"profile":       {`{image: "ghcr.io/github/github-mcp-server:latest", permissionProfile: {type: builtin, name: nework}}`, "PermissionProfileValid", "want none or network"},
		"profile's map": {`{image: "ghcr.io/github/github-mcp-server:latest", permissionProfile: {type: configmap, name: none, key: a}}`, "PermissionProfileValid", "no ConfigMap none"},
		"pod":           {`{image: "ghcr.io/github/github-mcp-server:latest", podTemplateSpec: {spec: {containers: {}}}}`, "PodTemplateSpecValid", "spec.podTemplateSpec"},
		"group":         {`{image: "ghcr.io/github/github-mcp-server:latest", groupRef: {name: none}}`, "Ready", `there is no MCPGroup "none"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := namespace(t)
			spec := strings.TrimSuffix(c.spec, "}")
			if !strings.Contains(spec, "groupRef") {
				spec += ", groupRef: {name: group}"
			}
			create(t, ns, "apiVersion: toolhive.stacklok.dev/v1beta1\nkind: MCPGroup\nmetadata: {name: group}\nspec: {}\n---\napiVersion: toolhive.stacklok.dev/v1beta1\nkind: MCPServer\nmetadata: {name: s}\nspec: "+spec+"}\n")
			awaitCondition(t, ns, "MCPServer", "s", c.condition, "False", c.message)
			awaitCondition(t, ns, "MCPServer", "s", "Ready", "False", "")
			if get(t, ns, "apps/v1", "Deployment", "s") != nil {
				t.Error("there is a Deployment")
			}
		})
	}
}

// TestConflict: what somebody else made is left alone, and named.
func TestConflict(t *testing.T) {
	ns := namespace(t)
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "small", Labels: map[string]string{"app": "another"}}}
	d.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "another"}}
	d.Spec.Template.Labels = map[string]string{"app": "another"}
	d.Spec.Template.Spec.Containers = []corev1.Container{{Name: "c", Image: "i"}}
	if err := cluster.Create(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	create(t, ns, small)
	awaitCondition(t, ns, "VirtualMCPServer", "small", "Ready", "False", "Conflict there is a Deployment small")
	seen := &unstructured.UnstructuredList{}
	seen.SetAPIVersion("apps/v1")
	seen.SetKind("Deployment")
	if err := cached.List(t.Context(), seen, client.InNamespace(ns)); err != nil || len(seen.Items) != 0 {
		t.Errorf("the operator keeps %d Deployments of others, %v", len(seen.Items), err)
	}
	if live := get(t, ns, "apps/v1", "Deployment", "small"); live.GetLabels()["app"] != "another" || k8s.At(live.Object, "spec", "template", "spec", "containers", "c", "image") != "i" {
		t.Errorf("it was changed: %v", live.Object)
	}
	if err := cluster.Delete(t.Context(), d); err != nil {
		t.Fatal(err)
	}
}

// TestOneName: a server whose name is that of a gateway's part takes nothing of it.
func TestOneName(t *testing.T) {
	ns := namespace(t)
	create(t, ns, small)
	await(t, ns, "VirtualMCPServer", "small", "Pending", "phase")
	create(t, ns, `apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServer
metadata: {name: small-aggregator, annotations: {vmcp/command: /server}}
spec: {groupRef: {name: group}, image: "nowhere.invalid/s:1"}
`)
	awaitCondition(t, ns, "MCPServer", "small-aggregator", "Ready", "False", "Conflict the Deployment small-aggregator belongs to VirtualMCPServer/small")
	if c := k8s.At(get(t, ns, "apps/v1", "Deployment", "small-aggregator").Object, "spec", "template", "spec", "containers", "aggregator"); c == nil {
		t.Error("the aggregator's Deployment was changed")
	}
}

// TestKept: what somebody changes or deletes of the operator's is made again, but for the number of pods.
func TestKept(t *testing.T) {
	ns := namespace(t)
	create(t, ns, small)
	await(t, ns, "VirtualMCPServer", "small", "Pending", "phase")
	patch := func(apiVersion, kind, name, text string) {
		t.Helper()
		if err := cluster.Patch(t.Context(), get(t, ns, apiVersion, kind, name), client.RawPatch(types.MergePatchType, []byte(text))); err != nil {
			t.Fatal(err)
		}
	}
	patch("apps/v1", "Deployment", "small", `{"spec":{"replicas":5,"template":{"spec":{"automountServiceAccountToken":true}}}}`)
	patch("v1", "ConfigMap", "small-documents", `{"data":{"virtualmcpserver-small.yaml":"changed"}}`)
	if err := cluster.Delete(t.Context(), get(t, ns, "networking.k8s.io/v1", "NetworkPolicy", "small-nothing")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all of it is as it was, with five pods", func() bool {
		d := get(t, ns, "apps/v1", "Deployment", "small")
		text := fmt.Sprint(k8s.At(get(t, ns, "v1", "ConfigMap", "small-documents").Object, "data", "virtualmcpserver-small.yaml"))
		return k8s.At(d.Object, "spec", "replicas") == int64(5) && k8s.At(d.Object, "spec", "template", "spec", "automountServiceAccountToken") == false &&
			strings.Contains(text, "kind: VirtualMCPServer") && get(t, ns, "networking.k8s.io/v1", "NetworkPolicy", "small-nothing") != nil
	})
	change(t, ns, "VirtualMCPServer", "small", `{"spec":{"replicas":3}}`)
	eventually(t, "three pods, as the spec says now", func() bool {
		return k8s.At(get(t, ns, "apps/v1", "Deployment", "small").Object, "spec", "replicas") == int64(3)
	})
	// Everything goes with the VirtualMCPServer: this API server has nobody who collects, so the owner is looked at.
	for _, o := range [][3]string{{"apps/v1", "Deployment", "small"}, {"v1", "Service", "vmcp-small"}, {"v1", "Secret", "small-keys-seal"}, {"v1", "Secret", "vmcp-authority"},
		{"v1", "ConfigMap", "small-documents"}, {"v1", "ConfigMap", "small-envoy"}, {"networking.k8s.io/v1", "NetworkPolicy", "small"}, {"policy/v1", "PodDisruptionBudget", "small-aggregator"}} {
		live := get(t, ns, o[0], o[1], o[2])
		if live == nil {
			t.Errorf("there is no %s %s", o[1], o[2])
		} else if owners := live.GetOwnerReferences(); len(owners) != 1 || owners[0].Kind != "VirtualMCPServer" || owners[0].Name != "small" {
			t.Errorf("%s %s is owned by %v", o[1], o[2], owners)
		}
	}
}

// TestSecretsOfParts: each service gets the values that it reads and no other, and a new value in seconds.
func TestSecretsOfParts(t *testing.T) {
	ns := namespace(t)
	secret(t, ns, "idp-client-secret", "client-secret", "from the portal")
	secret(t, ns, "github-pat", "token", "ghp_x")
	secret(t, ns, "header", "value", "to the server\n")
	create(t, ns, guide(t)+`---
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServerEntry
metadata: {name: remote}
spec:
  groupRef: {name: engineering-tools}
  transport: streamable-http
  remoteUrl: "https://mcp.example.org/mcp"
  headerForward: {addHeadersFromSecret: [{headerName: X-Key, valueSecretRef: {name: header, key: value}}]}
`)
	await(t, ns, "VirtualMCPServer", "engineering-tools", "Pending", "phase")
	value := func(part string) string {
		text, err := base64.StdEncoding.DecodeString(fmt.Sprint(k8s.At(get(t, ns, "v1", "Secret", "engineering-tools-secrets-"+part).Object, "data", "secrets.yaml")))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	encoded := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	if text := value("aggregator"); !strings.Contains(text, encoded("to the server\n")) || strings.Contains(text, encoded("from the portal")) || strings.Contains(text, encoded("ghp_x")) {
		t.Errorf("the aggregator has %s", text)
	}
	if text := value("authserver"); !strings.Contains(text, encoded("from the portal")) || strings.Contains(text, encoded("to the server\n")) {
		t.Errorf("authserver has %s", text)
	}
	restart := func() any {
		return k8s.At(get(t, ns, "apps/v1", "Deployment", "github-backend").Object, "spec", "template", "metadata", "annotations", "vmcp/restart")
	}
	before := restart()
	for name, data := range map[string]string{"idp-client-secret": "client-secret", "github-pat": "token"} {
		s := get(t, ns, "v1", "Secret", name)
		if err := cluster.Patch(t.Context(), s, client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"stringData":{%q:"a new one"}}`, data))); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the new values are there, and the server begins anew", func() bool {
		return strings.Contains(value("authserver"), encoded("a new one")) && restart() != before
	})
}

// TestOlderVersion: documents of v1alpha1, which name what they refer to without a member for the name, are the same gateway.
func TestOlderVersion(t *testing.T) {
	ns := namespace(t)
	text := strings.ReplaceAll(strings.ReplaceAll(small, "v1beta1", "v1alpha1"), "groupRef: {name: group}", "groupRef: group")
	create(t, ns, text)
	await(t, ns, "VirtualMCPServer", "small", "Pending", "phase")
	await(t, ns, "MCPGroup", "group", "[remote]", "servers")
	await(t, ns, "VirtualMCPServer", "small", "remote", "discoveredBackends")
}

// TestPolicyConfigMap: policies in a ConfigMap are read by its name, and again when it changes.
func TestPolicyConfigMap(t *testing.T) {
	ns := namespace(t)
	policies := func(text string) string {
		return fmt.Sprintf(`{"version":"1.0","type":"cedarv1","cedar":{"policies":[%q]}}`, text)
	}
	c := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "rules"}, Data: map[string]string{"authz.json": policies("permit(principal, action, resource);")}}
	create(t, ns, strings.Replace(small, `authzConfig: {type: inline, inline: {policies: ["permit(principal, action, resource);"]}}`, `authzConfig: {type: configMap, configMap: {name: rules}}`, 1))
	await(t, ns, "VirtualMCPServer", "small", `no ConfigMap "rules" in the namespace`, "message")
	if err := cluster.Create(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	await(t, ns, "VirtualMCPServer", "small", "Pending", "phase")
	c.Data["authz.json"] = policies("permit(principal, action, resource) when { false };")
	if err := cluster.Update(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the pods' documents have the new policy", func() bool {
		return strings.Contains(fmt.Sprint(get(t, ns, "v1", "ConfigMap", "small-documents").Object["data"]), "when { false }")
	})
}

// TestPermissionProfile: of a profile of a ConfigMap the ports are kept.
func TestPermissionProfile(t *testing.T) {
	ns := namespace(t)
	c := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "profile"}, Data: map[string]string{"p.json": `{"network":{"outbound":{"allow_host":["api.example.com"],"allow_port":[8443]}}}`}}
	if err := cluster.Create(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	create(t, ns, `apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPGroup
metadata: {name: group}
spec: {}
---
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServer
metadata: {name: s, annotations: {vmcp/command: "/server 'with words'"}}
spec: {groupRef: {name: group}, image: "nowhere.invalid/s:1", permissionProfile: {type: configmap, name: profile, key: p.json}}
`)
	await(t, ns, "MCPServer", "s", "Pending", "phase")
	if egress := fmt.Sprint(k8s.At(get(t, ns, "networking.k8s.io/v1", "NetworkPolicy", "mcp-s").Object, "spec", "egress")); !strings.Contains(egress, "8443") {
		t.Errorf("egress %s", egress)
	}
	args := k8s.List(get(t, ns, "apps/v1", "Deployment", "s").Object, "spec", "template", "spec", "containers", "mcp", "args")
	if n := len(args); n < 2 || args[n-1] != "with words" || args[n-2] != "/server" {
		t.Errorf("the command is %q", args)
	}
}

// TestConditionsPage: docs/kubernetes.md has a line for each condition.
func TestConditionsPage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs/kubernetes.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range conditions {
		if c.name != "Valid" && !strings.Contains(string(page), "| `"+c.name+"` | ") {
			t.Errorf("docs/kubernetes.md has no line for the condition %s", c.name)
		}
	}
}
