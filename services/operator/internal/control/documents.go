package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"vmcp/api/crds"
	"vmcp/api/v1beta1"
	"vmcp/internal/gatewayconfig"
	"vmcp/services/operator/internal/render"
)

// documents are the objects of our kinds in one namespace.
type documents struct {
	all []*render.Object // by kind, then by name
}

// list reads them from the cache.
func (r *Reconciler) list(ctx context.Context, namespace string) (*documents, error) {
	d := &documents{}
	for _, kind := range crds.Kinds() {
		list := &unstructured.UnstructuredList{}
		list.SetAPIVersion(v1beta1.Group + "/" + v1beta1.Versions[0])
		list.SetKind(kind)
		if err := r.Client.List(ctx, list, client.InNamespace(namespace)); err != nil {
			return nil, fmt.Errorf("listing %s: %w", kind, err)
		}
		slices.SortFunc(list.Items, func(a, b render.Object) int { return strings.Compare(a.GetName(), b.GetName()) })
		for i := range list.Items {
			if o := list.Items[i].DeepCopy(); o.GetDeletionTimestamp() == nil {
				d.all = append(d.all, o)
			}
		}
	}
	return d, nil
}

func (d *documents) of(kind string) []*render.Object {
	var list []*render.Object
	for _, o := range d.all {
		if o.GetKind() == kind {
			list = append(list, o)
		}
	}
	return list
}

func (d *documents) find(kind, name string) *render.Object {
	for _, o := range d.all {
		if o.GetKind() == kind && o.GetName() == name {
			return o
		}
	}
	return nil
}

// pruned is what a person wrote of an object: its name, our annotations and its spec, in the older version of the kinds,
// which takes references by plain name too. They may be stored as such.
func pruned(o *render.Object) map[string]any {
	annotations := map[string]any{}
	for key, value := range o.GetAnnotations() {
		if strings.HasPrefix(key, "vmcp/") {
			annotations[key] = value
		}
	}
	meta := map[string]any{"name": o.GetName()}
	if len(annotations) > 0 {
		meta["annotations"] = annotations
	}
	out := map[string]any{"apiVersion": v1beta1.Group + "/v1alpha1", "kind": o.GetKind(), "metadata": meta}
	if spec, ok := o.Object["spec"]; ok {
		out["spec"] = spec
	}
	return out
}

// title is how an object is called where a file's name would stand.
func title(kind, name string) string { return kind + "/" + name }

func asObject(name string, doc map[string]any) (gatewayconfig.Object, error) {
	text, err := json.Marshal(doc)
	return gatewayconfig.Object{Name: name, YAML: text}, err
}

// typed decodes an object of ours.
func typed(o *render.Object) (any, error) {
	doc, err := asObject(title(o.GetKind(), o.GetName()), pruned(o))
	if err != nil {
		return nil, err
	}
	return gatewayconfig.Read(doc)
}

// resolve makes the gateway of one VirtualMCPServer, and gives the documents that it was made from, by title. addresses are
// those of the servers that run in pods of ours. Servers that something is wrong with are left out, which faults says.
func (d *documents) resolve(ctx context.Context, a *asked, name string, addresses map[string]string) (g *gatewayconfig.Gateway, docs map[string]map[string]any, faults gatewayconfig.Problems, err error) {
	src := gatewayconfig.Source{Name: name, Objects: []gatewayconfig.Object{}}
	docs = map[string]map[string]any{}
	for _, o := range d.all {
		doc := pruned(o)
		if address := addresses[o.GetName()]; o.GetKind() == "MCPServer" && address != "" {
			unstructured.SetNestedField(doc, address, "metadata", "annotations", gatewayconfig.AddressAnnotation)
		}
		docs[title(o.GetKind(), o.GetName())] = doc
		object, err := asObject(title(o.GetKind(), o.GetName()), doc)
		if err != nil {
			return nil, nil, nil, err
		}
		src.Objects = append(src.Objects, object)
	}
	src.Lookup = func(kind, _, name string) (*gatewayconfig.Object, error) {
		doc := map[string]any{"apiVersion": "v1", "kind": kind, "metadata": map[string]any{"name": name}}
		switch kind {
		case "Secret":
			s, err := a.secret(ctx, name)
			if s == nil {
				return nil, err
			}
			doc["data"] = s.Data
		case "ConfigMap":
			c, err := a.configMap(ctx, name)
			if c == nil {
				return nil, err
			}
			doc["data"] = c.Data
			docs[title(kind, name)] = doc
		}
		object, err := asObject(title(kind, name), doc)
		return &object, err
	}
	g, err = gatewayconfig.Load(src)
	var problems gatewayconfig.Problems
	if !errors.As(err, &problems) {
		return g, docs, nil, err
	}
	// One server's fault costs that server.
	wrong := map[string]bool{}
	for _, p := range problems {
		kind, _, _ := strings.Cut(p.File, "/")
		if !slices.Contains(backendKinds, kind) {
			return nil, nil, nil, problems
		}
		wrong[p.File] = true
	}
	src.Objects = slices.DeleteFunc(src.Objects, func(o gatewayconfig.Object) bool { return wrong[o.Name] })
	if g, err = gatewayconfig.Load(src); err != nil {
		return nil, nil, nil, problems
	}
	return g, docs, problems, nil
}

// backendKinds are those of servers.
var backendKinds = []string{"MCPServer", "MCPServerEntry", "MCPRemoteProxy"}

// maxDocuments is what a ConfigMap may hold, and some room.
const maxDocuments = 1_000_000

// files are the documents of a gateway as its pods read them, one a file.
func files(config *gatewayconfig.Gateway, docs map[string]map[string]any) (map[string]any, error) {
	all, size := map[string]any{}, 0
	for _, use := range config.Uses {
		doc := docs[title(use.Kind, use.Name)]
		if use.Kind == "Secret" || doc == nil {
			continue
		}
		text, err := yaml.Marshal(doc)
		if err != nil {
			return nil, err
		}
		all[strings.ToLower(use.Kind)+"-"+use.Name+".yaml"] = string(text)
		size += len(text)
	}
	if size > maxDocuments {
		return nil, fmt.Errorf("the documents have %d bytes, and a ConfigMap takes %d: divide the group among several VirtualMCPServers", size, maxDocuments)
	}
	return all, nil
}
