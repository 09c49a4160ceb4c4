// Package images asks registries what an image starts, so that a stdio server of any image can be started by the bridge
// beside it, and under which digest the image is what it was when it was asked.
package images

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Image is what a registry says of an image.
type Image struct {
	Reference string   // with digest
	Command   []string // entrypoint, or entrypoint and default arguments; see Start
	Arguments []string // default arguments (CMD)
}

// Start is what a container of the image runs when it is given args, which stand for the image's own (as Kubernetes has it).
func (i Image) Start(args []string) []string {
	if len(args) > 0 {
		return i.Command
	}
	return slices.Concat(i.Command, i.Arguments)
}

// Registry asks registries and remembers: a tag for a while, a digest for good.
type Registry struct {
	Mirrors map[string]string // by registry: the URL of one that is asked in its place
	// Client's transport; nil: the default one.
	Transport http.RoundTripper

	mu    sync.Mutex
	seen  map[string]entry
	asked map[string]bool // now, by Soon
}

type entry struct {
	image Image
	err   error
	until time.Time
}

// How long an answer holds. A tag may be moved; a registry that is away may be back.
const (
	tagLife   = 5 * time.Minute
	errorLife = 15 * time.Second
	patience  = 10 * time.Second
)

// Look asks the registry of reference, signed in by what one of the pull secrets (data of type
// kubernetes.io/dockerconfigjson) has for it.
func (r *Registry) Look(ctx context.Context, reference string, pulls [][]byte) (Image, error) {
	ref, err := name.ParseReference(reference)
	if err != nil {
		return Image{}, fmt.Errorf("%q is no image: want NAME:TAG or NAME@DIGEST", reference)
	}
	key := keyOf(reference, pulls)
	r.mu.Lock()
	have, ok := r.seen[key]
	r.mu.Unlock()
	if ok && time.Now().Before(have.until) {
		return have.image, have.err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	got := entry{until: time.Now().Add(tagLife)}
	if got.image, got.err = r.ask(ctx, ref, pulls); got.err != nil {
		got.until = time.Now().Add(errorLife)
		if ok && have.err == nil { // what it was is better than nothing
			got.image, got.err = have.image, nil
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.remember(key, got)
	return got.image, got.err
}

// keyOf tells answers apart, also by who asks: who may not ask learns nothing.
func keyOf(reference string, pulls [][]byte) string {
	return fmt.Sprintf("%s %x", reference, sha256.Sum256(bytes.Join(pulls, []byte{0})))
}

// ErrAsking is what Soon says until a registry has answered.
var ErrAsking = errors.New("its registry is being asked")

// Soon is Look for those who cannot wait: it asks in the background, and calls done when there is an answer to look for.
func (r *Registry) Soon(ctx context.Context, reference string, pulls [][]byte, done func()) (Image, error) {
	key := keyOf(reference, pulls)
	r.mu.Lock()
	defer r.mu.Unlock()
	if have, ok := r.seen[key]; ok && time.Now().Before(have.until) {
		return have.image, have.err
	}
	if !r.asked[key] {
		if r.asked == nil {
			r.asked = map[string]bool{}
		}
		r.asked[key] = true
		go func() {
			_, err := r.Look(context.WithoutCancel(ctx), reference, pulls)
			r.mu.Lock()
			delete(r.asked, key)
			if r.seen[key].until.IsZero() { // no reference: nothing was asked
				r.remember(key, entry{err: err, until: time.Now().Add(errorLife)})
			}
			r.mu.Unlock()
			done()
		}()
	}
	return Image{}, ErrAsking
}

func (r *Registry) remember(key string, got entry) {
	if r.seen == nil {
		r.seen = map[string]entry{}
	}
	r.seen[key] = got
}

func (r *Registry) ask(ctx context.Context, ref name.Reference, pulls [][]byte) (Image, error) {
	asked := ref
	if mirror, ok := r.Mirrors[ref.Context().RegistryStr()]; ok {
		host, plain := strings.CutPrefix(mirror, "http://")
		host = strings.TrimSuffix(strings.TrimPrefix(host, "https://"), "/")
		var options []name.Option
		if plain {
			options = append(options, name.Insecure)
		}
		registry, err := name.NewRegistry(host, options...)
		if err != nil {
			return Image{}, fmt.Errorf("mirror of %s: %w", ref.Context().RegistryStr(), err)
		}
		repository := registry.Repo(ref.Context().RepositoryStr())
		if digest, ok := ref.(name.Digest); ok {
			asked = repository.Digest(digest.DigestStr())
		} else {
			asked = repository.Tag(ref.Identifier())
		}
	}
	options := []remote.Option{
		remote.WithContext(ctx), remote.WithAuthFromKeychain(keychain(pulls)), remote.WithPlatform(v1.Platform{OS: "linux", Architecture: runtime.GOARCH}),
	}
	if r.Transport != nil {
		options = append(options, remote.WithTransport(r.Transport))
	}
	described, err := remote.Get(asked, options...)
	if err != nil {
		return Image{}, reason(asked, err)
	}
	image, err := described.Image()
	if err != nil {
		return Image{}, reason(asked, err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		return Image{}, reason(asked, err)
	}
	out := Image{Reference: ref.Context().Name() + "@" + described.Digest.String(), Command: config.Config.Entrypoint, Arguments: config.Config.Cmd}
	if len(out.Command) == 0 {
		if len(out.Arguments) == 0 {
			return Image{}, errors.New("the image has neither an entrypoint nor a command")
		}
		// Without an entrypoint the first argument is the program, and args of a pod stand for the rest.
		out.Command, out.Arguments = out.Arguments[:1], out.Arguments[1:]
	}
	return out, nil
}

// reason says in short why a registry gave nothing; errors of the library may hold whole pages.
func reason(ref name.Reference, err error) error {
	text, _, _ := strings.Cut(err.Error(), "\n")
	if len(text) > 300 {
		text = text[:300] + "…"
	}
	return fmt.Errorf("registry %s: %s", ref.Context().RegistryStr(), text)
}

// keys is a keychain of pull secrets.
type keys map[string]authn.AuthConfig

func keychain(pulls [][]byte) keys {
	all := keys{}
	for _, data := range pulls {
		var file struct {
			Auths map[string]authn.AuthConfig `json:"auths"`
		}
		if json.Unmarshal(data, &file) != nil {
			continue // the kubelet says so too
		}
		for host, auth := range file.Auths {
			host = strings.TrimPrefix(strings.TrimPrefix(host, "https://"), "http://")
			host, _, _ = strings.Cut(host, "/")
			if host == "docker.io" {
				host = name.DefaultRegistry
			}
			if _, ok := all[host]; !ok {
				all[host] = auth
			}
		}
	}
	return all
}

// Resolve implements authn.Keychain.
func (k keys) Resolve(of authn.Resource) (authn.Authenticator, error) {
	auth, ok := k[of.RegistryStr()]
	if !ok {
		return authn.Anonymous, nil
	}
	return authn.FromConfig(auth), nil
}
