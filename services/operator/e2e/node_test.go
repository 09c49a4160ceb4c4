// Package e2e runs the operator and a gateway on a real Kubernetes node, in network, mount and process namespaces of its
// own: nothing gets out, and all of it ends with the test. tools/e2e-node starts it so.
package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"vmcp/internal/child"
	"vmcp/internal/pki"
)

// Addresses of the node, and what tools/e2e-node gives.
const (
	nodeIP     = "10.200.0.1"
	serviceNet = "10.96.0.0/16"
	podNet     = "10.244.0.0/16"
)

var (
	programs = os.Getenv("VMCP_KUBE")     // of Kubernetes
	system   = os.Getenv("VMCP_KUBE_DEB") // root of Debian's containerd, runc, CNI plugins and iptables
	built    = os.Getenv("VMCP_BIN")      // our programs, static
)

// A node is one machine of a cluster, which is all of it.
type node struct {
	dir    string
	ca     *pki.Authority
	admin  *rest.Config
	client client.Client
	began  time.Time
}

func (n *node) path(elem ...string) string { return filepath.Join(append([]string{n.dir}, elem...)...) }

// said prints a line of the timeline.
func (n *node) said(t *testing.T, format string, args ...any) {
	t.Helper()
	fmt.Printf("%7.1f s  %s\n", time.Since(n.began).Seconds(), fmt.Sprintf(format, args...))
}

// startNode starts a cluster of one node for the time of the test.
func startNode(t *testing.T) *node {
	t.Helper()
	if programs == "" {
		t.Skip("tools/e2e-node starts this, in namespaces of its own")
	}
	n := &node{began: time.Now(), dir: "/run/vmcp-node"} // short: sockets are in it
	must(t, os.MkdirAll(n.dir, 0o755))
	n.network(t)
	n.restoreKernel(t)
	var err error
	n.ca, err = pki.New(time.Now().Add(24 * time.Hour))
	must(t, err)
	ca, _, err := n.ca.PEM()
	must(t, err)
	cert, err := n.ca.Issue([]string{nodeIP, "127.0.0.1", "10.96.0.1", "kubernetes.default.svc", "kubernetes.default", "kubernetes"})
	must(t, err)
	n.write(t, "ca.crt", string(ca))
	n.write(t, "api.crt", string(cert.Cert))
	n.write(t, "api.key", string(cert.Key))
	accounts, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := x509.MarshalECPrivateKey(accounts)
	must(t, err)
	n.write(t, "accounts.key", string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})))
	var tokens strings.Builder
	for user, groups := range map[string]string{"admin": "system:masters", "system:kube-controller-manager": "", "system:kube-scheduler": "", "system:kube-proxy": "", "system:node:n1": "system:nodes"} {
		fmt.Fprintf(&tokens, "token-of-%s,%s,%s,%q\n", user, user, user, groups)
		n.write(t, user+".kubeconfig", fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://%s:6443", certificate-authority: %s}}]
users: [{name: u, user: {token: "token-of-%s"}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
`, nodeIP, n.path("ca.crt"), user))
	}
	n.write(t, "tokens.csv", tokens.String())
	n.containerd(t)
	n.kubelet(t)

	stopFirst := n.processes(t, [][]string{
		{filepath.Join(programs, "etcd"), "--data-dir=" + n.path("etcd"), "--unsafe-no-fsync", "--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379", "--listen-peer-urls=http://127.0.0.1:2380"},
		{filepath.Join(system, "usr/bin/containerd"), "-c", n.path("containerd.toml")},
		{filepath.Join(programs, "kube-apiserver"), "--etcd-servers=http://127.0.0.1:2379", "--bind-address=0.0.0.0", "--advertise-address=" + nodeIP, "--secure-port=6443",
			"--tls-cert-file=" + n.path("api.crt"), "--tls-private-key-file=" + n.path("api.key"), "--client-ca-file=" + n.path("ca.crt"), "--token-auth-file=" + n.path("tokens.csv"),
			"--service-cluster-ip-range=" + serviceNet, "--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file=" + n.path("accounts.key"),
			"--service-account-signing-key-file=" + n.path("accounts.key"), "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true"},
	})
	n.admin = &rest.Config{Host: "https://" + nodeIP + ":6443", BearerToken: "token-of-admin", TLSClientConfig: rest.TLSClientConfig{CAData: ca}, QPS: 500, Burst: 500}
	n.eventually(t, "the API server answers", func() error {
		if n.client, err = client.New(n.admin, client.Options{}); err != nil {
			return err
		}
		config, err := kubernetes.NewForConfig(n.admin)
		if err != nil {
			return err
		}
		return config.RESTClient().Get().AbsPath("/readyz").Do(context.Background()).Error()
	})
	stop := n.processes(t, [][]string{
		{filepath.Join(programs, "kube-controller-manager"), "--kubeconfig=" + n.path("system:kube-controller-manager.kubeconfig"), "--bind-address=127.0.0.1", "--leader-elect=false",
			"--authentication-kubeconfig=" + n.path("system:kube-controller-manager.kubeconfig"), "--authorization-kubeconfig=" + n.path("system:kube-controller-manager.kubeconfig"),
			"--use-service-account-credentials", "--service-account-private-key-file=" + n.path("accounts.key"), "--root-ca-file=" + n.path("ca.crt"), "--cluster-cidr=" + podNet, "--service-cluster-ip-range=" + serviceNet},
		{filepath.Join(programs, "kube-scheduler"), "--kubeconfig=" + n.path("system:kube-scheduler.kubeconfig"), "--bind-address=127.0.0.1", "--leader-elect=false",
			"--authentication-kubeconfig=" + n.path("system:kube-scheduler.kubeconfig"), "--authorization-kubeconfig=" + n.path("system:kube-scheduler.kubeconfig")},
		{filepath.Join(programs, "kubelet"), "--config=" + n.path("kubelet.yaml"), "--kubeconfig=" + n.path("system:node:n1.kubeconfig"), "--hostname-override=n1", "--node-ip=" + nodeIP,
			"--root-dir=" + n.path("kubelet"), "--cert-dir=" + n.path("kubelet-pki")},
		{filepath.Join(programs, "kube-proxy"), "--kubeconfig=" + n.path("system:kube-proxy.kubeconfig"), "--hostname-override=n1", "--cluster-cidr=" + podNet, "--proxy-mode=iptables",
			"--conntrack-max-per-core=0", "--conntrack-min=0", "--bind-address=0.0.0.0"},
	})
	n.dns(t)
	n.eventually(t, "the node is ready", func() error {
		var node corev1.Node
		if err := n.client.Get(context.Background(), client.ObjectKey{Name: "n1"}, &node); err != nil {
			return err
		}
		for _, c := range node.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
				return nil
			}
		}
		return fmt.Errorf("conditions %v", node.Status.Conditions)
	})
	n.said(t, "the node is ready")
	t.Cleanup(func() {
		if t.Failed() {
			n.tell(t)
		}
		stop()
		stopFirst()
	})
	return n
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (n *node) write(t *testing.T, name, text string) string {
	t.Helper()
	must(t, os.WriteFile(n.path(name), []byte(text), 0o644))
	return n.path(name)
}

// run runs a program of the machine.
func run(t *testing.T, command ...string) string {
	t.Helper()
	out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
	return string(out)
}

func (n *node) network(t *testing.T) {
	t.Helper()
	for _, c := range []string{"link set lo up", "link add node0 type bridge", "addr add " + nodeIP + "/24 dev node0", "link set node0 up", "route add default dev node0"} {
		run(t, append([]string{"ip"}, strings.Fields(c)...)...)
	}
	must(t, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644))
}

// restoreKernel puts back what the kubelet sets for the whole machine.
func (n *node) restoreKernel(t *testing.T) {
	t.Helper()
	for _, name := range []string{"vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops"} {
		file := "/proc/sys/" + name
		text, err := os.ReadFile(file)
		must(t, err)
		t.Cleanup(func() { os.WriteFile(file, text, 0o644) })
	}
}

func (n *node) containerd(t *testing.T) {
	t.Helper()
	must(t, os.MkdirAll(n.path("certs.d/_default"), 0o755))
	n.write(t, "certs.d/_default/hosts.toml", fmt.Sprintf("[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n", "http://"+registryAddress))
	must(t, os.MkdirAll(n.path("cni"), 0o755))
	n.write(t, "cni/10-pods.conflist", strings.Replace(`{"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"bridge","bridge":"cni0","isGateway":true,"ipMasq":false,"hairpinMode":true,
 "ipam":{"type":"host-local","dataDir":"HERE","ranges":[[{"subnet":"10.244.0.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]}}]}`, "HERE", n.path("addresses"), 1))
	n.write(t, "containerd.toml", fmt.Sprintf(`version = 2
root = %q
state = %q
[grpc]
  address = %q
[plugins."io.containerd.internal.v1.opt"]
  path = %q
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.test/pause:1"
  restrict_oom_score_adj = true
  disable_apparmor = true
  disable_hugetlb_controller = true
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = %q
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      BinaryName = %q
      SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = %q
    conf_dir = %q
`, n.path("containerd"), n.path("containerd-state"), n.path("c.sock"), n.path("opt"), n.path("certs.d"), filepath.Join(system, "usr/sbin/runc"), filepath.Join(system, "usr/lib/cni"), n.path("cni")))
}

func (n *node) kubelet(t *testing.T) {
	t.Helper()
	n.write(t, "resolv.conf", "nameserver "+nodeIP+"\n")
	n.write(t, "kubelet.yaml", fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
oomScoreAdj: 0
localStorageCapacityIsolation: false
address: %s
containerRuntimeEndpoint: unix://%s
imageServiceEndpoint: unix://%s
clusterDNS: [%s]
clusterDomain: cluster.local
resolvConf: %s
podLogsDir: %s
volumePluginDir: %s
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: %s}}
authorization: {mode: Webhook}
`, nodeIP, n.path("c.sock"), n.path("c.sock"), nodeIP, n.path("resolv.conf"), n.path("logs"), n.path("volume-plugins"), n.path("ca.crt")))
}

// processes starts programs; stop ends them, the last first.
func (n *node) processes(t *testing.T, all [][]string) (stop func()) {
	t.Helper()
	env := []string{"HOME=" + n.dir, "PATH=" + strings.Join([]string{filepath.Join(system, "usr/bin"), filepath.Join(system, "usr/sbin"), filepath.Join(system, "sbin"), filepath.Join(system, "usr/lib/cni"), os.Getenv("PATH")}, ":"),
		"LD_LIBRARY_PATH=" + filepath.Join(system, "usr/lib/x86_64-linux-gnu") + ":" + filepath.Join(system, "lib/x86_64-linux-gnu"), "XTABLES_LIBDIR=" + filepath.Join(system, "usr/lib/x86_64-linux-gnu/xtables")}
	var stops []func()
	for _, p := range all {
		name := filepath.Base(p[0])
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		stops = append(stops, func() { cancel(); running.Wait() })
		running.Go(func() {
			if err := child.Run(ctx, child.Config{Name: name, Path: p[0], Args: p[1:], Env: env, Log: n.path(name + ".log")}); err != nil {
				t.Error(err)
			}
		})
	}
	return func() {
		for _, s := range slices.Backward(stops) {
			s()
		}
	}
}

// eventually waits for what has no other sign.
func (n *node) eventually(t *testing.T, what string, ok func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline) && !t.Failed(); time.Sleep(100 * time.Millisecond) {
		if err = ok(); err == nil {
			return
		}
	}
	t.Fatalf("it never came to this: %s: %v", what, err)
}

// tell prints what helps to see why a test failed.
func (n *node) tell(t *testing.T) {
	var pods corev1.PodList
	if n.client != nil && n.client.List(context.Background(), &pods) == nil {
		for _, p := range pods.Items {
			t.Logf("pod %s/%s: %s %s", p.Namespace, p.Name, p.Status.Phase, describe(p))
		}
	}
	var events corev1.EventList
	if n.client != nil && n.client.List(context.Background(), &events) == nil {
		for _, e := range events.Items {
			if e.Type == "Warning" {
				t.Logf("event %s/%s: %s: %s", e.InvolvedObject.Kind, e.InvolvedObject.Name, e.Reason, e.Message)
			}
		}
	}
	logs, _ := filepath.Glob(n.path("logs/*/*/*.log"))
	own, _ := filepath.Glob(n.path("*.log"))
	for _, name := range append(own, logs...) {
		size := 1500
		if strings.HasSuffix(name, "kubelet.log") || strings.Contains(name, "operator") {
			size = 5000
		}
		text, _ := os.ReadFile(name)
		t.Logf("---- %s\n%s", name, text[max(0, len(text)-size):])
	}
}

func describe(p corev1.Pod) string {
	var all []string
	for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		all = append(all, fmt.Sprintf("%s ready=%v restarts=%d %v", c.Name, c.Ready, c.RestartCount, c.State))
	}
	return strings.Join(all, "; ")
}
