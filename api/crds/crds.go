// Package crds makes the CustomResourceDefinitions of our kinds from their Go types: what the API server checks of a
// document before anybody of ours sees it. It owns what a cluster shows of them (names, columns); what the fields are is
// api/v1beta1's, and whether a gateway follows from them internal/gatewayconfig's.
package crds

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"vmcp/api/v1beta1"
)

// object is a part of a document, with its members in the order of yaml.Marshal: by name.
type object = map[string]any

// kind is what a definition has besides the shape of its spec.
type kind struct {
	spec    any
	plural  string
	short   []string
	columns []object
}

func column(name, kind, path string) object {
	return object{"name": name, "type": kind, "jsonPath": path}
}

var (
	phase  = column("Phase", "string", ".status.phase")
	ready  = column("Ready", "string", `.status.conditions[?(@.type=="Ready")].status`)
	group  = column("Group", "string", ".spec.groupRef.name")
	remote = column("URL", "string", ".spec.remoteUrl")
	age    = column("Age", "date", ".metadata.creationTimestamp")
)

var kinds = map[string]kind{
	"MCPGroup": {v1beta1.MCPGroupSpec{}, "mcpgroups", []string{"mcpg", "mcpgroup"}, []object{phase,
		column("Servers", "integer", ".status.serverCount"), age}},
	"MCPServer": {v1beta1.MCPServerSpec{}, "mcpservers", []string{"mcpserver"}, []object{phase, ready, group,
		column("URL", "string", ".status.url"), age}},
	"MCPServerEntry":        {v1beta1.MCPServerEntrySpec{}, "mcpserverentries", []string{"mcpentry"}, []object{phase, group, remote, age}},
	"MCPRemoteProxy":        {v1beta1.MCPRemoteProxySpec{}, "mcpremoteproxies", []string{"mcprp"}, []object{phase, group, remote, age}},
	"MCPOIDCConfig":         {v1beta1.MCPOIDCConfigSpec{}, "mcpoidcconfigs", []string{"mcpoidc"}, []object{column("Type", "string", ".spec.type"), age}},
	"MCPExternalAuthConfig": {v1beta1.MCPExternalAuthConfigSpec{}, "mcpexternalauthconfigs", []string{"mcpexternalauth"}, []object{column("Type", "string", ".spec.type"), age}},
	"MCPAuthzConfig":        {v1beta1.MCPAuthzConfigSpec{}, "mcpauthzconfigs", []string{"mcpauthz"}, []object{column("Type", "string", ".spec.type"), age}},
	"MCPToolConfig":         {v1beta1.MCPToolConfigSpec{}, "mcptoolconfigs", []string{"mcptoolconfig"}, []object{age}},
	"VirtualMCPServer": {v1beta1.VirtualMCPServerSpec{}, "virtualmcpservers", []string{"vmcp", "virtualmcp"}, []object{phase,
		column("URL", "string", ".status.url"), column("Backends", "integer", ".status.backendCount"), ready, age}},
}

// Kinds are the names of all kinds, in order.
func Kinds() []string {
	var names []string
	for name := range kinds {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Plural is how the API server names the kind in paths.
func Plural(name string) string { return kinds[name].plural }

// Definition is the CustomResourceDefinition of a kind, as YAML. docs are the descriptions of fields and types, by
// TYPE.FIELD and TYPE, as Go names them.
func Definition(name string, docs map[string]string) ([]byte, error) {
	k, ok := kinds[name]
	if !ok {
		return nil, fmt.Errorf("no kind %s", name)
	}
	var versions []any
	for i, v := range v1beta1.Versions {
		s := schema{docs: docs, names: v == "v1alpha1"}
		spec := s.of(reflect.TypeOf(k.spec))
		shape := object{
			"type": "object", "description": docs[name],
			"properties": object{
				"apiVersion": object{"type": "string"}, "kind": object{"type": "string"}, "metadata": object{"type": "object"},
				"spec":   spec,
				"status": object{"type": "object", "x-kubernetes-preserve-unknown-fields": true},
			},
		}
		if spec["required"] != nil {
			shape["required"] = []string{"spec"}
		}
		versions = append(versions, object{
			"name": v, "served": true, "storage": i == 0, "additionalPrinterColumns": k.columns,
			"subresources": object{"status": object{}},
			"schema":       object{"openAPIV3Schema": shape},
		})
	}
	return yaml.Marshal(object{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
		"metadata": object{"name": k.plural + "." + v1beta1.Group},
		"spec": object{
			"group": v1beta1.Group, "scope": "Namespaced", "versions": versions,
			"names": object{"kind": name, "listKind": name + "List", "plural": k.plural, "singular": strings.ToLower(name), "shortNames": k.short},
		},
	})
}

// schema makes structural schemas (OpenAPI v3) of Go types.
type schema struct {
	docs  map[string]string
	names bool // v1alpha1: a reference may be a plain name
	above []reflect.Type
}

func (s schema) of(t reflect.Type) object {
	if reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return object{"type": "string"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.of(t.Elem())
	case reflect.Struct:
		return s.structure(t)
	case reflect.Map:
		return object{"type": "object", "additionalProperties": s.of(t.Elem())}
	case reflect.Slice:
		return object{"type": "array", "items": s.of(t.Elem())}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Float32, reflect.Float64:
		return object{"type": "number"}
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint32:
		return object{"type": "integer", "format": "int64"}
	case reflect.Interface:
		return object{"x-kubernetes-preserve-unknown-fields": true}
	}
	panic(fmt.Sprintf("a field of type %s has no schema", t))
}

func (s schema) structure(t reflect.Type) object {
	anything := object{"x-kubernetes-preserve-unknown-fields": true}
	if slices.Contains(s.above, t) { // a step of a loop: schemas have no references
		return anything
	}
	s.above = append(slices.Clone(s.above), t)
	properties := object{}
	var required []string
	s.fields(t, properties, &required)
	out := object{"type": "object", "properties": properties}
	if s.names && properties["name"] != nil && (strings.HasSuffix(t.Name(), "Ref") || strings.HasSuffix(t.Name(), "Reference")) {
		return anything
	}
	if text := s.docs[t.Name()]; text != "" {
		out["description"] = text
	}
	if len(required) > 0 {
		out["required"] = required
	}
	return out
}

func (s schema) fields(t reflect.Type, properties object, required *[]string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && name == "" {
			s.fields(f.Type, properties, required)
			continue
		}
		p := s.of(f.Type)
		if text := s.docs[t.Name()+"."+f.Name]; text != "" {
			p["description"] = text
		}
		properties[name] = p
		if !strings.Contains(options, "omit") && f.Type.Kind() != reflect.Bool {
			*required = append(*required, name)
		}
	}
}
