package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"vmcp/internal/entrasim"
	"vmcp/internal/mcptest"
)

const gateway = "engineering-tools"

// TestCluster is the life of a gateway on an empty cluster: the operator is installed, the guide's kubectl steps are done
// word for word, a person signs in at Entra, sees what Cedar permits, calls it and is denied the rest; then everything
// changes, restarts and ends while they call.
func TestCluster(t *testing.T) {
	n := startNode(t)
	n.registry(t)
	n.images(t, "v1", "v2")
	n.said(t, "images are pushed")
	remote := mcptest.NewHTTP(t, mcptest.Options{Server: mcptest.GitHub})
	n.ingress(t, map[string]string{"remote.example.com": strings.TrimPrefix(strings.TrimSuffix(remote.URL, "/mcp"), "http://"), "mcp.example.com": "vmcp-" + gateway + "." + team + ":4483", "login.microsoftonline.com": "entra.entra:80", "ghcr.io": registryAddress})
	n.world(t)
	n.entra(t)
	n.volume(t)
	guide, err := os.ReadFile(filepath.Join(root, "internal/gatewayconfig/testdata/seed/engineering-tools.yaml"))
	must(t, err)
	n.folder(t, guide)
	n.page(t, "Install")
	n.said(t, "the operator is installed")
	began := time.Now()
	n.page(t, "A gateway")
	n.said(t, "the guide's steps are done, and the gateway is ready %.1f s later", time.Since(began).Seconds())
	n.becomes(t, "VirtualMCPServer", gateway, "Ready")
	n.becomes(t, "MCPServer", "github-backend", "Ready")
	n.becomes(t, "MCPServer", "kubernetes-backend", "Ready")
	n.said(t, "the gateway is ready")
	ann := n.signIn(t, entrasim.DefaultDirectory().People[0].UPN)
	n.said(t, "a person is signed in")
	n.eventually(t, "the first call", func() error { return ann.pods() })
	n.said(t, "the first call is answered")
	// The aggregator asks authz by its Service, which the node may know of a second later than the one that led here.
	n.eventually(t, "the first list", func() error { _, err := ann.ask("tools/list", "", ""); return err })
	n.said(t, "the first list is answered")
	must(t, ann.call("github-backend_list_issues", `{"owner":"o","repo":"r"}`))
	if names := ann.tools(t); !slices.Contains(names, "kubernetes-backend_get_pods") || slices.Contains(names, "kubernetes-backend_delete_namespace") {
		t.Errorf("tools %q", names)
	}
	if err := ann.call("kubernetes-backend_delete_namespace", `{"name":"prod"}`); err == nil {
		t.Error("delete_namespace is not denied")
	}
	for _, step := range []struct {
		name string
		run  func(*testing.T, *node, *person, []byte)
	}{
		{"Changes", testChanges}, {"Secret", func(t *testing.T, n *node, ann *person, _ []byte) { testSecret(t, n, ann, remote) }}, {"Restarts", testRestarts}, {"Drained", testDrained}, {"OperatorKilled", testOperatorKilled}, {"Upgrade", testUpgrade}, {"Removed", testRemoved},
	} {
		t.Run(step.name, func(t *testing.T) { step.run(t, n, ann, guide) })
	}
}

func (p *person) pods() error { return p.call("kubernetes-backend_get_pods", `{"namespace":"shop"}`) }

// inForce is how long a change may take to be in force.
const inForce = 5 * time.Second

// effect applies documents and waits until ok says that they are in force.
func (n *node) effect(t *testing.T, what, documents string, ok func() error) {
	t.Helper()
	before := n.pods(t)
	n.kubectl(t, documents, "apply", "-n", team, "-f", "-")
	began := time.Now()
	n.eventually(t, what, ok)
	took := time.Since(began)
	n.said(t, "%s: in force after %.1f s", what, took.Seconds())
	if took > inForce {
		t.Errorf("%s: in force after %v, want %v at most", what, took, inForce)
	}
	now := n.pods(t)
	for name := range before {
		if !now[name] {
			t.Errorf("%s: pod %s is gone", what, name)
		}
	}
}

// pods are the gateway's own, by name and restarts.
func (n *node) pods(t *testing.T) map[string]bool {
	t.Helper()
	var list corev1.PodList
	must(t, n.client.List(context.Background(), &list, client.InNamespace(team), client.HasLabels{"vmcp/gateway"}))
	all := map[string]bool{}
	for _, p := range list.Items {
		restarts := int32(0)
		for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
			restarts += c.RestartCount
		}
		all[fmt.Sprint(p.Name, " ", restarts)] = true
	}
	return all
}

// stricter is the guide with a policy that forbids get_pods.
func stricter(guide []byte) string {
	return string(bytes.Replace(guide, []byte("policies:\n"), []byte("policies:\n          - forbid(principal, action == Action::\"call_tool\", resource == Tool::\"get_pods\");\n"), 1))
}

// testChanges: a policy, a tool, a Secret and a server that is new are in force within seconds, in no new pod.
func testChanges(t *testing.T, n *node, ann *person, guide []byte) {
	refused := func(err error) error {
		if err == nil {
			return fmt.Errorf("it is still permitted")
		}
		return nil
	}
	n.effect(t, "a policy that forbids", stricter(guide), func() error { return refused(ann.pods()) })
	n.effect(t, "and is taken back", string(guide), ann.pods)
	filtered := bytes.Replace(guide, []byte("  outgoingAuth:"), []byte("  config: {aggregation: {tools: [{workload: kubernetes-backend, filter: [get_pods]}]}}\n  outgoingAuth:"), 1)
	n.effect(t, "a filter of tools", string(filtered), func() error {
		if names := ann.tools(t); slices.Contains(names, "kubernetes-backend_list_namespaces") || slices.Contains(names, "kubernetes-backend_delete_pod") {
			return fmt.Errorf("tools %q", names)
		}
		return nil
	})
	n.effect(t, "and is taken back", string(guide), func() error {
		if names := ann.tools(t); !slices.Contains(names, "kubernetes-backend_delete_pod") {
			return fmt.Errorf("tools %q", names)
		}
		return nil
	})
	// The session of the older revision sees the server too.
	old := &person{token: ann.token, session: "new"}
	_, err := old.ask("initialize", "", `"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"old","version":"1"}`)
	must(t, err)
	began := time.Now()
	n.kubectl(t, "apiVersion: toolhive.stacklok.dev/v1beta1\nkind: MCPServer\nmetadata: {name: second}\nspec: {groupRef: {name: engineering-tools}, image: \"ghcr.io/stackloklabs/yardstick/yardstick-server:1.1.1\", transport: stdio}\n", "apply", "-n", team, "-f", "-")
	n.eventually(t, "the new server is in the open session", func() error {
		if names := old.tools(t); !slices.Contains(names, "second_get_pods") {
			return fmt.Errorf("tools %q", names)
		}
		return nil
	})
	n.said(t, "a new MCPServer: in an open session after %.1f s", time.Since(began).Seconds())
	n.kubectl(t, "", "delete", "mcpserver", "second", "-n", team)
	n.eventually(t, "the server that was deleted is gone", func() error {
		if names := old.tools(t); slices.ContainsFunc(names, func(s string) bool { return strings.HasPrefix(s, "second_") }) {
			return fmt.Errorf("tools %q", names)
		}
		return nil
	})
}

// testSecret: a value that the documents name reaches the server that it is for, and a new one within seconds, in no new pod.
func testSecret(t *testing.T, n *node, ann *person, remote *mcptest.HTTP) {
	secret := func(value string) string {
		return "apiVersion: v1\nkind: Secret\nmetadata: {name: header}\nstringData: {value: " + value + "}\n"
	}
	arrives := func(value string) func() error {
		return func() error {
			if err := ann.call("remote_list_issues", `{"owner":"o","repo":"r"}`); err != nil {
				return err
			}
			all := remote.Requests()
			if got := all[len(all)-1].Header.Get("X-Key"); got != value {
				return fmt.Errorf("the server got X-Key %q", got)
			}
			return nil
		}
	}
	n.effect(t, "a server elsewhere, with a header from a Secret", secret("one")+`---
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServerEntry
metadata: {name: remote}
spec:
  groupRef: {name: engineering-tools}
  transport: streamable-http
  remoteUrl: "https://remote.example.com/mcp"
  headerForward: {addHeadersFromSecret: [{headerName: X-Key, valueSecretRef: {name: header, key: value}}]}
`, arrives("one"))
	n.effect(t, "a new value of the Secret", secret("two"), arrives("two"))
	n.kubectl(t, "", "delete", "mcpserverentry", "remote", "-n", team)
}

// load calls from several places until stop, and gives the number of calls and what failed.
func load(ann *person, callers int) (stop func() (calls int64, failures []string)) {
	ctx, cancel := context.WithCancel(context.Background())
	var calls atomic.Int64
	var mu sync.Mutex
	var failures []string
	var running sync.WaitGroup
	for range callers {
		running.Go(func() {
			for ctx.Err() == nil {
				if err := ann.pods(); err != nil {
					mu.Lock()
					failures = append(failures, time.Now().Format("15:04:05.000 ")+err.Error())
					mu.Unlock()
				}
				calls.Add(1)
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	return func() (int64, []string) {
		cancel()
		running.Wait()
		return calls.Load(), failures
	}
}

// testRestarts: each Deployment is restarted while people call, and no call fails.
func testRestarts(t *testing.T, n *node, ann *person, _ []byte) {
	for _, name := range []string{gateway, gateway + "-aggregator", "kubernetes-backend"} {
		n.holds(t, name+" restarted", ann, func() {
			n.kubectl(t, "", "-n", team, "rollout", "restart", "deployment/"+name)
			n.kubectl(t, "", "-n", team, "rollout", "status", "deployment/"+name, "--timeout=180s")
		})
	}
}

// holds does something while people call, until no pod is left that goes, and wants no call to fail.
func (n *node) holds(t *testing.T, what string, ann *person, do func()) {
	t.Helper()
	stop := load(ann, 4)
	do()
	n.eventually(t, "the pods of before are gone", func() error {
		var list corev1.PodList
		if err := n.client.List(context.Background(), &list, client.InNamespace(team)); err != nil {
			return err
		}
		for _, p := range list.Items {
			if p.DeletionTimestamp != nil {
				return fmt.Errorf("%s goes", p.Name)
			}
		}
		return nil
	})
	calls, failures := stop()
	n.said(t, "%s under load: %d calls, %d failed", what, calls, len(failures))
	if len(failures) > 0 {
		t.Errorf("%s: %d of %d calls failed: %q", what, len(failures), calls, failures[:min(5, len(failures))])
	}
}

// testUpgrade: the next version, whose definitions have a field more, replaces the pods of the one before, and no call fails.
func testUpgrade(t *testing.T, n *node, ann *person, _ []byte) {
	n.copyOperator(t) // with all fields
	n.holds(t, "upgraded", ann, func() {
		n.page(t, "Upgrade")
		for _, name := range []string{gateway, gateway + "-aggregator", "kubernetes-backend", "github-backend"} {
			n.eventually(t, name+" has the new version", func() error {
				if image := n.kubectl(t, "", "-n", team, "get", "deployment", name, "-o", "jsonpath={.spec.template.spec.initContainers[*].image} {.spec.template.spec.containers[*].image}"); !strings.Contains(image, ":v2") || strings.Contains(image, ":v1") {
					return fmt.Errorf("it runs %s", image)
				}
				return nil
			})
			n.kubectl(t, "", "-n", team, "rollout", "status", "deployment/"+name, "--timeout=180s")
		}
	})
	if text := n.kubectl(t, "", "explain", "virtualmcpserver.spec.passthroughHeaders"); !strings.Contains(text, "passthroughHeaders") {
		t.Errorf("the field that is new is not known: %s", text)
	}
}

// testDrained: all pods of gateway and aggregator are asked to go at once, as a node that drains does. The disruption budgets
// let them go one at a time, and no call fails.
func testDrained(t *testing.T, n *node, ann *person, _ []byte) {
	n.holds(t, "all pods evicted", ann, func() {
		var list corev1.PodList
		must(t, n.client.List(t.Context(), &list, client.InNamespace(team), client.HasLabels{"vmcp/gateway"}))
		for _, p := range list.Items {
			if p.Labels["app"] == "authserver" {
				continue
			}
			n.eventually(t, p.Name+" may go", func() error {
				return n.client.SubResource("eviction").Create(t.Context(), &p, &policyv1.Eviction{})
			})
		}
	})
	n.becomes(t, "VirtualMCPServer", gateway, "Ready")
}

// testOperatorKilled: while no operator is there calls go on, and what changed meanwhile is in force when one is back.
func testOperatorKilled(t *testing.T, n *node, ann *person, guide []byte) {
	n.kubectl(t, "", "-n", "vmcp-system", "scale", "deployment/vmcp-operator", "--replicas=0")
	n.kubectl(t, "", "-n", "vmcp-system", "delete", "pod", "-l", "app=vmcp-operator", "--force", "--grace-period=0", "--ignore-not-found")
	must(t, ann.pods())
	n.kubectl(t, stricter(guide), "apply", "-n", team, "-f", "-")
	n.kubectl(t, "", "-n", team, "delete", "service", "vmcp-"+gateway)
	n.kubectl(t, "", "-n", "vmcp-system", "scale", "deployment/vmcp-operator", "--replicas=1")
	began := time.Now()
	n.eventually(t, "the Service is made again, and the policy in force", func() error {
		if err := ann.pods(); err == nil || !strings.Contains(err.Error(), "enied") && !strings.Contains(err.Error(), "permitted") && !strings.Contains(err.Error(), "not allowed") {
			return fmt.Errorf("a call: %v", err)
		}
		return nil
	})
	n.said(t, "an operator is back: what changed meanwhile is in force after %.1f s", time.Since(began).Seconds())
	n.kubectl(t, string(guide), "apply", "-n", team, "-f", "-")
	n.eventually(t, "the policy is taken back", ann.pods)
}

// testRemoved: with the documents goes what was made of them, and with the operator's manifests everything else.
func testRemoved(t *testing.T, n *node, _ *person, _ []byte) {
	n.page(t, "Remove", 0)
	n.eventually(t, "nothing is left of the gateway", func() error {
		for _, list := range []client.ObjectList{&appsv1.DeploymentList{}, &appsv1.StatefulSetList{}, &corev1.ServiceList{}, &corev1.PersistentVolumeClaimList{}} {
			if err := n.client.List(context.Background(), list, client.InNamespace(team)); err != nil {
				return err
			}
			if text := fmt.Sprint(list); strings.Contains(text, "engineering-tools") || strings.Contains(text, "-backend") {
				return fmt.Errorf("%T is left", list)
			}
		}
		var secrets corev1.SecretList
		if err := n.client.List(context.Background(), &secrets, client.InNamespace(team), client.MatchingLabels{"app.kubernetes.io/managed-by": "vmcp-operator"}); err != nil || len(secrets.Items) > 0 {
			return fmt.Errorf("Secrets %d, %v", len(secrets.Items), err)
		}
		return nil
	})
	n.said(t, "nothing is left of the gateway")
	n.page(t, "Remove", 1)
	if left := n.kubectl(t, "", "get", "crd,clusterrole,clusterrolebinding,namespace", "-o", "name"); strings.Contains(left, "vmcp") || strings.Contains(left, "toolhive") {
		t.Errorf("after everything is removed there is\n%s", left)
	}
	n.said(t, "everything is removed")
}
