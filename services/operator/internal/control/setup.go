package control

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"vmcp/api/crds"
	"vmcp/api/v1beta1"
	"vmcp/services/operator/internal/render"
)

// Options adds to those of a manager what the operator keeps of the cluster: of objects that are not of our kinds only
// what it made itself. It reads all of them from there.
func Options(o ctrl.Options, namespaces ...string) ctrl.Options {
	ours := cache.ByObject{Label: labels.SelectorFromSet(labels.Set{render.ManagedBy: render.Manager})}
	by := map[client.Object]cache.ByObject{&corev1.Pod{}: ours}
	for _, gvk := range owned {
		kind := &unstructured.Unstructured{}
		kind.SetGroupVersionKind(gvk)
		by[kind] = ours
	}
	o.Cache.ByObject = by
	for _, n := range namespaces {
		if o.Cache.DefaultNamespaces == nil {
			o.Cache.DefaultNamespaces = map[string]cache.Config{}
		}
		o.Cache.DefaultNamespaces[n] = cache.Config{}
	}
	o.Client.Cache = &client.CacheOptions{Unstructured: true}
	return o
}

// Start lets the manager run r.
func (r *Reconciler) Start(mgr manager.Manager) error {
	r.Client, r.Live, r.Events = mgr.GetClient(), mgr.GetAPIReader(), mgr.GetEventRecorder(render.Manager)
	r.references, r.applied.seen = newReferences(r.Live), map[string]version{}
	r.backends = &backends{pods: mgr.GetClient(), tell: r.references.tell, port: metricsPort}
	for _, runs := range []manager.Runnable{r.references, r.backends} {
		if err := mgr.Add(runs); err != nil {
			return err
		}
	}
	byNamespace := handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
		return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: o.GetNamespace()}}}
	})
	build := ctrl.NewControllerManagedBy(mgr).Named("namespace").WithOptions(controller.Options{MaxConcurrentReconciles: 4})
	watch := func(apiVersion, kind string) {
		o := &unstructured.Unstructured{}
		o.SetAPIVersion(apiVersion)
		o.SetKind(kind)
		build = build.Watches(o, byNamespace)
	}
	for _, kind := range crds.Kinds() {
		watch(v1beta1.Group+"/"+v1beta1.Versions[0], kind)
	}
	for _, gvk := range owned {
		watch(gvk.GroupVersion().String(), gvk.Kind)
	}
	build = build.Watches(&corev1.Pod{}, byNamespace)
	build = build.WatchesRawSource(source.TypedChannel[*corev1.Namespace, reconcile.Request](r.references.changed,
		handler.TypedEnqueueRequestsFromMapFunc(func(_ context.Context, n *corev1.Namespace) []reconcile.Request {
			return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: n.GetName()}}}
		})))
	return build.Complete(r)
}
