// Package kube is what is shown on a real Kubernetes API server, of the version that test/kube/go.mod names: make e2e-k8s.
package kube

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"vmcp/internal/await"
	"vmcp/internal/child"
	"vmcp/internal/freeport"
)

// cluster is etcd and an API server, and nothing behind them: what it takes is stored, and nobody acts on it.
type cluster struct {
	url, token string
	client     *http.Client
}

var programs = os.Getenv("VMCP_KUBE")

// start starts them for the time of the test.
func start(t *testing.T) *cluster {
	t.Helper()
	if programs == "" {
		t.Skip("no programs of Kubernetes: make e2e-k8s builds them, once, and runs this")
	}
	dir := t.TempDir()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	address := func() string {
		t.Helper()
		a, err := freeport.Address()
		check(err)
		return a
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	der, err := x509.MarshalECPrivateKey(key)
	check(err)
	accounts := filepath.Join(dir, "accounts.key")
	check(os.WriteFile(accounts, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600))
	c := &cluster{token: rand.Text()}
	check(os.WriteFile(filepath.Join(dir, "tokens.csv"), []byte(c.token+`,admin,admin,"system:masters"`), 0o600))

	etcd, peers, api := address(), address(), address()
	c.url = "https://" + api
	_, port, _ := strings.Cut(api, ":")
	var stops []func()
	t.Cleanup(func() {
		for _, stop := range slices.Backward(stops) { // the API server before what it keeps everything in
			stop()
		}
		for _, name := range []string{"etcd", "kube-apiserver"} {
			if text, _ := os.ReadFile(filepath.Join(dir, name+".log")); t.Failed() {
				t.Logf("%s:\n%s", name, text[max(0, len(text)-2000):])
			}
		}
	})
	for _, program := range [][]string{
		{"etcd", "--data-dir=" + filepath.Join(dir, "etcd"), "--unsafe-no-fsync", "--listen-client-urls=http://" + etcd, "--advertise-client-urls=http://" + etcd,
			"--listen-peer-urls=http://" + peers, "--initial-advertise-peer-urls=http://" + peers, "--initial-cluster=default=http://" + peers},
		{"kube-apiserver", "--etcd-servers=http://" + etcd, "--bind-address=127.0.0.1", "--endpoint-reconciler-type=none", "--secure-port=" + port,
			"--cert-dir=" + filepath.Join(dir, "certs"), "--token-auth-file=" + filepath.Join(dir, "tokens.csv"), "--authorization-mode=RBAC",
			"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file=" + accounts, "--service-account-signing-key-file=" + accounts,
			"--service-cluster-ip-range=10.96.0.0/16", "--disable-admission-plugins=ServiceAccount"},
	} {
		name, args := program[0], program[1:]
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		stops = append(stops, func() { cancel(); running.Wait() })
		running.Go(func() {
			cfg := child.Config{Name: name, Path: filepath.Join(programs, name), Args: args, Env: []string{"HOME=" + dir}, Log: filepath.Join(dir, name+".log")}
			if err := child.Run(ctx, cfg); err != nil {
				t.Error(err)
			}
		})
	}
	c.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} // its own certificate, on loopback
	await.That(t, "the API server is ready", func() bool {
		status, _ := c.do(t, "GET", "/readyz", nil)
		return status == 200 || t.Failed()
	})
	return c
}

// do sends a request; status 0: there was no answer.
func (c *cluster) do(t *testing.T, method, path string, object any) (status int, body []byte) {
	t.Helper()
	var text []byte
	if object != nil {
		var err error
		if text, err = json.Marshal(object); err != nil {
			t.Fatal(err)
		}
	}
	r, err := http.NewRequestWithContext(t.Context(), method, c.url+path, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+c.token)
	r.Header.Set("Content-Type", "application/json")
	resp, err := c.client.Do(r)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	if body, err = io.ReadAll(resp.Body); err != nil {
		return 0, nil
	}
	return resp.StatusCode, body
}

// plurals are the paths of kinds, where they are not the small name and an s.
var plurals = map[string]string{"NetworkPolicy": "networkpolicies", "MCPServerEntry": "mcpserverentries", "MCPRemoteProxy": "mcpremoteproxies"}

// path is where objects of a kind are, and whether they live in namespaces.
func path(object map[string]any, namespace string) string {
	version, kind := fmt.Sprint(object["apiVersion"]), fmt.Sprint(object["kind"])
	plural := plurals[kind]
	if plural == "" {
		plural = strings.ToLower(kind) + "s"
	}
	root := "/apis/" + version
	if !strings.Contains(version, "/") {
		root = "/api/" + version
	}
	if kind == "Namespace" || kind == "CustomResourceDefinition" {
		return root + "/" + plural
	}
	return root + "/namespaces/" + namespace + "/" + plural
}

// create creates an object, strictly: a field that is not known is an error. options are query parameters.
func (c *cluster) create(t *testing.T, object map[string]any, namespace, options string) (status int, message string) {
	t.Helper()
	status, body := c.do(t, "POST", path(object, namespace)+"?fieldValidation=Strict"+options, object)
	var answer struct{ Message string }
	json.Unmarshal(body, &answer)
	return status, answer.Message
}
