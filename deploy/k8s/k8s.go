// Package k8s holds the manifests of the gateway as they are shipped, for tests.
//
// Its own tests show that what the manifests name is there, that the pods are locked down, and that Envoy's files are
// those of deploy/envoy. That the programs start with them and serve a call is a story of e2e; that kustomize accepts
// them is part of make lint.
package k8s

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"go.yaml.in/yaml/v3"
)

//go:embed base examples
var files embed.FS

// Resources are the objects of base as kustomize renders them, but for the namespace and the suffix of a ConfigMap's
// name: base has no patches. ConfigMaps that kustomize generates have their files as data.
func Resources() ([]map[string]any, error) {
	kustomization, err := documents("base/kustomization.yaml")
	if err != nil {
		return nil, err
	}
	var all []map[string]any
	for _, r := range List(kustomization[0], "resources") {
		docs, err := documents("base/" + fmt.Sprint(r))
		if err != nil {
			return nil, err
		}
		all = append(all, docs...)
	}
	for _, g := range List(kustomization[0], "configMapGenerator") {
		data := map[string]any{}
		for _, f := range List(g, "files") {
			text, err := files.ReadFile("base/" + fmt.Sprint(f))
			if err != nil {
				return nil, err
			}
			data[path.Base(fmt.Sprint(f))] = string(text)
		}
		all = append(all, map[string]any{"kind": "ConfigMap", "metadata": map[string]any{"name": At(g, "name")}, "data": data})
	}
	return all, nil
}

// StdioServer are the objects of examples/stdio-server.yaml.
func StdioServer() ([]map[string]any, error) { return documents("examples/stdio-server.yaml") }

func documents(name string) ([]map[string]any, error) { return Documents(files, name) }

// Documents are those of one file.
func Documents(in fs.FS, name string) ([]map[string]any, error) {
	text, err := fs.ReadFile(in, name)
	if err != nil {
		return nil, err
	}
	var docs []map[string]any
	for d := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var doc map[string]any
		if err := d.Decode(&doc); errors.Is(err, io.EOF) {
			return docs, nil
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		docs = append(docs, doc)
	}
}

// List is the sequence that At finds.
func List(v any, path ...string) []any {
	l, _ := At(v, path...).([]any)
	return l
}

// At follows keys of mappings, and names or indexes ("0") of sequences; nil where there is nothing.
func At(v any, path ...string) any {
	for _, step := range path {
		switch x := v.(type) {
		case map[string]any:
			v = x[step]
		case []any:
			v = nil
			for i, e := range x {
				if At(e, "name") == step || fmt.Sprint(i) == step {
					v = e
					break
				}
			}
		default:
			return nil
		}
	}
	return v
}
