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
	"testing"

	"vmcp/internal/await"
)

var conformance = flag.Bool("conformance", false, "run the official server scenarios through the whole chain (make conformance)")

// TestConformance runs the official suite against the gateway in front of the Go SDK's fixture: suite, a proxy that adds
// the token, Envoy, aggregator, fixture. It prints what fails; it fails where a required scenario of the fixture's own
// era does.
func TestConformance(t *testing.T) {
	if !*conformance {
		return // not a skip: it has a target of its own
	}
	dir := npm(t, "node/conformance")
	fixture := filepath.Join(t.TempDir(), "everything-server")
	build := exec.Command("go", "build", "-o", fixture, "github.com/modelcontextprotocol/go-sdk/conformance/everything-server")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the fixture: %v\n%s", err, out)
	}
	for _, c := range []struct {
		requirements, fixture string
		required              bool // all required scenarios pass
	}{
		{"2025-11-25", "stateful", true},
		{"2026-07-28", "stateless", true},
		// Across the eras some cannot: a backend without sessions asks nobody (sampling, elicitation: four scenarios), and
		// one with sessions knows no input_required (eleven).
		{"2025-11-25", "stateless", false},
		{"2026-07-28", "stateful", false},
	} {
		t.Run(c.requirements+"/"+c.fixture, func(t *testing.T) {
			addr := freeAddress(t)
			serve(t, "http://"+addr, nil, fixture, "-http", addr, "-stateless="+map[bool]string{true: "true", false: "false"}[c.fixture == "stateless"])
			w := start(t, guide, without("github-backend"), without("kubernetes-backend"), behind("fixture", "http://"+addr), annotated("fixture", "vmcp/client-features: roots, sampling"),
				policies("permit(principal, action, resource);"),
				config("aggregation:\n  conflictResolution: priority\n  conflictResolutionConfig: {priorityOrder: [fixture]}"))
			scout := &caller{w: w, token: w.token("suite", "tester")}
			await.That(t, "the fixture is listed", func() bool { return len(scout.list(t, "tools")) > 0 })
			conform(t, w, dir, scout.token, c.requirements, c.requirements+"-"+c.fixture, c.required)
		})
	}
}

func conform(t *testing.T, w *world, dir, token, requirements, name string, required bool) {
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
	total := regexp.MustCompile(`Total: (\d+) passed, (\d+) failed`).FindSubmatch(summary)
	if total == nil {
		t.Fatalf("the suite did not run: %v\n%s", err, text)
	}
	if got := err == nil; got != required {
		t.Errorf("all required scenarios pass: %t, want %t", got, required)
	}
}
