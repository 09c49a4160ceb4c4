// Package chart compares the Helm chart with the manifests for kustomize: they install the same.
package chart

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"

	"vmcp/deploy/k8s"
)

const (
	manifests = "../../../deploy/k8s/operator"
	folder    = "../../../deploy/helm/vmcp-operator"
)

var update = flag.Bool("update", false, "copy the definitions into the chart")

// render is what helm install would apply, by kind, namespace and name.
func render(t *testing.T, values map[string]any) map[string]map[string]any {
	t.Helper()
	chart, err := loader.Load(folder)
	if err != nil {
		t.Fatal(err)
	}
	full, err := util.ToRenderValues(chart, values, common.ReleaseOptions{Name: "vmcp", Namespace: "vmcp-system", Revision: 1, IsInstall: true}, common.DefaultCapabilities)
	if err != nil {
		t.Fatal(err)
	}
	files, err := engine.Render(chart, full)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]map[string]any{}
	for name, text := range files {
		for d := yaml.NewDecoder(strings.NewReader(text)); ; {
			var doc map[string]any
			if err := d.Decode(&doc); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v\n%s", name, err, text)
			}
			if doc != nil {
				all[title(doc)] = doc
			}
		}
	}
	return all
}

func title(doc map[string]any) string {
	return fmt.Sprint(doc["kind"], " ", k8s.At(doc, "metadata", "namespace"), "/", k8s.At(doc, "metadata", "name"))
}

// TestSame: with the values that the chart comes with it is what kubectl apply -k installs, but for the namespace, which
// helm makes, and for the mark that keeps the definitions.
func TestSame(t *testing.T) {
	kustomization, err := k8s.Documents(os.DirFS(manifests), "kustomization.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]map[string]any{}
	for _, name := range k8s.List(kustomization[0], "resources") {
		docs, err := k8s.Documents(os.DirFS(manifests), fmt.Sprint(name))
		if err != nil {
			t.Fatal(err)
		}
		for _, doc := range docs {
			if doc["kind"] != "Namespace" {
				want[title(doc)] = doc
			}
		}
		if text, err := os.ReadFile(filepath.Join(manifests, fmt.Sprint(name))); strings.HasPrefix(fmt.Sprint(name), "crds/") {
			if err != nil {
				t.Fatal(err)
			}
			to := filepath.Join(folder, "crds-of-operator", filepath.Base(fmt.Sprint(name)))
			if *update {
				if err := os.WriteFile(to, text, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if have, _ := os.ReadFile(to); !bytes.Equal(have, text) {
				t.Errorf("%s is not %s: go test ./chart -update copies it", to, name)
			}
		}
	}
	got := render(t, map[string]any{"crds": map[string]any{"keep": false}})
	if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got))); diff != "" {
		t.Errorf("the chart has other objects (-kustomize +chart):\n%s", diff)
	}
	for name := range want {
		if diff := cmp.Diff(plain(t, want[name]), plain(t, got[name])); diff != "" {
			t.Errorf("%s (-kustomize +chart):\n%s", name, diff)
		}
	}
	if kept := render(t, nil)["CustomResourceDefinition <nil>/mcpgroups.toolhive.stacklok.dev"]; k8s.At(kept, "metadata", "annotations", "helm.sh/resource-policy") != "keep" {
		t.Error("the definitions, and with them all documents, go with the chart")
	}
}

// plain gives numbers and texts one form.
func plain(t *testing.T, doc map[string]any) string {
	t.Helper()
	text, err := yaml.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestNamespaces: an operator for some namespaces may do nothing elsewhere.
func TestNamespaces(t *testing.T) {
	all := render(t, map[string]any{"namespaces": []any{"one", "two"}, "registryMirrors": map[string]any{"ghcr.io": "https://m.example.com"},
		"image": map[string]any{"repository": "registry.example.com/vmcp-operator", "tag": "v3"}, "tolerations": []any{map[string]any{"operator": "Exists"}}})
	for name := range all {
		if strings.HasPrefix(name, "ClusterRole") {
			t.Errorf("there is a %s", name)
		}
	}
	for _, ns := range []string{"one", "two"} {
		if all["Role "+ns+"/vmcp-operator"] == nil || all["RoleBinding "+ns+"/vmcp-operator"] == nil {
			t.Errorf("nothing is permitted in %s", ns)
		}
	}
	pod := k8s.At(all["Deployment vmcp-system/vmcp-operator"], "spec", "template", "spec")
	args := fmt.Sprint(k8s.At(pod, "containers", "operator", "args"))
	for _, want := range []string{"-namespaces=one,two", "-registry-mirror=ghcr.io=https://m.example.com"} {
		if !strings.Contains(args, want) {
			t.Errorf("args %s, want %s", args, want)
		}
	}
	if image := k8s.At(pod, "containers", "operator", "image"); image != "registry.example.com/vmcp-operator:v3" || k8s.At(pod, "tolerations") == nil {
		t.Errorf("image %v, tolerations %v", image, k8s.At(pod, "tolerations"))
	}
}
