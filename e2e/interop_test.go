package e2e

import (
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmcp/internal/await"
	"vmcp/internal/mcptest"
	"vmcp/internal/stack"
)

var (
	interop       = flag.Bool("interop", false, "run real servers and clients against the gateway (make interop)")
	interopUpdate = flag.Bool("interop-update", false, "with -interop: write what comes out to docs/interop.md")
)

// trial is one thing that is tried of a server, by every client: a call, a prompt or a resource, or only that tools are
// listed, and what shows that it worked.
type trial struct {
	server, what string
	call, prompt string // names as advertised
	arguments    map[string]any
	read         string
	listed       string // a tool that must be listed
	want         string // regular expression on what the client got
	wantFailure  bool   // the tool fails, and the client hears of it
}

// trials are what is tried, once the addresses are known.
func trials(repository, page string) []trial {
	none := map[string]any{}
	var all []trial
	add := func(t trial) { all = append(all, t) }
	call := func(server, what, name string, arguments map[string]any, want string) {
		add(trial{server: server, what: what, call: server + "_" + name, arguments: arguments, want: want})
	}
	call("everything", "a call", "echo", map[string]any{"message": "hi there"}, "hi there")
	call("everything", "an image", "get-tiny-image", none, `image/png`)
	call("everything", "structured content", "get-structured-content", map[string]any{"location": "New York"}, `structured_?[cC]ontent`)
	call("files", "a call", "list_directory", map[string]any{"path": repository}, `\[FILE\] README`)
	call("memory", "a call", "read_graph", none, `entities`)
	call("thinking", "a call", "sequentialthinking", map[string]any{"thought": "so", "nextThoughtNeeded": false, "thoughtNumber": 1, "totalThoughts": 1}, `thoughtHistoryLength`)
	add(trial{server: "kubernetes", what: "its tools", listed: "kubernetes_pods_list"})
	add(trial{server: "playwright", what: "its tools", listed: "playwright_browser_navigate"})
	call("time", "a call", "get_current_time", map[string]any{"timezone": "UTC"}, `UTC`)
	call("git", "a call", "git_status", map[string]any{"repo_path": repository}, `working tree clean`)
	call("fetch", "a call", "fetch", map[string]any{"url": page}, `the page that is fetched`)
	for _, fast := range []string{"fast-stdio", "fast-http"} {
		call(fast, "structured content", "add", map[string]any{"a": 2, "b": 3}, `"?total"?: ?5`)
		call(fast, "an image", "pixel", none, `image/png`)
		call(fast, "progress", "count", map[string]any{"to": 3}, `counted to 3.*progress=[123] `)
		call(fast, "a question to the person", "ask", none, `answer: accept Ann.*asked=`+fast+` asks: What is your name\?`)
		call(fast, "a question to the model", "complete", none, `the model says: hello`)
		add(trial{server: fast, what: "a tool that fails", call: fast + "_fail", arguments: none, want: `as it must`, wantFailure: true})
		add(trial{server: fast, what: "a prompt", prompt: fast + "_greet", arguments: map[string]any{"who": "Ann"}, want: `Say hello to Ann`})
	}
	add(trial{server: "fast-stdio", what: "a resource", read: "data://fast/config", want: `blue`})
	for _, sdk := range []string{"go-2024", "go-2025", "go-2026"} {
		call(sdk, "a call", "echo", map[string]any{"text": "hi there"}, "hi there")
		call(sdk, "progress", "progress", map[string]any{"count": 3}, `done.*progress=[123] `)
		call(sdk, "a question to the person", "elicit", none, `answer: accept.*asked=`+sdk+` asks: Really\?`)
		add(trial{server: sdk, what: "a prompt", prompt: sdk + "_greet", arguments: map[string]any{"who": "Ann"}, want: `Hello Ann`})
	}
	return all
}

// got is what a client saw.
type got struct {
	Version               string
	Tools                 []string
	Calls, Prompts, Reads []string
}

// TestInterop: one gateway in front of real servers, all at once, and real clients that try them. What docs/interop.md
// says has to be what comes out.
func TestInterop(t *testing.T) {
	if !*interop {
		return // not a skip: it has a target of its own
	}
	packages, node := npm(t, "node"), npm(t, "interop")
	python := venv(t)
	repository := gitRepository(t)
	page := site(t)
	fast := freeAddress(t)
	_, port, _ := net.SplitHostPort(fast)
	serve(t, "http://"+fast+"/mcp", nil, python, "interop/fast.py", port)
	bins := filepath.Join(node, "node_modules", ".bin")
	kubeconfig := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(kubeconfig, []byte(kubeconfigText), 0o600); err != nil {
		t.Fatal(err)
	}
	absFast, err := filepath.Abs("interop/fast.py")
	if err != nil {
		t.Fatal(err)
	}
	edits := []edit{without("github-backend"), without("kubernetes-backend"), policies("permit(principal, action, resource);"),
		behind("fast-http", "http://"+fast+"/mcp"), annotated("fast-http", "vmcp/client-features: sampling"),
		behind("go-2024", mcptest.NewSSE(t).URL), overSSE("go-2024"),
		behind("go-2025", mcptest.NewHTTP(t, mcptest.Options{Era: mcptest.Legacy}).URL), behind("go-2026", mcptest.NewHTTP(t, mcptest.Options{Era: mcptest.Modern}).URL)}
	pip := filepath.Dir(python)
	for name, command := range map[string]string{
		"everything": filepath.Join(packages, "node_modules/.bin/mcp-server-everything"),
		"files":      filepath.Join(packages, "node_modules/.bin/mcp-server-filesystem") + " " + repository,
		"memory":     filepath.Join(bins, "mcp-server-memory"),
		"thinking":   filepath.Join(bins, "mcp-server-sequential-thinking"),
		"kubernetes": filepath.Join(bins, "kubernetes-mcp-server") + " --kubeconfig " + kubeconfig,
		"playwright": filepath.Join(bins, "playwright-mcp") + " --headless",
		"time":       filepath.Join(pip, "mcp-server-time") + " --local-timezone UTC",
		"git":        filepath.Join(pip, "mcp-server-git") + " --repository " + repository,
		"fetch":      filepath.Join(pip, "mcp-server-fetch") + " --ignore-robots-txt --allow-private-ips",
		"fast-stdio": python + " " + absFast,
	} {
		edits = append(edits, program(name, command))
	}
	w := startWith(t, guide, func(cfg *stack.Config) {}, edits...)
	tries := trials(repository, page)
	token := w.token("ann", "mcp-developers")
	scout := &caller{w: w, token: token, modern: true}
	servers := map[string]bool{}
	for _, try := range tries {
		servers[try.server] = true
	}
	await.That(t, "all servers are listed", func() bool {
		st, err := stack.FetchStatus(t.Context(), w.State)
		return err == nil && len(st.Backends) == len(servers) && !slices.ContainsFunc(st.Backends, func(b stack.Backend) bool { return b.State != "listed" })
	})
	t.Logf("%d tools of %d servers", len(scout.list(t, "tools")), len(servers))

	plan := map[string]any{}
	var calls, prompts []map[string]any
	var reads []string
	for _, try := range tries {
		switch {
		case try.call != "":
			calls = append(calls, map[string]any{"name": try.call, "arguments": try.arguments})
		case try.prompt != "":
			prompts = append(prompts, map[string]any{"name": try.prompt, "arguments": try.arguments})
		case try.read != "":
			reads = append(reads, try.read)
		}
	}
	plan["calls"], plan["prompts"], plan["reads"] = calls, prompts, reads
	clients := []struct {
		name string
		run  func() got
	}{
		{"TypeScript 1", func() got { return foreign(t, w, token, plan, packages, "node", "interop/client.mjs", "sdk") }},
		{"TypeScript 2", func() got { return foreign(t, w, token, plan, packages, "node", "interop/client.mjs", "client") }},
		{"Python", func() got { return foreign(t, w, token, plan, packages, python, "interop/client.py", "mcp") }},
		{"fastmcp", func() got { return foreign(t, w, token, plan, packages, python, "interop/client.py", "fastmcp") }},
		{"Go", func() got { return goTries(t, w, token, tries) }},
		{"Inspector", func() got {
			return inspector(t, w, token, tries, filepath.Join(node, "node_modules/@modelcontextprotocol/inspector/cli/build/index.js"))
		}},
	}
	table := make([][]string, len(tries))
	head := "| server | what |"
	line := "|---|---|"
	var versions []string
	for _, c := range clients {
		g := c.run()
		head, line = head+" "+c.name+" |", line+"---|"
		versions = append(versions, c.name+" "+g.Version)
		for i, cell := range judge(t, c.name, tries, g) {
			table[i] = append(table[i], cell)
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s\n", head, line)
	for i, try := range tries {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", try.server, try.what, strings.Join(table[i], " | "))
	}
	t.Logf("%s\n%s", strings.Join(versions, ", "), &b)
	compareInterop(t, b.String())
}

// judge says of each trial whether a client did it: yes, no, or – where that client has no way to try.
func judge(t *testing.T, client string, tries []trial, g got) (cells []string) {
	next := func(from *[]string) string {
		if len(*from) == 0 {
			return ""
		}
		first := (*from)[0]
		*from = (*from)[1:]
		return first
	}
	for _, try := range tries {
		text := ""
		switch {
		case try.call != "":
			text = next(&g.Calls)
		case try.prompt != "":
			text = next(&g.Prompts)
		case try.read != "":
			text = next(&g.Reads)
		case slices.Contains(g.Tools, try.listed):
			cells = append(cells, "yes")
			continue
		}
		switch {
		case text == "":
			cells = append(cells, "–")
		case regexp.MustCompile(`(?s)`+try.want).MatchString(text) && !strings.HasPrefix(text, "error:") != try.wantFailure,
			regexp.MustCompile(`(?s)`+try.want).MatchString(text) && try.wantFailure:
			cells = append(cells, "yes")
		default:
			t.Logf("%s, %s, %s: %.400s", client, try.server, try.what, text)
			cells = append(cells, "no")
		}
	}
	return cells
}

// compareInterop holds the table against the one in docs/interop.md, between two comments.
func compareInterop(t *testing.T, table string) {
	t.Helper()
	path := filepath.Join(root, "docs/interop.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- what make interop found -->\n", "<!-- until here -->\n"
	before, rest, ok := strings.Cut(string(text), begin)
	known, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("docs/interop.md has no %q … %q", begin, end)
	}
	if *interopUpdate {
		if err := os.WriteFile(path, []byte(before+begin+table+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(strings.Split(known, "\n"), strings.Split(table, "\n")); diff != "" {
		t.Errorf("docs/interop.md says (-), the clients say (+):\n%s", diff)
	}
}
