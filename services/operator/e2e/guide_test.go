package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"vmcp/deploy/k8s"
)

const (
	root   = "../../.."
	team   = "team" // the namespace of the guide's gateway
	tenant = "8a2f6d1c-3b47-4e0a-9c55-0d6f7e1b2a34"
	app    = "5c1e9f70-64d2-4b8b-a1f3-2e7d90c4b6a8"
)

// kubectl runs kubectl as the cluster's administrator, with what it is to read.
func (n *node) kubectl(t *testing.T, input string, args ...string) string {
	t.Helper()
	cmd := exec.Command(filepath.Join(programs, "kubectl"), append([]string{"--kubeconfig=" + n.path("admin.kubeconfig")}, args...)...)
	cmd.Stdin = strings.NewReader(input)
	cmd.Env = append(os.Environ(), "HOME="+n.dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// install installs the operator as a user does: a folder of one's own on top of deploy/k8s/operator.
func (n *node) install(t *testing.T, tag string) {
	t.Helper()
	dir := n.path("install")
	must(t, os.MkdirAll(dir, 0o755))
	must(t, os.CopyFS(filepath.Join(dir, "operator"), os.DirFS(filepath.Join(root, "deploy/k8s/operator"))))
	n.write(t, "install/kustomization.yaml", fmt.Sprintf(`apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [operator]
images:
- {name: vmcp-operator, newName: registry.test/vmcp-operator, newTag: %s}
patches:
- target: {kind: Deployment, name: vmcp-operator}
  patch: |
    - {op: add, path: /spec/template/spec/containers/0/args/-, value: "-registry-mirror=ghcr.io=http://%s"}
`, tag, registryAddress))
	n.kubectl(t, "", "apply", "--server-side", "-k", dir)
	n.kubectl(t, "", "-n", "vmcp-system", "rollout", "status", "deployment/vmcp-operator", "--timeout=120s")
}

// entra runs the simulated tenant as a pod.
func (n *node) entra(t *testing.T) {
	t.Helper()
	n.kubectl(t, fmt.Sprintf(`apiVersion: v1
kind: Namespace
metadata: {name: entra}
---
apiVersion: v1
kind: Secret
metadata: {name: app, namespace: entra}
stringData: {secret: from the portal}
---
apiVersion: v1
kind: Pod
metadata: {name: entra, namespace: entra, labels: {app: entra}}
spec:
  containers:
  - name: entra
    image: registry.test/entrasim:1
    args: [-listen=127.0.0.1:8081, -tenant=%s, -client-id=%s, -client-secret-file=/app/secret, "-redirect-uri=https://mcp.example.com/oauth/callback"]
    volumeMounts: [{name: app, mountPath: /app}]
  - name: forward
    image: registry.test/entrasim:1
    command: [/forward, ":8080", "127.0.0.1:8081"]
    readinessProbe: {tcpSocket: {port: 8080}}
  volumes: [{name: app, secret: {secretName: app}}]
---
apiVersion: v1
kind: Service
metadata: {name: entra, namespace: entra}
spec: {selector: {app: entra}, ports: [{port: 80, targetPort: 8080}]}
`, tenant, app), "apply", "-f", "-")
}

// volume is what the cluster's storage would make.
func (n *node) volume(t *testing.T) {
	t.Helper()
	must(t, os.MkdirAll(n.path("volume"), 0o770))
	must(t, os.Chown(n.path("volume"), 65532, 65532))
	n.kubectl(t, fmt.Sprintf(`apiVersion: v1
kind: PersistentVolume
metadata: {name: one}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  hostPath: {path: %s}
`, n.path("volume")), "apply", "-f", "-")
}

// status reads the status of an object of ours.
func (n *node) status(kind, name string, path ...string) (any, error) {
	o := &unstructured.Unstructured{}
	o.SetAPIVersion("toolhive.stacklok.dev/v1beta1")
	o.SetKind(kind)
	if err := n.client.Get(context.Background(), client.ObjectKey{Namespace: team, Name: name}, o); err != nil {
		return nil, err
	}
	return k8s.At(o.Object, append([]string{"status"}, path...)...), nil
}

func (n *node) becomes(t *testing.T, kind, name, phase string) {
	t.Helper()
	n.eventually(t, kind+" "+name+" is "+phase, func() error {
		got, err := n.status(kind, name, "phase")
		if err == nil && got != phase {
			message, _ := n.status(kind, name, "message")
			err = fmt.Errorf("it is %v: %v", got, message)
		}
		return err
	})
}

