package control

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"vmcp/services/operator/internal/render"
)

// owned are the kinds that the operator makes and may list, all but ConfigMaps and Secrets.
var owned = []schema.GroupVersionKind{
	{Group: "apps", Version: "v1", Kind: "Deployment"},
	{Group: "apps", Version: "v1", Kind: "StatefulSet"},
	{Group: "", Version: "v1", Kind: "Service"},
	{Group: "networking.k8s.io", Version: "v1", Kind: "NetworkPolicy"},
	{Group: "policy", Version: "v1", Kind: "PodDisruptionBudget"},
}

// fieldManager is whose fields those are that the operator sets (server-side apply).
const fieldManager = client.FieldOwner(render.Manager)

// A foreign error says that an object of that name is somebody else's.
type foreign struct {
	kind, name string
	of         string // the document of ours that it belongs to, if it does
}

func (f foreign) Error() string {
	if f.of != "" {
		return fmt.Sprintf("the %s %s belongs to %s: rename one of the two", f.kind, f.name, f.of)
	}
	return fmt.Sprintf("there is a %s %s that this operator did not make, most likely another operator's or yours: it is left alone; rename one of the two, or delete it", f.kind, f.name)
}

// applied remembers what was applied as which version, so that what is as it should be costs no request.
type applied struct {
	mu   sync.Mutex
	seen map[string]version
}

type version struct {
	want [32]byte
	have string // uid and generation, or resource version where there are no generations
}

// apply makes an object what it should be. live is what the cache has; nil: nothing of ours.
func (r *Reconciler) apply(ctx context.Context, want, live *render.Object) error {
	text, err := json.Marshal(want.Object)
	if err != nil {
		return err
	}
	key := want.GetKind() + "/" + want.GetNamespace() + "/" + want.GetName()
	now := version{want: sha256.Sum256(text)}
	if live != nil {
		if of := ownerOf(live); of != ownerOf(want) {
			return foreign{want.GetKind(), want.GetName(), of}
		}
		now.have = versionOf(live)
		r.applied.mu.Lock()
		before := r.applied.seen[key]
		r.applied.mu.Unlock()
		if before == now {
			return nil
		}
	} else if err := r.free(ctx, want); err != nil {
		return err
	}
	got := want.DeepCopy()
	if err := r.put(ctx, got); err != nil {
		return err
	}
	now.have = versionOf(got)
	r.applied.mu.Lock()
	defer r.applied.mu.Unlock()
	r.applied.seen[key] = now
	return nil
}

// put sends an object, which then is as the API server has it.
func (r *Reconciler) put(ctx context.Context, o *render.Object) error {
	if err := r.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(o), fieldManager, client.ForceOwnership); err != nil {
		return fmt.Errorf("applying %s %s: %w", o.GetKind(), o.GetName(), err)
	}
	return nil
}

// free says whether the name of something new is free, or an object of ours that the cache does not know yet.
func (r *Reconciler) free(ctx context.Context, want *render.Object) error {
	have := &unstructured.Unstructured{}
	have.SetGroupVersionKind(want.GroupVersionKind())
	switch err := r.Live.Get(ctx, types.NamespacedName{Namespace: want.GetNamespace(), Name: want.GetName()}, have); {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return err
	case have.GetLabels()[render.ManagedBy] != render.Manager:
		return foreign{want.GetKind(), want.GetName(), ""}
	case ownerOf(have) != ownerOf(want):
		return foreign{want.GetKind(), want.GetName(), ownerOf(have)}
	}
	return nil
}

// ownerOf is the document that an object of ours was made for.
func ownerOf(o *render.Object) string {
	labels := o.GetLabels()
	if name := labels[render.GatewayLabel]; name != "" {
		return title("VirtualMCPServer", name)
	}
	if name := labels[render.ServerLabel]; name != "" {
		return title("MCPServer", name)
	}
	return ""
}

func versionOf(o *render.Object) string {
	if o.GetGeneration() > 0 {
		return fmt.Sprint(o.GetUID(), " ", o.GetGeneration())
	}
	return fmt.Sprint(o.GetUID(), " ", o.GetResourceVersion())
}

// have lists what was made in a namespace, by kind and name.
func (r *Reconciler) have(ctx context.Context, namespace string) (map[reference]*render.Object, error) {
	all := map[reference]*render.Object{}
	for _, gvk := range owned {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(gvk)
		if err := r.Client.List(ctx, list, client.InNamespace(namespace)); err != nil {
			return nil, err
		}
		for i := range list.Items {
			o := &list.Items[i]
			all[reference{o.GetKind(), o.GetName()}] = o
		}
	}
	return all, nil
}

// own makes the objects go when their owners have.
func own(o *render.Object, owners ...*render.Object) {
	var refs []any
	for _, owner := range owners {
		ref := map[string]any{"apiVersion": owner.GetAPIVersion(), "kind": owner.GetKind(), "name": owner.GetName(), "uid": string(owner.GetUID())}
		if len(owners) == 1 {
			ref["controller"] = true
		}
		refs = append(refs, ref)
	}
	unstructured.SetNestedSlice(o.Object, refs, "metadata", "ownerReferences")
}

// data makes a Secret or ConfigMap of ours what it should be; done where it is already.
func (r *Reconciler) data(ctx context.Context, a *asked, o *render.Object, same func() bool) error {
	if same() {
		return nil
	}
	if err := r.free(ctx, o); err != nil {
		return err
	}
	if err := r.put(ctx, o); err != nil {
		return err
	}
	a.forget(o.GetKind(), o.GetName())
	return nil
}

// newData is a Secret or ConfigMap of ours without its data.
func newData(kind, namespace, name string, labels map[string]string, owners ...*render.Object) *render.Object {
	o := &render.Object{Object: map[string]any{"apiVersion": corev1.SchemeGroupVersion.String(), "kind": kind}}
	o.SetNamespace(namespace)
	o.SetName(name)
	all := map[string]string{render.ManagedBy: render.Manager}
	maps.Copy(all, labels)
	o.SetLabels(all)
	own(o, owners...)
	return o
}
