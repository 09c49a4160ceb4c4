package gatewayconfig

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// outcomes watches src in a synctest bubble and collects what changed gets.
type outcomes struct {
	t    *testing.T
	dir  string
	done chan error

	mu  sync.Mutex
	got []string
}

func (o *outcomes) write(name, text string) {
	o.t.Helper()
	name = filepath.Join(o.dir, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		o.t.Fatal(err)
	}
	// A new file each time: in-place writes within one tick of the file system's clock would look equal.
	tmp := name + ".tmp"
	if err := os.WriteFile(tmp, []byte(text), 0o644); err != nil {
		o.t.Fatal(err)
	}
	if err := os.Rename(tmp, name); err != nil {
		o.t.Fatal(err)
	}
}

// wait lets n ticks pass and compares the outcomes since the last wait.
func (o *outcomes) wait(n int, want ...string) {
	o.t.Helper()
	time.Sleep(time.Duration(n)*time.Second + time.Millisecond)
	synctest.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	if got, want := strings.Join(o.got, ";"), strings.Join(want, ";"); got != want {
		o.t.Errorf("outcomes %q, want %q", got, want)
	}
	o.got = nil
}

func watching(t *testing.T, f func(o *outcomes)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		o := &outcomes{t: t, dir: dir, done: make(chan error, 1)}
		o.write("config/server.yaml", watched("https://mcp.example.com"))
		o.write("secrets/pat/token", "one\n")
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			o.done <- Watch(ctx, Source{Paths: []string{filepath.Join(dir, "config")}, Secrets: filepath.Join(dir, "secrets"),
				Parts: PartAll}, time.Second, func(g *Gateway, err error) {
				o.mu.Lock()
				defer o.mu.Unlock()
				if err != nil {
					o.got = append(o.got, "error")
					return
				}
				out := g.Endpoint.URL
				for _, b := range g.Aggregator.Backends {
					out += " " + b.Name + "=" + string(b.Env["TOKEN"])
				}
				o.got = append(o.got, out)
			})
		}()
		o.wait(1, "https://mcp.example.com/mcp git=one")
		f(o)
		cancel()
		if err := <-o.done; err != nil {
			t.Errorf("Watch ended with %v, want nil", err)
		}
	})
}

func watched(url string) string {
	return `apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPGroup
metadata: {name: team}
---
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServer
metadata: {name: git}
spec: {image: git, groupRef: {name: team}, secrets: [{name: pat, key: token, targetEnvName: TOKEN}]}
---
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPOIDCConfig
metadata: {name: idp}
spec: {type: inline, inline: {issuer: https://idp.example.com}}
---
apiVersion: toolhive.stacklok.dev/v1beta1
kind: VirtualMCPServer
metadata: {name: gate}
spec:
  groupRef: {name: team}
  incomingAuth: {type: oidc, oidcConfigRef: {name: idp, audience: x, resourceUrl: "` + url + `"}}
`
}

func TestWatch(t *testing.T) {
	t.Run("nothing changes", func(t *testing.T) {
		watching(t, func(o *outcomes) { o.wait(10) })
	})
	t.Run("a document", func(t *testing.T) {
		watching(t, func(o *outcomes) {
			o.write("config/server.yaml", watched("https://two.example.com"))
			o.wait(1)
			o.wait(1, "https://two.example.com/mcp git=one")
			o.wait(5)
		})
	})
	t.Run("a secret", func(t *testing.T) {
		watching(t, func(o *outcomes) {
			o.write("secrets/pat/token", "two\n")
			o.wait(2, "https://mcp.example.com/mcp git=two")
		})
	})
	t.Run("a file comes and goes", func(t *testing.T) {
		watching(t, func(o *outcomes) {
			o.write("config/more.yml", "apiVersion: toolhive.stacklok.dev/v1beta1\nkind: MCPServer\n"+
				"metadata: {name: more}\nspec: {image: x, groupRef: {name: team}}\n")
			o.wait(2, "https://mcp.example.com/mcp more= git=one")
			if err := os.Remove(filepath.Join(o.dir, "config/more.yml")); err != nil {
				o.t.Fatal(err)
			}
			o.wait(2, "https://mcp.example.com/mcp git=one")
		})
	})
	t.Run("an error, and back", func(t *testing.T) {
		watching(t, func(o *outcomes) {
			o.write("config/server.yaml", watched("ftp://mcp.example.com"))
			o.wait(5, "error")
			o.write("config/server.yaml", watched("https://mcp.example.com"))
			o.wait(5, "https://mcp.example.com/mcp git=one")
		})
	})
	t.Run("the same content anew", func(t *testing.T) {
		watching(t, func(o *outcomes) {
			o.write("config/server.yaml", watched("https://mcp.example.com"))
			o.wait(5)
		})
	})
	t.Run("files that are being written", func(t *testing.T) {
		watching(t, func(o *outcomes) {
			whole := watched("https://two.example.com")
			for i := 1; i < 5; i++ { // a new state in each tick
				o.write("config/server.yaml", whole[:len(whole)*i/5])
				o.wait(1)
			}
			o.write("config/server.yaml", whole)
			o.wait(2, "https://two.example.com/mcp git=one")
		})
	})
}

// Kubernetes swaps the directory that a link points to; the files' own paths stay.
func TestWatchLinkSwap(t *testing.T) {
	watching(t, func(o *outcomes) {
		o.write("v2/server.yaml", watched("https://two.example.com"))
		o.write("v3/server.yaml", watched("https://six.example.com"))
		link := func(target string) {
			o.t.Helper()
			tmp := filepath.Join(o.dir, "config", "..data_tmp")
			if err := os.Symlink(filepath.Join(o.dir, target), tmp); err != nil {
				o.t.Fatal(err)
			}
			if err := os.Rename(tmp, filepath.Join(o.dir, "config", "..data")); err != nil {
				o.t.Fatal(err)
			}
		}
		link("v2")
		if err := os.Remove(filepath.Join(o.dir, "config/server.yaml")); err != nil {
			o.t.Fatal(err)
		}
		if err := os.Symlink("..data/server.yaml", filepath.Join(o.dir, "config/server.yaml")); err != nil {
			o.t.Fatal(err)
		}
		o.wait(2, "https://two.example.com/mcp git=one")
		link("v3")
		o.wait(2, "https://six.example.com/mcp git=one")
	})
}
