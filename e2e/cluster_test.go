package e2e

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmcp/deploy/k8s"
	"vmcp/internal/await"
	"vmcp/internal/child"
	"vmcp/internal/envoyproc"
)

// cluster stands for Kubernetes: it lays out volumes, resolves names of Services, and starts every container once.
type cluster struct {
	root      string
	resources []map[string]any
	secrets   map[string]map[string]string
	documents func(string) string
	more      map[string][]string // further arguments, by container

	addresses map[string]string // by "app port"
}

type container struct {
	app, name string
	root      string
	object    any
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	resources, err := k8s.Resources()
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.MkdirTemp("", "vmcp-pods-") // short: sockets are in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	c := &cluster{root: root, resources: resources, addresses: map[string]string{}}
	for app, pod := range c.pods() {
		for _, ct := range containers(pod) {
			for _, p := range items(ct, "ports") {
				c.addresses[fmt.Sprintf("%s %v", app, k8s.At(p, "containerPort"))] = freeAddress(t)
			}
		}
	}
	return c
}

// pods are the pod templates by application.
func (c *cluster) pods() map[string]any {
	pods := map[string]any{}
	for _, r := range c.resources {
		if template := k8s.At(r, "spec", "template"); template != nil {
			pods[fmt.Sprint(k8s.At(template, "metadata", "labels", "app"))] = k8s.At(template, "spec")
		}
	}
	return pods
}

// containers are those that go on running: not the one that only copies a program.
func containers(pod any) []any {
	init := slices.DeleteFunc(items(pod, "initContainers"), func(c any) bool { return k8s.At(c, "restartPolicy") == nil })
	return append(init, items(pod, "containers")...)
}

func items(v any, path ...string) []any {
	return slices.Clone(k8s.List(v, path...))
}

// address is where this test lets a port of an application's pod be.
func (c *cluster) address(app string, port any) string {
	return c.addresses[fmt.Sprintf("%s %v", app, port)]
}

// service is the address behind a Service's name and port, empty where there is none.
func (c *cluster) service(name, port string) string {
	for _, r := range c.resources {
		if r["kind"] != "Service" || k8s.At(r, "metadata", "name") != name {
			continue
		}
		app := fmt.Sprint(k8s.At(r, "spec", "selector", "app"))
		for _, p := range items(r, "spec", "ports") {
			if fmt.Sprint(k8s.At(p, "port")) != port {
				continue
			}
			target := k8s.At(p, "targetPort")
			for _, ct := range containers(c.pods()[app]) {
				for _, cp := range items(ct, "ports") {
					if k8s.At(cp, "name") == target || k8s.At(cp, "containerPort") == target {
						return c.address(app, k8s.At(cp, "containerPort"))
					}
				}
			}
		}
	}
	return ""
}

var (
	argAddress   = regexp.MustCompile(`^(-[a-z-]+=)([a-z]*):([0-9]+)$`)
	envoyAddress = regexp.MustCompile(`address: ([^\s,{}]+)(,?\s+)port_value: (\d+)`)
)

// run starts everything and waits until the probes say that it is ready.
func (c *cluster) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	var all []container
	t.Cleanup(func() {
		cancel()
		running.Wait()
		if t.Failed() {
			for _, ct := range all {
				text, _ := os.ReadFile(ct.root + "/log")
				t.Logf("%s:\n%s", ct.name, text[max(0, len(text)-3000):])
			}
		}
	})
	for app, pod := range c.pods() {
		for _, object := range containers(pod) {
			name := fmt.Sprint(k8s.At(object, "name"))
			ct := container{app: app, name: name, root: filepath.Join(c.root, name), object: object}
			all = append(all, ct)
			c.mount(t, pod, ct)
			cfg := child.Config{Name: name, Path: filepath.Join(bin, name), Env: []string{}, Log: ct.root + "/log"}
			if name == "envoy" {
				var err error
				if cfg.Path, err = envoyproc.Find(t.Context(), filepath.Join(root, ".tools")); err != nil {
					t.Fatal(err)
				}
			} else if image, _, _ := strings.Cut(fmt.Sprint(k8s.At(object, "image")), ":"); image != "vmcp-"+name {
				t.Errorf("container %s has the image %s", name, image)
			}
			for _, a := range items(object, "args") {
				cfg.Args = append(cfg.Args, c.argument(t, ct, a.(string)))
			}
			cfg.Args = append(cfg.Args, c.more[name]...)
			running.Go(func() {
				if err := child.Run(ctx, cfg); err != nil {
					t.Error(err)
				}
			})
		}
	}
	for _, ct := range all {
		await.That(t, ct.name+" is ready", func() bool { return c.ready(ct) || t.Failed() })
	}
	if t.Failed() {
		t.FailNow()
	}
}

// argument is one argument with this test's paths and addresses.
func (c *cluster) argument(t *testing.T, ct container, arg string) string {
	t.Helper()
	if m := argAddress.FindStringSubmatch(arg); m != nil {
		address := c.address(ct.app, m[3])
		if m[2] != "" {
			address = c.service(m[2], m[3])
		}
		if address == "" {
			t.Fatalf("%s: %s leads nowhere", ct.name, arg)
		}
		return m[1] + address
	}
	for _, sep := range []string{"=unix:", "="} {
		if flag, value, ok := strings.Cut(arg, sep); ok && path.IsAbs(value) {
			return flag + sep + ct.root + value
		}
	}
	if path.IsAbs(arg) {
		return ct.root + arg
	}
	return arg
}

// ready asks a container's readiness probe.
func (c *cluster) ready(ct container) bool {
	probe := k8s.At(ct.object, "readinessProbe")
	port := func(how string) string {
		return c.address(ct.app, k8s.At(ct.object, "ports", fmt.Sprint(k8s.At(probe, how, "port")), "containerPort"))
	}
	if k8s.At(probe, "tcpSocket") != nil {
		conn, err := net.Dial("tcp", port("tcpSocket"))
		if err == nil {
			conn.Close()
		}
		return err == nil
	}
	status, err := get("http://" + port("httpGet") + fmt.Sprint(k8s.At(probe, "httpGet", "path")))
	return err == nil && status == 200
}

// mount lays out the volumes of a container under its root. Volumes of a pod are shared.
func (c *cluster) mount(t *testing.T, pod any, ct container) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(os.MkdirAll(ct.root, 0o700))
	for _, m := range items(ct.object, "volumeMounts") {
		name := fmt.Sprint(k8s.At(m, "name"))
		at, volume := ct.root+fmt.Sprint(k8s.At(m, "mountPath")), k8s.At(pod, "volumes", name)
		dir := filepath.Join(c.root, "volumes", ct.app, name)
		check(os.MkdirAll(dir, 0o700))
		check(os.MkdirAll(filepath.Dir(at), 0o700))
		check(os.Symlink(dir, at))
		var data map[string]string
		if secret := k8s.At(volume, "secret", "secretName"); secret != nil {
			if data = c.secrets[secret.(string)]; data == nil {
				t.Fatalf("%s needs Secret %s, which is not documented", ct.name, secret)
			}
		} else if config := k8s.At(volume, "configMap", "name"); config != nil {
			data = c.configMap(t, ct, config.(string))
		}
		// As the kubelet does: files are links into a directory that is replaced as a whole.
		if _, err := os.Lstat(dir + "/..data"); data == nil || err == nil {
			continue
		}
		check(os.Mkdir(dir+"/..now", 0o700))
		check(os.Symlink("..now", dir+"/..data"))
		for key, text := range data {
			check(os.WriteFile(filepath.Join(dir, "..now", key), []byte(text), 0o440))
			check(os.Symlink("..data/"+key, filepath.Join(dir, key)))
		}
	}
}

func (c *cluster) configMap(t *testing.T, ct container, name string) map[string]string {
	t.Helper()
	for _, r := range c.resources {
		if r["kind"] != "ConfigMap" || k8s.At(r, "metadata", "name") != name {
			continue
		}
		data := map[string]string{}
		for key, text := range r["data"].(map[string]any) {
			switch data[key] = text.(string); name {
			case "vmcp-documents":
				data[key] = c.documents(data[key])
			case "vmcp-envoy":
				data[key] = c.envoy(t, ct, key, data[key])
			}
		}
		return data
	}
	t.Fatalf("no ConfigMap %s", name)
	return nil
}

// envoy gives one of Envoy's files this test's paths and addresses.
func (c *cluster) envoy(t *testing.T, ct container, file, text string) string {
	t.Helper()
	replaced := map[string]bool{}
	text = envoyAddress.ReplaceAllStringFunc(text, func(s string) string {
		m := envoyAddress.FindStringSubmatch(s)
		address := c.address(ct.app, m[3])
		if m[1] != "0.0.0.0" {
			address = c.service(m[1], m[3])
		}
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatalf("%s: %s:%s leads nowhere", file, m[1], m[3])
		}
		replaced[m[1]] = true
		return "address: " + host + m[2] + "port_value: " + port
	})
	if want := []string{"0.0.0.0", "aggregator", "authserver"}; file == "envoy.yaml" {
		if diff := cmp.Diff(want, slices.Sorted(maps.Keys(replaced))); diff != "" {
			t.Errorf("addresses in %s (-want +got):\n%s", file, diff)
		}
	}
	return strings.NewReplacer("/etc/vmcp/", ct.root+"/etc/vmcp/", "/run/vmcp/", ct.root+"/run/vmcp/").Replace(text)
}
