package gatewayconfig

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// objects gives the documents of a file as an API server would: ConfigMaps and Secrets only to those who ask by name.
func objects(t *testing.T, text string) Source {
	t.Helper()
	src := Source{Objects: []Object{}}
	asked := map[string]*Object{}
	for docs := yaml.NewDecoder(strings.NewReader(text)); ; {
		var doc map[string]any
		if err := docs.Decode(&doc); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if doc == nil {
			continue
		}
		kind, name := fmt.Sprint(doc["kind"]), fmt.Sprint(doc["metadata"].(map[string]any)["name"])
		if kind == "Secret" { // stored as data
			data, _ := doc["data"].(map[string]any)
			if data == nil {
				data = map[string]any{}
			}
			plain, _ := doc["stringData"].(map[string]any)
			for key, value := range plain {
				data[key] = base64.StdEncoding.EncodeToString([]byte(fmt.Sprint(value)))
			}
			doc["data"] = data
			delete(doc, "stringData")
		}
		var out bytes.Buffer
		if err := yaml.NewEncoder(&out).Encode(doc); err != nil {
			t.Fatal(err)
		}
		o := Object{Name: kind + "/" + name, YAML: out.Bytes()}
		if core[kind] != nil {
			asked[o.Name] = &o
		} else {
			src.Objects = append(src.Objects, o)
		}
	}
	src.Lookup = func(kind, _, name string) (*Object, error) { return asked[kind+"/"+name], nil }
	return src
}

// TestObjects: documents that an API server holds make the gateway that the same documents make in files.
func TestObjects(t *testing.T) {
	files, err := filepath.Glob("testdata/used/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		src := objects(t, string(text))
		src.Parts = PartAll
		fromFiles, filesErr := Load(Source{Paths: []string{name}, Parts: PartAll})
		fromObjects, objectsErr := Load(src)
		if (filesErr == nil) != (objectsErr == nil) {
			t.Errorf("%s: from files: %v; from objects: %v", name, filesErr, objectsErr)
			continue
		}
		if filesErr != nil {
			continue
		}
		if len(fromObjects.Uses) < 3 {
			t.Errorf("%s: uses %v", name, fromObjects.Uses)
		}
		for _, g := range []*Gateway{fromFiles, fromObjects} {
			g.Notes, g.Uses, g.Aggregator.SecretFiles = nil, nil, nil
			for i := range g.Authz.Policies.Texts {
				g.Authz.Policies.Texts[i].File, g.Authz.Policies.Texts[i].Line = "", 0
			}
		}
		if diff := cmp.Diff(fromFiles, fromObjects); diff != "" {
			t.Errorf("%s: other from objects (-files +objects):\n%s", name, diff)
		}
	}
}
