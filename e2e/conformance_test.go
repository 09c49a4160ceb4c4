package e2e

import (
	"flag"
	"net"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmcp/internal/await"
)

var conformance = flag.Bool("conformance", false, "run the official server scenarios through the whole chain (make conformance)")

// TestConformance runs the official suite against the gateway in front of the Go SDK's fixture: suite, a proxy that adds
// the token, Envoy, aggregator, fixture. What docs/conformance.md says has to be what comes out, failures and passes.
func TestConformance(t *testing.T) {
	if !*conformance {
		return // not a skip: it has a target of its own
	}
	expected := expectedConformance(t)
	dir := npm(t, "node/conformance")
	fixture := filepath.Join(t.TempDir(), "everything-server")
	build := exec.Command("go", "build", "-o", fixture, "github.com/modelcontextprotocol/go-sdk/conformance/everything-server")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the fixture: %v\n%s", err, out)
	}
	for _, c := range []struct{ requirements, fixture string }{
		{"2025-11-25", "stateful"},
		{"2026-07-28", "stateless"},
		{"2025-11-25", "stateless"},
		{"2026-07-28", "stateful"},
	} {
		t.Run(c.requirements+"/"+c.fixture, func(t *testing.T) {
			addr := freeAddress(t)
			serve(t, "http://"+addr, nil, fixture, "-http", addr, "-stateless="+map[bool]string{true: "true", false: "false"}[c.fixture == "stateless"])
			w := start(t, guide, without("github-backend"), without("kubernetes-backend"), behind("fixture", "http://"+addr), annotated("fixture", "vmcp/client-features: roots, sampling"),
				policies("permit(principal, action, resource);"),
				config("aggregation:\n  conflictResolution: priority\n  conflictResolutionConfig: {priorityOrder: [fixture]}"))
			scout := &caller{w: w, token: w.token("suite", "tester")}
			await.That(t, "the fixture is listed", func() bool { return len(scout.list(t, "tools")) > 0 })
			got := conform(t, w, dir, scout.token, c.requirements, c.requirements+"-"+c.fixture)
			if diff := cmp.Diff(expected[c.requirements+" "+c.fixture], got); diff != "" {
				t.Errorf("docs/conformance.md says (-), the suite says (+):\n%s", diff)
			}
		})
	}
}

// outcome is what one run of the suite gave.
type outcome struct {
	Scenarios, Failing int
	Failed             map[string]int // checks that failed, by scenario
}

// expectedConformance reads the tables of docs/conformance.md, by "requirements fixture".
func expectedConformance(t *testing.T) map[string]outcome {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docs/conformance.md"))
	if err != nil {
		t.Fatal(err)
	}
	number := func(s string) int {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("docs/conformance.md: %v", err)
		}
		return n
	}
	all := map[string]outcome{}
	for _, row := range regexp.MustCompile(`(?m)^\| (\d{4}-\d\d-\d\d) \| (\w+) \| (.*) \|$`).FindAllStringSubmatch(string(text), -1) {
		cells := strings.Split(row[3], " | ")
		if len(cells) == 2 { // of the first table
			all[row[1]+" "+row[2]] = outcome{number(cells[0]), number(cells[1]), map[string]int{}}
			continue
		}
		if len(cells) != 3 {
			t.Fatalf("docs/conformance.md has %q", row[0])
		}
		if !strings.Contains(string(text), "\n**"+cells[2]+"** ") {
			t.Errorf("docs/conformance.md has no reason %s", cells[2])
		}
		for _, fixture := range []string{"stateful", "stateless"} {
			if o, ok := all[row[1]+" "+fixture]; ok && (row[2] == fixture || row[2] == "both") {
				o.Failed[cells[0]] = number(cells[1])
			}
		}
	}
	return all
}

// conform runs the suite. It fails the test where the suite did not run.
func conform(t *testing.T, w *world, dir, token, requirements, name string) outcome {
	t.Helper()
	target, err := url.Parse(w.aud)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(nil)
	t.Cleanup(proxy.Close)
	_, port, _ := net.SplitHostPort(proxy.Listener.Addr().String())
	own := "localhost:" + port
	proxy.Config.Handler = &httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host // an evil one has to arrive
		if r.In.Host == own {
			r.Out.Host = target.Host
		}
		r.Out.Header.Set("Authorization", "Bearer "+token)
	}}
	out := filepath.Join(root, ".run", "conformance", name) // every check, for whoever looks into a failure
	if err := os.RemoveAll(out); err != nil {
		t.Fatal(err)
	}
	node := filepath.Join(dir, "node_modules", ".bin", "node")
	suite := filepath.Join(dir, "node_modules", "@modelcontextprotocol", "conformance", "dist", "index.js")
	cmd := exec.CommandContext(t.Context(), node, suite, "server", "--url", "http://"+own+"/mcp", "--requirements", requirements, "-o", out)
	cmd.Dir = dir
	text, err := cmd.CombinedOutput()
	summary := regexp.MustCompile(`(?s)=== SUMMARY.*`).Find(text)
	t.Logf("exit %v, details in %s\n%s", err, out, summary)
	got := outcome{Failed: map[string]int{}}
	for _, m := range regexp.MustCompile(`(?m)^[✓✗] (\S+): \d+ passed, (\d+) failed$`).FindAllSubmatch(summary, -1) {
		got.Scenarios++
		if n, _ := strconv.Atoi(string(m[2])); n > 0 {
			got.Failing++
			got.Failed[string(m[1])] = n
		}
	}
	if got.Scenarios == 0 {
		t.Fatalf("the suite did not run: %v\n%s", err, text)
	}
	return got
}
