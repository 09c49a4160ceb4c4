// Command demo shows the guide's gateway at work: it runs docs/examples/engineering-tools.yaml on this machine with a
// simulated Entra tenant and two small MCP servers, signs in one person of each role through the pages that a browser
// would show, lets them list and call every tool, and compares what happens with what the guide says. Then it stays up
// for a client of yours. `make demo` starts it.
//
// It owns the demonstration only: what runs is internal/stack, as under `vmcp up`.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"vmcp/internal/freeport"
	"vmcp/internal/gatewayconfig"
	"vmcp/internal/stack"
)

// The addresses that the example file names.
const (
	exampleListen = "127.0.0.1:4483"
	exampleClient = "http://localhost:4483"
)

func main() {
	once := flag.Bool("once", false, "end after the table, on a free port: for scripts")
	listen := flag.String("listen", exampleListen, "`address` for clients, on loopback")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *listen, *once, os.Stdout)
	interrupted := ctx.Err() != nil
	stop()
	if err != nil && !interrupted {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// demo is what one run is made of.
type demo struct {
	root   string // of the repository: bin/, docs/, .tools/
	dir    string // of this run: documents, tokens, logs
	listen string
	out    io.Writer
}

func run(ctx context.Context, listen string, once bool, out io.Writer) error {
	self, err := os.Executable()
	if err == nil {
		self, err = filepath.EvalSymlinks(self)
	}
	if err != nil {
		return fmt.Errorf("finding the services beside this program: %w", err)
	}
	d := &demo{root: filepath.Dir(filepath.Dir(self)), out: out}
	if d.listen = listen; once {
		if d.listen, err = freeport.Address(); err != nil {
			return err
		}
	} else if err := stack.CheckFree(listen); err != nil { // before the directory of a demo that runs is cleared
		return fmt.Errorf("%w (make demo LISTEN=127.0.0.1:PORT)", err)
	}
	if d.dir, err = d.makeDir(once); err != nil {
		return err
	}
	if err := d.writeDocuments(); err != nil {
		return err
	}

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	s, err := stack.Start(ctx, d.stack())
	if err != nil {
		return fmt.Errorf("%w\nlogs: %s", err, d.file("state"))
	}
	show := d.show(ctx, s)
	if show == nil && !once {
		show = d.connect(s)
	}
	if show != nil || once {
		stop()
	}
	if err := errors.Join(show, s.Wait()); err != nil {
		return fmt.Errorf("%w\nlogs: %s", err, d.file("state"))
	}
	if once {
		return os.RemoveAll(d.dir)
	}
	return nil
}

// makeDir makes the directory of this run, empty. A demo that stays has a fixed one, which people can find.
func (d *demo) makeDir(once bool) (string, error) {
	if once {
		return os.MkdirTemp("", "vmcp-demo-")
	}
	dir := filepath.Join(d.root, ".run", "demo")
	if err := os.RemoveAll(dir); err != nil {
		return "", fmt.Errorf("clearing the last demo: %w", err)
	}
	return dir, os.MkdirAll(dir, 0o700)
}

func (d *demo) file(name string) string { return filepath.Join(d.dir, name) }

// record is where a server writes what was called, beside the state, which it cannot reach.
func (d *demo) record(server string) string { return d.file("calls/" + server) }

// writeDocuments copies the example with this run's address, and makes the secrets that it names: the simulated tenant
// takes any client secret, the demo's GitHub server any token.
func (d *demo) writeDocuments() error {
	text, err := os.ReadFile(filepath.Join(d.root, "docs/examples/engineering-tools.yaml"))
	if err != nil {
		return fmt.Errorf("reading the example: %w", err)
	}
	_, port, err := net.SplitHostPort(d.listen)
	if err != nil {
		return err
	}
	docs := strings.NewReplacer(exampleClient, "http://localhost:"+port).Replace(string(text))
	if err := os.Mkdir(d.file("calls"), 0o700); err != nil {
		return err
	}
	for name, key := range map[string]string{"idp-client-secret": "client-secret", "github-pat": "token"} {
		if err := os.MkdirAll(d.file("secrets/"+name), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(d.file("secrets/"+name+"/"+key), []byte(rand.Text()), 0o600); err != nil {
			return err
		}
	}
	return os.WriteFile(d.file("gateway.yaml"), []byte(docs), 0o600)
}

// stack is what `vmcp up` would be told.
func (d *demo) stack() stack.Config {
	bin := filepath.Join(d.root, "bin")
	program := func(image, server string) string {
		return image + "=" + relative(filepath.Join(bin, server+"-mcp")) + " --record " + relative(d.record(server))
	}
	return stack.Config{
		Source:   gatewayconfig.Source{Paths: []string{relative(d.file("gateway.yaml"))}, Secrets: relative(d.file("secrets"))},
		EntraSim: true,
		Listen:   d.listen, State: d.file("state"), Bin: bin, Tools: filepath.Join(d.root, ".tools"), Progress: d.out,
		Run: []string{
			program("ghcr.io/github/github-mcp-server:latest", "github"),
			program("ghcr.io/stackloklabs/yardstick/yardstick-server:1.1.1", "kubernetes"),
		},
	}
}

// relative is a shorter name of a path below the current directory.
func relative(path string) string {
	wd, err := os.Getwd()
	if err != nil {
		return path
	}
	rel, err := filepath.Rel(wd, path)
	if err != nil || strings.HasPrefix(rel, "..") {
		return path
	}
	return rel
}
