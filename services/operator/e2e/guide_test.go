package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
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

// folder is a user's own, beside a clone, with the guide's documents in it.
func (n *node) folder(t *testing.T, guide []byte) {
	t.Helper()
	n.copyOperator(t)
	n.write(t, "folder/engineering-tools.yaml", string(guide))
	// The version to begin with has a field less.
	name := "folder/vmcp/deploy/k8s/operator/crds/virtualmcpservers.yaml"
	text, err := os.ReadFile(n.path(name))
	must(t, err)
	var older []string
	field := regexp.MustCompile(`^( +)passthroughHeaders:`)
	indent := ""
	for line := range strings.Lines(string(text)) {
		if m := field.FindStringSubmatch(line); m != nil {
			indent = m[1]
			continue
		}
		if indent != "" && strings.HasPrefix(line, indent+" ") {
			continue
		}
		indent = ""
		older = append(older, line)
	}
	if len(older) == strings.Count(string(text), "\n") {
		t.Fatal("the definition has no field passthroughHeaders to leave out")
	}
	n.write(t, name, strings.Join(older, ""))
}

// copyOperator puts deploy/k8s/operator where the folder names it.
func (n *node) copyOperator(t *testing.T) {
	t.Helper()
	to := n.path("folder/vmcp/deploy/k8s/operator")
	must(t, os.RemoveAll(to))
	must(t, os.MkdirAll(to, 0o755))
	must(t, os.CopyFS(to, os.DirFS(filepath.Join(root, "deploy/k8s/operator"))))
}

var block = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// page runs the commands of one section of docs/kubernetes.md, as they stand there: all blocks, or those with these numbers.
func (n *node) page(t *testing.T, section string, numbers ...int) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docs/kubernetes.md"))
	must(t, err)
	_, rest, found := strings.Cut(string(text), "\n## "+section+"\n")
	rest, _, _ = strings.Cut(rest, "\n## ")
	blocks := block.FindAllStringSubmatch(rest, -1)
	if !found || len(blocks) == 0 {
		t.Fatalf("docs/kubernetes.md has no commands in a section %s", section)
	}
	for i, b := range blocks {
		if len(numbers) > 0 && !slices.Contains(numbers, i) {
			continue
		}
		cmd := exec.Command("bash", "-euo", "pipefail", "-c", b[1])
		cmd.Dir = n.path("folder")
		cmd.Env = append(os.Environ(), "HOME="+n.dir, "KUBECONFIG="+n.path("admin.kubeconfig"), "PATH="+programs+":"+os.Getenv("PATH"), "CLIENT_SECRET=from the portal", "GITHUB_PAT=ghp_x")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("docs/kubernetes.md, section %s: %v\n%s\n%s", section, err, b[1], out)
		}
	}
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
apiVersion: apps/v1
kind: Deployment
metadata: {name: entra, namespace: entra}
spec:
  selector: {matchLabels: {app: entra}}
  template:
    metadata: {labels: {app: entra}}
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
