package gatewayconfig

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/tools/txtar"
)

// Whatever the bytes are, loading them ends, does not panic, and each problem and note is on a line of the file.
func FuzzLoad(f *testing.F) {
	for _, pattern := range []string{"testdata/seed/*.yaml", "testdata/used/*.yaml"} {
		names, _ := filepath.Glob(pattern)
		for _, name := range names {
			data, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	cases, _ := filepath.Glob("testdata/load/*.txtar")
	for _, name := range cases {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(archive.Files[0].Data)
	}
	f.Add([]byte("a: &a [*a]"))
	f.Add([]byte("apiVersion: v1\nkind: ConfigMap\nmetadata: &m {name: x, labels: *m}\ndata: {<<: [*m, *m], a: *m}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := &reading{skipped: map[string]bool{}}
		r.file("in.yaml", data)
		r.duplicates()
		gateway, err := resolve(r, Source{Parts: PartAll, Loopback: true})
		lines := bytes.Count(data, []byte("\n")) + bytes.Count(data, []byte("\r")) + 2
		if (gateway == nil) != (err != nil) {
			t.Fatal("want either a gateway or an error")
		}
		if err != nil {
			var problems Problems
			if !errors.As(err, &problems) || len(problems) == 0 {
				t.Fatalf("got a %T", err)
			}
			for _, p := range problems {
				if p.Text == "" || p.Line < 0 || p.Line > lines {
					t.Errorf("problem %+v in a file of %d lines", p, lines)
				}
			}
			return
		}
		for _, n := range gateway.Notes {
			if n.Text == "" || n.Line < 1 || n.Line > lines {
				t.Errorf("note %+v in a file of %d lines", n, lines)
			}
		}
	})
}

// Aliases that multiply stop at a bound.
func TestAliasBomb(t *testing.T) {
	text := "apiVersion: toolhive.stacklok.dev/v1beta1\nkind: MCPServer\nmetadata: {name: a}\nspec:\n  podTemplateSpec:\n    a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := byte('b'); c < 'n'; c++ {
		text += "    " + string(c) + ": &" + string(c) + " ["
		for range 10 {
			text += "*" + string(c-1) + ","
		}
		text += "x]\n"
	}
	r := &reading{skipped: map[string]bool{}}
	r.file("in.yaml", []byte(text))
	if len(r.documents) != 1 || len(r.documents[0].problems) == 0 {
		t.Fatal("no problem")
	}
	got := r.documents[0].problems[0].Text
	if want := "the document is too large: its aliases expand to more than 200000 values"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
