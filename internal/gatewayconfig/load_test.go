package gatewayconfig

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	jsonv1 "github.com/go-json-experiment/json/v1"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"vmcp/internal/secret"
)

var update = flag.Bool("update", false, "rewrite what the txtar cases want")

// Each case is an archive of configuration files and of want, the problems or notes that Load has for them, one a line.
// Where there is a want.json too, it is the gateway. The comment has options, one a line: name NAME, parts NAME…,
// loopback. Files below secrets/ are the secrets directory.
func TestLoadCases(t *testing.T) {
	cases, err := filepath.Glob("testdata/load/*.txtar")
	if err != nil || len(cases) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, name := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			name, err := filepath.Abs(name)
			if err != nil {
				t.Fatal(err)
			}
			archive, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			src := unpack(t, archive)
			gateway, err := Load(src)
			got := map[string]string{"want": report(t, gateway, err)}
			if strings.Contains(got["want"], "hunter2") { // the secret of all cases
				t.Errorf("a secret is in the report:\n%s", got["want"])
			}
			if gateway != nil {
				got["want.json"] = dump(t, gateway)
			}
			changed := false
			for i := range archive.Files {
				f := &archive.Files[i]
				if f.Name != "want" && f.Name != "want.json" {
					continue
				}
				if diff := cmp.Diff(got[f.Name], string(f.Data)); diff != "" && !*update {
					t.Errorf("%s (-got +want):\n%s", f.Name, diff)
				}
				f.Data, changed = []byte(got[f.Name]), true
			}
			if !changed {
				t.Error("the case wants nothing")
			}
			if *update {
				if err := os.WriteFile(name, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// unpack writes the files of a case into an empty working directory and reads its options.
func unpack(t *testing.T, archive *txtar.Archive) Source {
	t.Chdir(t.TempDir())
	var src Source
	for _, f := range archive.Files {
		if strings.HasPrefix(f.Name, "want") {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(f.Name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f.Name, f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(f.Name, "secrets/") {
			src.Secrets = "secrets"
		} else {
			src.Paths = append(src.Paths, f.Name)
		}
	}
	for line := range strings.Lines(string(archive.Comment)) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] == "#" {
			continue
		}
		switch words[0] {
		case "name":
			src.Name = words[1]
		case "loopback":
			src.Loopback = true
		case "parts":
			for _, p := range words[1:] {
				src.Parts |= map[string]Part{"authz": PartAuthz, "aggregator": PartAggregator, "authserver": PartAuthServer, "all": PartAll}[p]
			}
		default:
			t.Fatalf("unknown option %q", line)
		}
	}
	return src
}

func report(t *testing.T, gateway *Gateway, err error) string {
	t.Helper()
	var b strings.Builder
	if err != nil {
		var problems Problems
		if !errors.As(err, &problems) {
			t.Fatalf("Load returned a %T, want Problems", err)
		}
		return err.Error() + "\n"
	}
	for _, n := range gateway.Notes {
		b.WriteString("note " + n.String() + "\n")
	}
	return b.String()
}

func dump(t *testing.T, gateway *Gateway) string {
	t.Helper()
	g := *gateway
	g.Notes = nil
	shown := json.MarshalFunc(func(v secret.Value) ([]byte, error) { return json.Marshal(string(v)) })
	text, err := json.Marshal(g, jsonv1.DefaultOptionsV1(), json.WithMarshalers(shown), jsontext.WithIndent("  "))
	if err != nil {
		t.Fatal(err)
	}
	return string(text) + "\n"
}
