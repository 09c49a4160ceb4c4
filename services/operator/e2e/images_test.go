package e2e

import (
	"archive/tar"
	"bytes"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

const registryAddress = nodeIP + ":5000"

// registry serves images in the namespace: for every registry that there is.
func (n *node) registry(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", registryAddress)
	must(t, err)
	s := &http.Server{Handler: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
}

// push makes an image from scratch of files, by their paths in it, and pushes it.
func push(t *testing.T, image string, files map[string]string, config v1.Config) {
	t.Helper()
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for path, from := range files {
		info, err := os.Stat(from)
		must(t, err)
		must(t, w.WriteHeader(&tar.Header{Name: strings.TrimPrefix(path, "/"), Mode: 0o755, Size: info.Size(), Typeflag: tar.TypeReg}))
		f, err := os.Open(from)
		must(t, err)
		_, err = io.Copy(w, f)
		must(t, err)
		f.Close()
	}
	must(t, w.Close())
	made, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil }, tarball.WithCompressionLevel(0))
	must(t, err)
	all, err := mutate.AppendLayers(empty.Image, made)
	must(t, err)
	file, err := all.ConfigFile()
	must(t, err)
	file.OS, file.Architecture, file.Config = "linux", "amd64", config
	all, err = mutate.ConfigFile(all, file)
	must(t, err)
	ref, err := name.ParseReference(registryAddress+"/"+image, name.Insecure)
	must(t, err)
	must(t, remote.Write(ref, all))
}

// images pushes all that pods run, ours under each of the tags.
func (n *node) images(t *testing.T, tags ...string) {
	t.Helper()
	bin := func(program string) string { return filepath.Join(built, program) }
	const roots = "/etc/ssl/certs/ca-certificates.crt"
	ours := func(program string, more map[string]string) {
		files := map[string]string{"/" + program: bin(program), roots: n.path("ca.crt")}
		for path, from := range more {
			files[path] = from
		}
		for _, tag := range tags {
			push(t, "vmcp-"+program+":"+tag, files, v1.Config{Entrypoint: []string{"/" + program}, User: "65532:65532", Labels: map[string]string{"version": tag}})
		}
	}
	ours("authz", map[string]string{"/drain": bin("drain")})
	ours("authserver", nil)
	ours("aggregator", nil)
	ours("bridge", nil)
	ours("operator", nil)
	push(t, "pause:1", map[string]string{"/pause": bin("pause")}, v1.Config{Entrypoint: []string{"/pause"}})
	push(t, "entrasim:1", map[string]string{"/entrasim": bin("entrasim"), "/forward": bin("forward")}, v1.Config{Entrypoint: []string{"/entrasim"}})
	push(t, "github/github-mcp-server:latest", map[string]string{"/server/github-mcp": bin("github-mcp")}, v1.Config{Entrypoint: []string{"/server/github-mcp"}})
	push(t, "stackloklabs/yardstick/yardstick-server:1.1.1", map[string]string{"/kubernetes-mcp": bin("kubernetes-mcp")}, v1.Config{Entrypoint: []string{"/kubernetes-mcp"}})
	envoy := os.Getenv("VMCP_ENVOY")
	files := map[string]string{"/usr/local/bin/envoy": envoy}
	for line := range strings.Lines(run(t, "ldd", envoy)) { // Envoy is linked to glibc
		for _, word := range strings.Fields(line) {
			if strings.HasPrefix(word, "/") {
				files[word] = word
			}
		}
	}
	push(t, "envoyproxy/envoy:distroless-v1.40.0", files, v1.Config{Entrypoint: []string{"/usr/local/bin/envoy"}})
}
