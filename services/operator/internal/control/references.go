package control

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
)

// pollEvery is how often what a gateway names is looked at.
const pollEvery = 2 * time.Second

// references reads Secrets and ConfigMaps by name, one at a time: the operator may neither list nor watch them, so it
// knows of none that nothing names. It looks again at what was asked for last, and tells of changes.
type references struct {
	live    client.Reader
	changed chan event.TypedGenericEvent[*corev1.Namespace]

	mu   sync.Mutex
	seen map[string]map[reference]client.Object // by namespace; nil: it was not there
}

type reference struct{ kind, name string }

func newReferences(live client.Reader) *references {
	return &references{live: live, seen: map[string]map[reference]client.Object{}, changed: make(chan event.TypedGenericEvent[*corev1.Namespace], 16)}
}

// asked is what one look at a namespace has read. keep makes it what is polled.
type asked struct {
	all       *references
	namespace string
	now       map[reference]client.Object
}

func (r *references) in(namespace string) *asked {
	return &asked{r, namespace, map[reference]client.Object{}}
}

// secret gives a Secret; nil: there is none.
func (a *asked) secret(ctx context.Context, name string) (*corev1.Secret, error) {
	o, err := a.get(ctx, reference{"Secret", name}, &corev1.Secret{})
	s, _ := o.(*corev1.Secret)
	return s, err
}

// configMap gives a ConfigMap; nil: there is none.
func (a *asked) configMap(ctx context.Context, name string) (*corev1.ConfigMap, error) {
	o, err := a.get(ctx, reference{"ConfigMap", name}, &corev1.ConfigMap{})
	c, _ := o.(*corev1.ConfigMap)
	return c, err
}

func (a *asked) get(ctx context.Context, ref reference, into client.Object) (client.Object, error) {
	if o, ok := a.now[ref]; ok {
		return o, nil
	}
	a.all.mu.Lock()
	before, ok := a.all.seen[a.namespace][ref]
	a.all.mu.Unlock()
	if ok && before != nil { // at most pollEvery old
		a.now[ref] = before
		return before, nil
	}
	switch err := a.all.live.Get(ctx, types.NamespacedName{Namespace: a.namespace, Name: ref.name}, into); {
	case apierrors.IsNotFound(err):
		a.now[ref] = nil
		return nil, nil
	case err != nil:
		return nil, err
	}
	a.now[ref] = into
	return into, nil
}

// forget makes the next look read it anew: it was just written.
func (a *asked) forget(kind, name string) {
	delete(a.now, reference{kind, name})
	a.all.mu.Lock()
	defer a.all.mu.Unlock()
	delete(a.all.seen[a.namespace], reference{kind, name})
}

func (a *asked) keep() {
	a.all.mu.Lock()
	defer a.all.mu.Unlock()
	if len(a.now) == 0 {
		delete(a.all.seen, a.namespace)
		return
	}
	a.all.seen[a.namespace] = a.now
}

// Start implements manager.Runnable: it polls until ctx ends.
func (r *references) Start(ctx context.Context) error {
	for tick := time.NewTicker(pollEvery); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			return nil
		case <-tick.C:
		}
		r.mu.Lock()
		looks := map[string][]reference{}
		for namespace, refs := range r.seen {
			for ref := range refs {
				looks[namespace] = append(looks[namespace], ref)
			}
		}
		r.mu.Unlock()
		for namespace, refs := range looks {
			stale := false
			for _, ref := range refs {
				stale = r.moved(ctx, namespace, ref) || stale
			}
			if stale {
				r.tell(namespace)
			}
		}
	}
}

// tell makes the operator look at a namespace.
func (r *references) tell(namespace string) {
	r.changed <- event.TypedGenericEvent[*corev1.Namespace]{Object: &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}}
}

// moved asks for the version of one, and forgets what it was where it is another.
func (r *references) moved(ctx context.Context, namespace string, ref reference) bool {
	now := &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: ref.kind}}
	err := r.live.Get(ctx, types.NamespacedName{Namespace: namespace, Name: ref.name}, now, &client.GetOptions{Raw: &metav1.GetOptions{ResourceVersion: "0"}})
	if err != nil && !apierrors.IsNotFound(err) {
		return false // an API server that is away changes nothing
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	before, ok := r.seen[namespace][ref]
	if !ok {
		return false
	}
	if before == nil && err != nil || before != nil && err == nil && before.GetResourceVersion() == now.ResourceVersion {
		return false
	}
	delete(r.seen[namespace], ref)
	return true
}
