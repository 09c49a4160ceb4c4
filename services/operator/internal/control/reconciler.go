// Package control makes and keeps what the documents in a cluster ask for. It looks at a namespace as a whole, whatever
// changed in it: references go by name, so any object may matter to any other. internal/gatewayconfig says what the
// documents mean, render which objects that is, credentials which keys and certificates.
package control

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"vmcp/services/operator/internal/credentials"
	"vmcp/services/operator/internal/images"
	"vmcp/services/operator/internal/render"
)

// Reconciler keeps namespaces.
type Reconciler struct {
	Client   client.Client // of the cache
	Live     client.Reader // of the API server
	Images   render.Images
	Registry *images.Registry
	Events   events.EventRecorder
	Now      func() time.Time

	references *references
	applied    applied
	backends   *backends
}

// resync is when a namespace is looked at although nothing changed: certificates and keys are renewed by then.
const resync = 10 * time.Minute

// Reconcile implements reconcile.Reconciler: the name of a request is that of a namespace.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	namespace := request.Name
	live := &corev1.Namespace{}
	switch err := r.Live.Get(ctx, types.NamespacedName{Name: namespace}, live); {
	case apierrors.IsNotFound(err) || err == nil && live.DeletionTimestamp != nil:
		r.references.in(namespace).keep() // of nothing
		return ctrl.Result{}, nil
	case err != nil && !apierrors.IsForbidden(err): // an operator of some namespaces may not read them
		return ctrl.Result{}, err
	}
	docs, err := r.list(ctx, namespace)
	if err != nil {
		return ctrl.Result{}, err
	}
	have, err := r.have(ctx, namespace)
	if err != nil {
		return ctrl.Result{}, err
	}
	look := &look{Reconciler: r, asked: r.references.in(namespace), documents: docs, have: have, again: resync, statuses: map[string]*status{}}
	err = look.all(ctx)
	look.keep()
	return ctrl.Result{RequeueAfter: look.again}, err
}

// A look is one pass over a namespace.
type look struct {
	*Reconciler
	*asked
	*documents
	have     map[reference]*render.Object
	again    time.Duration // to look again after, at the latest
	statuses map[string]*status
	key      []byte // of the namespace, for digests
}

// in asks for another look after d.
func (l *look) in(d time.Duration) { l.again = min(l.again, d) }

func (l *look) all(ctx context.Context) error {
	var errs []error
	var owners []*render.Object
	servers, err := l.servers()
	errs = append(errs, err)
	for _, s := range servers {
		owners = append(owners, s.object)
	}
	gateways := l.of("VirtualMCPServer")
	owners = append(owners, gateways...)
	var authority credentials.Data
	if len(owners) > 0 {
		if authority, err = l.authority(ctx, l.asked, owners); err != nil {
			return errors.Join(append(errs, err)...)
		}
	}
	l.key = authority["ca.key"]
	addresses := map[string]string{}
	for _, s := range servers {
		addresses[s.object.GetName()] = render.Address(s.object.GetName(), l.namespace, s.spec)
	}
	for _, s := range servers {
		errs = append(errs, l.server(ctx, s, authority))
	}
	for _, g := range gateways {
		errs = append(errs, l.gateway(ctx, g, addresses, authority))
	}
	errs = append(errs, l.others(), l.writeStatuses(ctx))
	return errors.Join(errs...)
}

// pods are those with a label, for what they say of themselves.
func (l *look) pods(ctx context.Context, label, value string) ([]corev1.Pod, error) {
	list := &corev1.PodList{}
	err := l.Client.List(ctx, list, client.InNamespace(l.namespace), client.MatchingLabels{label: value})
	return list.Items, err
}

// remove deletes what was made for a gateway or a server and is not wanted any more.
func (l *look) remove(ctx context.Context, label, value string, wanted map[reference]bool) error {
	var errs []error
	for ref, o := range l.have {
		if o.GetLabels()[label] == value && !wanted[ref] && o.GetDeletionTimestamp() == nil {
			errs = append(errs, client.IgnoreNotFound(l.Client.Delete(ctx, o, client.PropagationPolicy(metav1.DeletePropagationBackground))))
		}
	}
	return errors.Join(errs...)
}
