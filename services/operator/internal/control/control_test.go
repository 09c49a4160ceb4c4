package control

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"go.uber.org/zap/zapcore"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	metrics "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"vmcp/deploy/k8s"
	"vmcp/services/operator/internal/images"
	"vmcp/services/operator/internal/render"
)

const root = "../../../.."

var cluster, cached client.Client // of the API server, and as the operator sees it

// TestMain starts a real API server with an operator, for all tests; each has a namespace of its own.
func TestMain(m *testing.M) {
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		fmt.Println("SKIPPED: no programs of Kubernetes; make e2e-k8s builds them and runs this")
		return
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	ctrl.SetLogger(zap.New(zap.Level(zapcore.WarnLevel)))
	env := &envtest.Environment{CRDDirectoryPaths: []string{filepath.Join(root, "deploy/k8s/operator/crds")}, ErrorIfCRDPathMissing: true}
	config, err := env.Start()
	if err != nil {
		panic(err)
	}
	defer env.Stop()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel() // before the API server ends
	host := serveImages()
	mgr, err := ctrl.NewManager(config, Options(ctrl.Options{Metrics: metrics.Options{BindAddress: "0"}}))
	if err != nil {
		panic(err)
	}
	r := &Reconciler{Images: render.Images{Prefix: "registry.example.com/vmcp-", Tag: "v1", Envoy: "envoy"}, Now: time.Now,
		Registry: &images.Registry{Mirrors: map[string]string{"ghcr.io": "http://" + host}}}
	if err := r.Start(mgr); err != nil {
		panic(err)
	}
	go mgr.Start(ctx)
	cached = mgr.GetClient()
	if cluster, err = client.New(config, client.Options{}); err != nil {
		panic(err)
	}
	return m.Run()
}

// serveImages is a registry with the guide's images.
func serveImages() (host string) {
	s := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	host = strings.TrimPrefix(s.URL, "http://")
	for image, config := range map[string]v1.Config{
		"github/github-mcp-server:latest":               {Entrypoint: []string{"/server/github-mcp-server"}, Cmd: []string{"stdio"}},
		"stackloklabs/yardstick/yardstick-server:1.1.1": {Entrypoint: []string{"/yardstick"}},
	} {
		made, err := mutate.Config(empty.Image, config)
		if err != nil {
			panic(err)
		}
		ref, err := name.ParseReference(host + "/" + image)
		if err != nil {
			panic(err)
		}
		if err := remote.Write(ref, made); err != nil {
			panic(err)
		}
	}
	return host
}

// namespace is a new one, and a function that changes what is in it.
func namespace(t *testing.T) string {
	t.Helper()
	ns := &corev1.Namespace{}
	ns.GenerateName = "test-"
	if err := cluster.Create(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	return ns.Name
}

// create creates the documents of text.
func create(t *testing.T, ns, text string) {
	t.Helper()
	docs, err := k8s.Documents(fstest.MapFS{"docs.yaml": {Data: []byte(text)}}, "docs.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range docs {
		o := &unstructured.Unstructured{Object: d}
		o.SetNamespace(ns)
		if err := cluster.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
}

func secret(t *testing.T, ns, name, key, value string) {
	t.Helper()
	s := &corev1.Secret{StringData: map[string]string{key: value}}
	s.Namespace, s.Name = ns, name
	if err := cluster.Create(t.Context(), s); err != nil {
		t.Fatal(err)
	}
}

// get reads an object; nil: it is not there.
func get(t *testing.T, ns, apiVersion, kind, name string) *unstructured.Unstructured {
	t.Helper()
	o := &unstructured.Unstructured{}
	o.SetAPIVersion(apiVersion)
	o.SetKind(kind)
	switch err := cluster.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: name}, o); {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		t.Fatal(err)
	}
	return o
}

const ours = "toolhive.stacklok.dev/v1beta1"

// await waits until an object has a value at a path of its status.
func await(t *testing.T, ns, kind, name, want string, path ...string) {
	t.Helper()
	var got any
	for range 300 {
		if o := get(t, ns, ours, kind, name); o != nil {
			if got = k8s.At(o.Object, append([]string{"status"}, path...)...); strings.Contains(fmt.Sprint(got), want) {
				return
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	o := get(t, ns, ours, kind, name)
	t.Fatalf("%s %s: status %v is %v, want %q in it; all of it: %v", kind, name, path, got, want, k8s.At(o.Object, "status"))
}

func guide(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docs/examples/engineering-tools.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestGuide: the guide's documents as they are become pods, step by step as its Secrets are made.
func TestGuide(t *testing.T) {
	ns := namespace(t)
	create(t, ns, guide(t))
	await(t, ns, "VirtualMCPServer", "engineering-tools", "no Secret idp-client-secret in the namespace: kubectl create secret generic idp-client-secret", "message")
	await(t, ns, "MCPServer", "github-backend", "no Secret github-pat", "message")
	secret(t, ns, "idp-client-secret", "client-secret", "from the portal")
	secret(t, ns, "github-pat", "token", "ghp_x")
	await(t, ns, "VirtualMCPServer", "engineering-tools", "Pending", "phase")
	await(t, ns, "MCPServer", "github-backend", "Pending", "phase")
	await(t, ns, "MCPServer", "kubernetes-backend", "Pending", "phase")
	await(t, ns, "MCPServer", "github-backend", "/server/github-mcp-server", "image", "command")
	for _, o := range [][2]string{
		{"Deployment", "engineering-tools"}, {"Deployment", "engineering-tools-aggregator"}, {"StatefulSet", "engineering-tools-authserver"},
		{"Deployment", "github-backend"}, {"Deployment", "kubernetes-backend"},
	} {
		if get(t, ns, "apps/v1", o[0], o[1]) == nil {
			t.Errorf("there is no %s %s", o[0], o[1])
		}
	}
}
