package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"vmcp/internal/mcpwire"
	gatewayv1 "vmcp/proto/gateway/v1"
)

// TestScripts runs testdata/*.txtar. Each is a story in a few plain commands, told twice: by a client with sessions
// (2025-11-25) and by one without (2026-07-28). A script may bring its own policies.cedar and config.yaml (spec.config);
// those that bring the same share a gateway, as do those that bring none.
//
//	login NAME ROLE...     this person speaks from now on
//	[!] list KIND          the list is given; with ! the policies refuse it altogether
//	[!] sees KIND NAME...  tools, prompts, resources or templates: exactly these are listed; with ! none of these is
//	[!] call TOOL [ARGS]   the call gives a result; with ! it is denied, in the words for what does not exist
//	[!] get PROMPT [ARGS]  likewise
//	[!] read URI           likewise
//	[!] backend saw TOOL   some backend was asked to run it, by its own name, since the login
//	sees what it may use   every item of the catalog is listed exactly when its use is not denied
//	refused STATUS         whatever this person sends gets this HTTP status, and no list
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	type group struct{ policies, config string }
	var order []group
	scripts := map[group][]string{}
	texts := map[string][]byte{}
	for _, file := range files {
		ar, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var g group
		for _, f := range ar.Files {
			switch f.Name {
			case "policies.cedar":
				g.policies = string(f.Data)
			case "config.yaml":
				g.config = string(f.Data)
			default:
				t.Fatalf("%s: unknown file %s", file, f.Name)
			}
		}
		if scripts[g] == nil {
			order = append(order, g)
		}
		scripts[g] = append(scripts[g], file)
		texts[file] = ar.Comment
	}
	for _, g := range order {
		t.Run(strings.TrimSuffix(filepath.Base(scripts[g][0]), ".txtar"), func(t *testing.T) {
			var edits []edit
			if g.policies != "" {
				edits = append(edits, policies(g.policies))
			}
			if g.config != "" {
				edits = append(edits, config(g.config))
			}
			w := start(t, guide, edits...)
			for _, file := range scripts[g] {
				for _, era := range []string{"legacy", "modern"} {
					t.Run(filepath.Base(file)+"/"+era, func(t *testing.T) {
						s := script{w: w, t: t, modern: era == "modern"}
						s.run(file, string(texts[file]))
					})
				}
			}
		})
	}
}

type script struct {
	w      *world
	t      *testing.T
	modern bool
	who    *caller
	before map[string]int // calls that each backend had seen at the login
}

func (s *script) run(file, text string) {
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		command, positive := strings.CutPrefix(line, "! ")
		if err := s.do(command, !positive); err != nil {
			s.t.Errorf("%s:%d: %s: %v", file, n, line, err)
		}
	}
}

func (s *script) do(line string, want bool) error {
	words := strings.Fields(line)
	if words[0] == "login" {
		s.who = &caller{w: s.w, token: s.w.token(words[1], words[2:]...), modern: s.modern}
		s.before = map[string]int{}
		for name := range s.w.seen {
			s.before[name] = len(s.w.calls(s.t, name))
		}
		return nil
	}
	rest := func(n int) string { // what follows n words, {} where nothing does
		text := line
		for range n {
			_, text, _ = strings.Cut(strings.TrimSpace(text), " ")
		}
		if text = strings.TrimSpace(text); text == "" {
			return "{}"
		}
		return text
	}
	switch {
	case line == "sees what it may use":
		return s.consistent()
	case words[0] == "sees":
		return s.sees(words[1], words[2:], want)
	case words[0] == "list":
		a := s.who.ask(s.t, kinds[words[1]].method, "", "")
		if want && !a.ok() || !want && a.code() != mcpwire.CodeInvalidRequest {
			return fmt.Errorf("answered %d %s", a.status, a.body)
		}
		return nil
	case words[0] == "call":
		return judged(s.who.call(s.t, words[1], rest(2)), mcpwire.ItemTool, words[1], want)
	case words[0] == "get":
		return judged(s.who.prompt(s.t, words[1], rest(2)), mcpwire.ItemPrompt, words[1], want)
	case words[0] == "read":
		return judged(s.who.read(s.t, words[1]), mcpwire.ItemResource, words[1], want)
	case words[0] == "backend":
		saw := false
		for name, before := range s.before {
			saw = saw || slices.Contains(s.w.calls(s.t, name)[before:], words[2])
		}
		if saw != want {
			return fmt.Errorf("saw it: %t", saw)
		}
		return nil
	case words[0] == "refused":
		return s.refused(words[1])
	}
	return fmt.Errorf("unknown command")
}

// denied reports whether an answer is the one for what is unknown or not permitted.
func denied(a answer, kind mcpwire.ItemKind, name string) bool {
	e := a.reply().Error
	return a.status == 200 && e != nil && e.Code == mcpwire.CodeInvalidParams && e.Message == mcpwire.UnknownItem(kind, name)
}

func judged(a answer, kind mcpwire.ItemKind, name string, want bool) error {
	if want && !a.ok() || !want && !denied(a, kind, name) {
		return fmt.Errorf("answered %d %s", a.status, a.body)
	}
	return nil
}

func (s *script) sees(kind string, names []string, want bool) error {
	got := s.who.list(s.t, kind)
	if !want {
		for _, n := range names {
			if slices.Contains(got, n) {
				return fmt.Errorf("%s is listed", n)
			}
		}
		return nil
	}
	slices.Sort(got)
	slices.Sort(names)
	if !slices.Equal(got, names) {
		return fmt.Errorf("listed are %q", got)
	}
	return nil
}

// consistent compares lists with calls, over everything there is.
func (s *script) consistent() error {
	all := s.w.catalog(s.t)
	var wrong []string
	for _, k := range []struct {
		list string
		kind mcpwire.ItemKind
		use  func(name string) answer
	}{
		{"tools", mcpwire.ItemTool, func(n string) answer { return s.who.call(s.t, n, "{}") }},
		{"prompts", mcpwire.ItemPrompt, func(n string) answer { return s.who.prompt(s.t, n, "{}") }},
		{"resources", mcpwire.ItemResource, func(n string) answer { return s.who.read(s.t, n) }},
	} {
		listed := s.who.list(s.t, k.list)
		if len(all[k.list]) == 0 {
			return fmt.Errorf("the catalog has no %s", k.list)
		}
		for _, n := range all[k.list] {
			if sees, may := slices.Contains(listed, n), !denied(k.use(n), k.kind, n); sees != may {
				wrong = append(wrong, fmt.Sprintf("%s: listed %t, usable %t", n, sees, may))
			}
		}
	}
	if wrong != nil {
		return fmt.Errorf("%s", strings.Join(wrong, "; "))
	}
	return nil
}

// refused: no request of this person is served, not even one that needs no permit.
func (s *script) refused(status string) error {
	requests := []request{
		{token: s.who.token, body: initialize},
		s.who.message("tools/list", "", ""),
		s.who.message("tools/call", `"name":"kubernetes-backend_get_pods","arguments":{"namespace":"shop"}`, "kubernetes-backend_get_pods"),
		{token: s.who.token, method: "GET"},
	}
	for _, r := range requests {
		if a := s.w.send(s.t, r); fmt.Sprint(a.status) != status || a.header.Get("Mcp-Session-Id") != "" || a.reply().Result != nil {
			return fmt.Errorf("%s %s: answered %d %s", r.method, r.body, a.status, a.body)
		}
	}
	return nil
}

// catalog is everything the gateway could advertise, by kind, as authz is told it.
func (w *world) catalog(t *testing.T) map[string][]string {
	t.Helper()
	conn, err := grpc.NewClient("unix:"+w.Socket("catalog"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := gatewayv1.NewCatalogClient(conn).Watch(ctx, &gatewayv1.WatchCatalogRequest{})
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{}
	for {
		up, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if up.GetComplete() != "" {
			return all
		}
		b := up.GetBackend()
		for _, part := range []struct {
			kind  string
			items []*gatewayv1.Item
		}{{"tools", b.GetTools()}, {"prompts", b.GetPrompts()}, {"resources", b.GetResources()}, {"templates", b.GetResourceTemplates()}} {
			for _, it := range part.items {
				all[part.kind] = append(all[part.kind], it.Name)
			}
		}
	}
}
