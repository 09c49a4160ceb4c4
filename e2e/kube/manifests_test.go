package kube

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmcp/deploy/k8s"
	"vmcp/internal/await"
	"vmcp/internal/gatewayconfig"
)

const root = "../.."

func documents(t *testing.T, path string) []map[string]any {
	t.Helper()
	all, err := k8s.Documents(os.DirFS(filepath.Dir(path)), filepath.Base(path))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func name(object map[string]any) string {
	return fmt.Sprint(object["kind"], " ", k8s.At(object, "metadata", "name"))
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(root, pattern))
	if err != nil || len(all) == 0 {
		t.Fatalf("no files %s: %v", pattern, err)
	}
	return all
}

// TestAPIServer: the API server takes what we ship: our kinds, the manifests, and every document of the examples, none of
// them with a field that it does not know, the pods also where the Pod Security Standard is "restricted"; and what it gives back is the same gateway.
func TestAPIServer(t *testing.T) {
	c := start(t)
	for _, namespace := range []string{"vmcp", "mcp-servers", "documents", "restricted"} {
		labels := map[string]any{}
		if namespace == "restricted" {
			labels["pod-security.kubernetes.io/enforce"] = "restricted"
		}
		if status, message := c.create(t, map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": namespace, "labels": labels}}, "", ""); status != 201 {
			t.Fatalf("namespace %s: %d %s", namespace, status, message)
		}
	}
	for _, file := range glob(t, "deploy/k8s/operator/crds/*.yaml") {
		for _, crd := range documents(t, file) {
			if status, message := c.create(t, crd, "", ""); status != 201 {
				t.Errorf("%s: %d %s", name(crd), status, message)
				continue
			}
			await.That(t, name(crd)+" is established", func() bool {
				_, body := c.do(t, "GET", path(crd, "")+"/"+fmt.Sprint(k8s.At(crd, "metadata", "name")), nil)
				return bytes.Contains(body, []byte(`"type":"Established"`)) && !bytes.Contains(body, []byte(`"type":"NonStructuralSchema"`)) || t.Failed()
			})
		}
	}
	t.Run("manifests", func(t *testing.T) {
		all, err := k8s.Resources()
		if err != nil {
			t.Fatal(err)
		}
		more, err := k8s.StdioServer()
		if err != nil {
			t.Fatal(err)
		}
		for _, object := range slices.Concat(all, more) {
			if object["apiVersion"] == nil { // made by kustomize
				object["apiVersion"] = "v1"
			}
			namespace, _ := k8s.At(object, "metadata", "namespace").(string)
			if namespace == "" {
				namespace = "vmcp"
			}
			if object["kind"] == "Namespace" {
				continue // there already
			}
			if template := k8s.At(object, "spec", "template", "spec"); template != nil { // a Deployment is taken whatever its pods are
				spec := maps.Clone(template.(map[string]any))
				for _, claim := range k8s.List(object, "spec", "volumeClaimTemplates") {
					spec["volumes"] = append(slices.Clone(k8s.List(spec, "volumes")), map[string]any{"name": k8s.At(claim, "metadata", "name"),
						"persistentVolumeClaim": map[string]any{"claimName": "one"}})
				}
				pod := map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "one"}, "spec": spec}
				if status, message := c.create(t, pod, "restricted", "&dryRun=All"); status != 201 {
					t.Errorf("a pod of %s where pods are restricted: %d %s", name(object), status, message)
				}
			}
			if status, message := c.create(t, object, namespace, "&dryRun=All"); status != 201 {
				t.Errorf("%s: %d %s", name(object), status, message)
			}
		}
	})
	t.Run("documents", func(t *testing.T) { c.testDocuments(t) })
	t.Run("strict", func(t *testing.T) {
		group := map[string]any{"apiVersion": "toolhive.stacklok.dev/v1beta1", "kind": "MCPGroup", "metadata": map[string]any{"name": "typo"},
			"spec": map[string]any{"descriptoin": "x"}}
		if status, message := c.create(t, group, "documents", ""); status != 400 || !strings.Contains(message, `unknown field "spec.descriptoin"`) {
			t.Errorf("a misspelt field: %d %s", status, message)
		}
		// v1alpha1 may name what it refers to without a member for the name.
		entry := map[string]any{"apiVersion": "toolhive.stacklok.dev/v1alpha1", "kind": "MCPServerEntry", "metadata": map[string]any{"name": "old"},
			"spec": map[string]any{"groupRef": "team", "transport": "streamable-http", "remoteUrl": "https://a.example.com/mcp"}}
		if status, message := c.create(t, entry, "documents", ""); status != 201 {
			t.Errorf("v1alpha1: %d %s", status, message)
		}
		group["spec"] = map[string]any{"description": 5}
		if status, message := c.create(t, group, "documents", ""); status != 422 || !strings.Contains(message, "spec.description") {
			t.Errorf("a wrong type: %d %s", status, message)
		}
	})
}

// testDocuments creates the documents of each file, reads them back, and wants the gateway of the file.
func (c *cluster) testDocuments(t *testing.T) {
	fill := strings.NewReplacer("<your-vmcp-endpoint>", "mcp.example.com", "<your-mcp-endpoint>", "mcp.example.com",
		"<TENANT_ID>", "11111111-2222-3333-4444-555555555555", "<client-id>", "66666666-7777-8888-9999-000000000000",
		"<YOUR_CLIENT_ID>", "66666666-7777-8888-9999-000000000000", "<CLIENT_ID>", "66666666-7777-8888-9999-000000000000")
	files := slices.Concat(glob(t, "docs/examples/*.yaml"), glob(t, "deploy/k8s/base/documents/*.yaml"))
	for i, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		filled := filepath.Join(t.TempDir(), "documents.yaml")
		if err := os.WriteFile(filled, []byte(fill.Replace(string(text))), 0o600); err != nil {
			t.Fatal(err)
		}
		namespace := fmt.Sprint("documents-", i)
		c.create(t, map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": namespace}}, "", "")
		var back []byte
		for _, doc := range documents(t, filled) {
			if status, message := c.create(t, doc, namespace, ""); status != 201 {
				t.Errorf("%s: %s: %d %s", file, name(doc), status, message)
				continue
			}
			status, body := c.do(t, "GET", path(doc, namespace)+"/"+fmt.Sprint(k8s.At(doc, "metadata", "name")), nil)
			if status != 200 {
				t.Errorf("%s: %s cannot be read back: %d", file, name(doc), status)
			}
			back = append(append(back, "---\n"...), body...) // JSON is YAML
			back = append(back, '\n')
		}
		stored := filepath.Join(t.TempDir(), "documents.yaml")
		if err := os.WriteFile(stored, back, 0o600); err != nil {
			t.Fatal(err)
		}
		load := func(path string) *gatewayconfig.Gateway {
			g, err := gatewayconfig.Load(gatewayconfig.Source{Paths: []string{path}, Loopback: true})
			if err != nil {
				t.Errorf("%s: %v", file, err)
				return nil
			}
			g.Notes = nil // they name lines
			for i := range g.Authz.Policies.Texts {
				g.Authz.Policies.Texts[i].File, g.Authz.Policies.Texts[i].Line = "", 0
			}
			return g
		}
		if diff := cmp.Diff(load(filled), load(stored)); diff != "" {
			t.Errorf("%s: the API server gives back another gateway (-file +API server):\n%s", file, diff)
		}
	}
}
