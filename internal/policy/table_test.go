package policy

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"vmcp/internal/gatewayconfig"
)

var update = flag.Bool("update", false, "rewrite what testdata/*.txtar want")

// TestTables runs testdata/*.txtar. An archive holds policies.cedar and optionally entities.json, config.json
// (GroupClaimName…), items.json, callers.json (claims by name; null is anonymous), warnings, error, reach, unknown, and requests, one a line:
//
//	ann tool NAME [ARGUMENTS]   => reason policy,policy
//	ann prompt|resource NAME    => the same
//	ann may ACTION              => the same, for a family
//	ann lists tool              => advertised names
//	from 10.0.0.1 era modern    sets the context of the following lines
func TestTables(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no testdata", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) { runTable(t, file) })
	}
}

type tableItem struct {
	Kind, Backend, Original, Advertised string
	ReadOnlyHint, DestructiveHint       *bool
	Args                                map[string][]string // types
	Schema                              *Schema             // instead of Args
}

// typed is the schema of arguments of these types.
func typed(args map[string][]string) *Schema {
	s := &Schema{Properties: map[string]*Schema{}}
	for name, types := range args {
		s.Properties[name] = &Schema{Types: types}
	}
	return s
}

var kindNames = map[string]Kind{"tool": Tool, "prompt": Prompt, "resource": Resource}

func runTable(t *testing.T, file string) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	part := map[string]*txtar.File{}
	for i := range archive.Files {
		part[archive.Files[i].Name] = &archive.Files[i]
	}
	decode := func(name string, into any) {
		if f := part[name]; f != nil {
			if err := json.Unmarshal(f.Data, into); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
	var src gatewayconfig.Policies
	decode("config.json", &src)
	if f := part["entities.json"]; f != nil {
		src.EntitiesJSON = string(f.Data)
	}
	src.Texts = []gatewayconfig.PolicyText{{File: "p", Line: 1, Text: string(part["policies.cedar"].Data)}}
	var rows []tableItem
	decode("items.json", &rows)
	var claims map[string]json.RawMessage
	decode("callers.json", &claims)

	want := func(name, got string) {
		f := part[name]
		if f == nil {
			if got != "" && name != "reach" && name != "unknown" {
				t.Errorf("unexpected %s: %s", name, got)
			}
			return
		}
		if got != "" {
			got += "\n"
		}
		if *update {
			f.Data = []byte(got)
		} else if got != string(f.Data) {
			t.Errorf("%s:\ngot:\n%s\nwant:\n%s", name, got, f.Data)
		}
	}
	s, err := Load("vmcp", []string{"github", "kubernetes-backend"}, src)
	defer func() {
		if *update {
			os.WriteFile(file, txtar.Format(archive), 0o644)
		}
	}()
	if err != nil {
		want("error", err.Error())
		return
	}
	want("error", "")
	want("warnings", strings.Join(s.Warnings(), "\n"))

	callers := map[string]*Caller{}
	for name, c := range claims {
		if string(c) == "null" {
			callers[name] = s.Anonymous()
		} else if callers[name], err = s.NewCaller(c); err != nil {
			t.Fatalf("caller %s: %v", name, err)
		}
	}
	items, byName := prepareTable(s, rows)
	var reach []string
	for _, r := range s.Reach(items) {
		line := fmt.Sprintf("%s %s:", r.Policy, r.Name)
		for _, i := range r.Items {
			line += " " + i.Backend + "/" + i.Original
		}
		reach = append(reach, line)
	}
	want("reach", strings.Join(reach, "\n"))

	want("unknown", strings.Join(s.Unknown(func(k Kind, name string) bool {
		return slices.ContainsFunc(items, func(p *Prepared) bool {
			return p.Item.Kind == k && (p.Item.Original == name || p.Item.Advertised == name)
		})
	}), "\n"))

	requests := part["requests"]
	if requests == nil {
		return
	}
	var ctx Context
	lines := strings.Split(strings.TrimSuffix(string(requests.Data), "\n"), "\n")
	for i, line := range lines {
		ask, wanted, _ := strings.Cut(line, "=>")
		f := strings.Fields(ask)
		if len(f) == 0 || f[0] == "#" {
			continue
		}
		if f[0] == "from" {
			ctx = Context{ClientIP: netip.MustParseAddr(f[1]), Era: f[3]}
			continue
		}
		c := callers[f[0]]
		if c == nil {
			t.Fatalf("line %d: no caller %s", i+1, f[0])
		}
		got := ""
		switch f[1] {
		case "may":
			got = show(s.Family(c, Action(f[2]), ctx))
		case "lists":
			var names []string
			for _, n := range s.Permitted(c, items, ctx) {
				if items[n].Item.Kind == kindNames[f[2]] {
					names = append(names, items[n].Item.Advertised)
				}
			}
			got = strings.Join(names, " ")
		default:
			item := byName[f[1]+" "+f[2]]
			if item == nil {
				t.Fatalf("line %d: no %s %s", i+1, f[1], f[2])
			}
			d := s.Decide(c, item, []byte(strings.Join(f[3:], " ")), ctx)
			if (d.Err != nil) != (d.Reason == Failed) && d.Reason != Forbidden {
				t.Errorf("%s: reason %s with error %v", ask, d.Reason, d.Err)
			}
			// The first failure is told with its cause, and what did not fail is told of nobody.
			if d.Err != nil && (strings.Contains(d.Err.Error(), "<nil>") || d.Reason == Failed && !slices.ContainsFunc(d.Policies, func(id string) bool {
				return strings.HasPrefix(d.Err.Error(), "policy "+id+": ")
			})) {
				t.Errorf("%s: the error is %v, failed have %v", ask, d.Err, d.Policies)
			}
			got = show(d)
		}
		if got = " " + got; *update {
			lines[i] = strings.TrimRight(fmt.Sprintf("%-70s =>%s", strings.TrimSpace(ask), got), " ")
		} else if strings.TrimRight(got, " ") != strings.TrimRight(wanted, " ") {
			t.Errorf("%s\n got%s\nwant%s", strings.TrimSpace(ask), got, wanted)
		}
	}
	if *update {
		requests.Data = []byte(strings.Join(lines, "\n") + "\n")
	}
}

func prepareTable(s *Set, rows []tableItem) ([]*Prepared, map[string]*Prepared) {
	advertised := map[string]string{}
	for _, r := range rows {
		advertised[r.Kind+" "+r.Advertised] = r.Backend + " " + r.Original
	}
	byName := map[string]*Prepared{}
	var items []*Prepared
	for _, r := range rows {
		other, taken := advertised[r.Kind+" "+r.Original]
		if r.Schema == nil {
			r.Schema = typed(r.Args)
		}
		p := s.Prepare(Item{
			Kind: kindNames[r.Kind], Backend: r.Backend, Original: r.Original, Advertised: r.Advertised,
			OriginalShadowed: taken && other != r.Backend+" "+r.Original,
			ReadOnlyHint:     r.ReadOnlyHint, DestructiveHint: r.DestructiveHint, Args: r.Schema,
		})
		items = append(items, p)
		byName[r.Kind+" "+r.Advertised] = p
	}
	return items, byName
}

func show(d Decision) string {
	if d.Allow != (d.Reason == Permitted) {
		return fmt.Sprintf("INCONSISTENT %+v", d)
	}
	return strings.TrimSpace(d.Reason + " " + strings.Join(d.Policies, ","))
}
