package k8s

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"vmcp/internal/mtls"
)

// TestReadme: the folder of one's own that README.md describes fits base: it replaces images and documents that are
// there. And it says who makes each Secret that pods mount, and names the roles that there are.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(readme), "```yaml\n")
	block, _, _ = strings.Cut(block, "```")
	var own object
	if err := yaml.NewDecoder(strings.NewReader(block)).Decode(&own); err != nil {
		t.Fatal(err)
	}
	all := resources(t)
	var manifests bytes.Buffer
	if err := yaml.NewEncoder(&manifests).Encode(all); err != nil {
		t.Fatal(err)
	}
	var images []string
	for _, image := range List(own, "images") {
		images = append(images, text(image, "name"))
		if !strings.Contains(manifests.String(), "image: "+text(image, "name")+":") {
			t.Errorf("README.md replaces the image %s, which no pod has", text(image, "name"))
		}
	}
	if want := []string{"vmcp-authz", "vmcp-authserver", "vmcp-aggregator"}; !slices.Equal(images, want) {
		t.Errorf("README.md replaces the images %v, want %v", images, want)
	}
	for _, generated := range List(own, "configMapGenerator") {
		if !slices.ContainsFunc(kind(all, "ConfigMap"), func(o object) bool { return text(o, "metadata", "name") == text(generated, "name") }) {
			t.Errorf("README.md replaces the ConfigMap %s, which base does not have", text(generated, "name"))
		}
	}

	_, rows, _ := strings.Cut(string(readme), "| Secret | keys |")
	rows, _, _ = strings.Cut(rows, "```")
	rows = strings.ReplaceAll(rows, "`-", "`vmcp-tls-") // the names after the first of a row
	mounted := map[string]bool{}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case object:
			if name, ok := v["secretName"].(string); ok {
				mounted[name] = true
			}
			for _, child := range v {
				walk(child)
			}
		case []any:
			for _, child := range v {
				walk(child)
			}
		}
	}
	for _, o := range all {
		walk(o)
	}
	if len(mounted) == 0 {
		t.Fatal("no pod mounts a Secret")
	}
	for name := range mounted {
		if !strings.Contains(rows, "`"+name+"`") {
			t.Errorf("README.md does not say who makes the Secret %s", name)
		}
	}

	roles := mtls.Roles
	named := regexp.MustCompile("`([a-z]+\\.vmcp\\.internal)`").FindAllStringSubmatch(string(readme), -1)
	if len(named) == 0 {
		t.Error("README.md names no role")
	}
	for _, m := range named {
		if !slices.Contains(roles, mtls.Role(m[1])) {
			t.Errorf("README.md names %s, which is no role", m[1])
		}
	}
}

// examples are what stands beside base.
func examples(t *testing.T) []object {
	t.Helper()
	all, err := StdioServer()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// installs says of an init container that it only copies its program, and ends.
func installs(container any) bool {
	args := List(container, "args")
	return len(args) == 1 && strings.HasPrefix(fmt.Sprint(At(args[0])), "-install=") && At(container, "restartPolicy") == nil
}

// TestPermissionsPage: docs/kubernetes.md says of everything that the operator may do why, and of nothing else.
func TestPermissionsPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/kubernetes.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "| resources | verbs | why |\n|---|---|---|\n")
	table, _, _ = strings.Cut(table, "\n\n")
	said := map[string]bool{}
	for row := range strings.Lines(table) {
		cells := strings.Split(row, "|")
		what := strings.TrimSuffix(strings.TrimSpace(cells[1]), ", in its own namespace")
		for _, resource := range strings.FieldsFunc(strings.ReplaceAll(what, " and ", ","), func(r rune) bool { return r == ',' || r == ' ' }) {
			for verb := range strings.SplitSeq(cells[2], ",") {
				said[resource+" "+strings.TrimSpace(verb)] = true
			}
		}
	}
	for _, verb := range []string{"get", "list", "watch"} {
		delete(said, "the "+verb)
		delete(said, "nine "+verb)
		if !said["kinds "+verb] {
			t.Errorf("the kinds have no %s", verb)
		}
		delete(said, "kinds "+verb)
	}
	docs, err := Documents(os.DirFS("operator"), "rbac.yaml")
	if err != nil {
		t.Fatal(err)
	}
	given := map[string]bool{"their patch": true, "status patch": true}
	for _, doc := range docs {
		for _, rule := range List(doc, "rules") {
			if fmt.Sprint(At(rule, "apiGroups", "0")) == "toolhive.stacklok.dev" {
				continue
			}
			for _, resource := range List(rule, "resources") {
				for _, verb := range List(rule, "verbs") {
					given[fmt.Sprint(resource, " ", verb)] = true
					if !said[fmt.Sprint(resource, " ", verb)] {
						t.Errorf("the page does not say that the operator may %v %v", verb, resource)
					}
				}
			}
		}
	}
	for what := range said {
		if !given[what] && !strings.HasPrefix(what, "events ") {
			t.Errorf("the page says %q, which rbac.yaml does not give", what)
		}
	}
}
