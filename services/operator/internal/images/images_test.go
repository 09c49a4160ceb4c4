package images

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// serve is a registry; asked counts requests, and only password gets in if it is not empty.
func serve(t *testing.T, password string) (host string, asked *int) {
	t.Helper()
	asked = new(int)
	inner := registry.New()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked++
		if _, got, _ := r.BasicAuth(); password != "" && got != password && r.Method == "GET" {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			http.Error(w, "who are you", http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://"), asked
}

func push(t *testing.T, reference string, config v1.Config) {
	t.Helper()
	image, err := mutate.Config(empty.Image, config)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(reference)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, image); err != nil {
		t.Fatal(err)
	}
}

// TestLook: what the image starts, as Kubernetes composes it, and a digest that stays.
func TestLook(t *testing.T) {
	host, asked := serve(t, "")
	for _, c := range []struct {
		name        string
		config      v1.Config
		args, start []string
		wrong       string
	}{
		{"both", v1.Config{Entrypoint: []string{"/server"}, Cmd: []string{"stdio"}}, nil, []string{"/server", "stdio"}, ""},
		{"args", v1.Config{Entrypoint: []string{"/server"}, Cmd: []string{"stdio"}}, []string{"-x"}, []string{"/server"}, ""},
		{"cmd", v1.Config{Cmd: []string{"python", "-m", "server"}}, nil, []string{"python", "-m", "server"}, ""},
		{"nothing", v1.Config{}, nil, nil, "neither an entrypoint nor a command"},
	} {
		t.Run(c.name, func(t *testing.T) {
			push(t, host+"/"+c.name+":1", c.config)
			var r Registry
			image, err := r.Look(t.Context(), host+"/"+c.name+":1", nil)
			if c.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), c.wrong) {
					t.Errorf("got %v, want %q", err, c.wrong)
				}
				return
			}
			if err != nil || !slices.Equal(image.Start(c.args), c.start) || !strings.HasPrefix(image.Reference, host+"/"+c.name+"@sha256:") {
				t.Errorf("%s starts %q, %v; want %q", image.Reference, image.Start(c.args), err, c.start)
			}
			before := *asked
			if _, err := r.Look(t.Context(), host+"/"+c.name+":1", nil); err != nil || *asked != before {
				t.Errorf("asked again at once: %v", err)
			}
		})
	}
}

// TestLookAway: an image that is not there, no reference, a registry that is away, and a mirror that has it.
func TestLookAway(t *testing.T) {
	host, _ := serve(t, "")
	push(t, host+"/team/server:1", v1.Config{Entrypoint: []string{"/server"}})
	var r Registry
	for reference, want := range map[string]string{
		host + "/none:1":    host,
		"UPPER CASE":        "is no image",
		"127.0.0.1:1/one:1": "127.0.0.1:1",
	} {
		if _, err := r.Look(t.Context(), reference, nil); err == nil || !strings.Contains(err.Error(), want) || len(err.Error()) > 400 {
			t.Errorf("%s: %v, want %q in it", reference, err, want)
		}
	}
	mirrored := Registry{Mirrors: map[string]string{"ghcr.example": "http://" + host}}
	image, err := mirrored.Look(t.Context(), "ghcr.example/team/server:1", nil)
	if err != nil || !strings.HasPrefix(image.Reference, "ghcr.example/team/server@sha256:") {
		t.Errorf("by a mirror: %q, %v", image.Reference, err)
	}
}

// TestPullSecrets: a registry that lets nobody in is asked with the pull secret for it, and no other.
func TestPullSecrets(t *testing.T) {
	host, _ := serve(t, "letmein")
	push(t, host+"/private:1", v1.Config{Entrypoint: []string{"/server"}})
	secret := func(host string) []byte {
		return fmt.Appendf(nil, `{"auths":{"https://%s/v1/":{"username":"u","password":"letmein"}}}`, host)
	}
	if _, err := new(Registry).Look(t.Context(), host+"/private:1", [][]byte{secret("elsewhere.example"), []byte("no json")}); err == nil {
		t.Error("let in without a secret for it")
	}
	if _, err := new(Registry).Look(t.Context(), host+"/private:1", [][]byte{secret("elsewhere.example"), secret(host)}); err != nil {
		t.Error(err)
	}
}

// TestSoon: who cannot wait is told that the registry is asked, once however often it is wanted, and then the answer.
func TestSoon(t *testing.T) {
	host, asked := serve(t, "")
	push(t, host+"/a:1", v1.Config{Entrypoint: []string{"/server"}})
	before := *asked
	var r Registry
	for reference, want := range map[string]string{host + "/a:1": "", "No Image": "is no image"} {
		done := make(chan bool, 3)
		for range 3 {
			if _, err := r.Soon(t.Context(), reference, nil, func() { done <- true }); !errors.Is(err, ErrAsking) && want == "" {
				break // it was quick
			}
		}
		<-done
		_, err := r.Soon(t.Context(), reference, nil, func() { t.Error("asked again") })
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", reference, err, want)
		}
	}
	if *asked-before > 4 {
		t.Errorf("%d requests for one image", *asked-before)
	}
}
