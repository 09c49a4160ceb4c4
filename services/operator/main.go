// Command operator runs gateways in a cluster: it makes what the documents there ask for, and keeps it so.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/go-logr/zapr"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	metrics "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"vmcp/internal/daemon"
	"vmcp/services/operator/internal/control"
	"vmcp/services/operator/internal/images"
	"vmcp/services/operator/internal/render"
)

var (
	pods       render.Images
	namespaces = flag.String("namespaces", "", "`names`, separated by commas: the operator looks at no others; default: all")
	elect      = flag.String("leader-election-namespace", "", "`namespace` of the lease by which one of several operators acts; default: this one acts at once")
	health     = flag.String("health", ":8081", "`address` of /livez and /readyz")
	metricsAt  = flag.String("metrics", ":8082", "`address` of /metrics")
	mirrors    = map[string]string{}
)

func main() {
	flag.StringVar(&pods.Prefix, "image-prefix", "", "`prefix` of the services' images, such as registry.example.com/vmcp-; default: that of the operator's own")
	flag.StringVar(&pods.Tag, "image-tag", "", "`tag` of the services' images; default: that of the operator's own")
	flag.StringVar(&pods.Envoy, "envoy-image", "envoyproxy/envoy:distroless-v1.40.0", "`image` of Envoy")
	flag.Func("registry-mirror", "`REGISTRY=URL` that is asked about images of that registry; may be repeated", func(s string) error {
		registry, url, ok := strings.Cut(s, "=")
		if !ok || registry == "" || !strings.Contains(url, "://") {
			return fmt.Errorf("want REGISTRY=URL, such as ghcr.io=https://mirror.example.com")
		}
		mirrors[registry] = url
		return nil
	})
	daemon.Main(run)
}

func run(ctx context.Context, log *zap.Logger) error {
	logger := zapr.NewLogger(log)
	ctrl.SetLogger(logger)
	klog.SetLogger(logger)
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("how to reach the API server: %w (in a pod its service account says it, elsewhere KUBECONFIG)", err)
	}
	var only []string
	for n := range strings.SplitSeq(*namespaces, ",") {
		if n = strings.TrimSpace(n); n != "" {
			only = append(only, n)
		}
	}
	release := time.Second
	mgr, err := ctrl.NewManager(config, control.Options(ctrl.Options{
		Scheme: scheme.Scheme, HealthProbeBindAddress: *health, Metrics: metrics.Options{BindAddress: *metricsAt},
		LeaderElection: *elect != "", LeaderElectionNamespace: *elect, LeaderElectionID: "vmcp-operator", LeaderElectionReleaseOnCancel: true,
		RetryPeriod:          &release,
		LivenessEndpointName: "/livez", ReadinessEndpointName: "/readyz",
	}, only...))
	if err != nil {
		return err
	}
	if err := mgr.AddHealthzCheck("alive", healthz.Ping); err != nil {
		return err
	}
	if err := mgr.AddReadyzCheck("cache", func(r *http.Request) error {
		if !mgr.GetCache().WaitForCacheSync(r.Context()) {
			return fmt.Errorf("the cache is not filled yet")
		}
		return nil
	}); err != nil {
		return err
	}
	if pods.Prefix == "" || pods.Tag == "" {
		if err := likeMine(ctx, mgr.GetAPIReader()); err != nil {
			return err
		}
	}
	r := &control.Reconciler{Images: pods, Registry: &images.Registry{Mirrors: mirrors}, Now: time.Now}
	if err := r.Start(mgr); err != nil {
		return err
	}
	return mgr.Start(ctx)
}

// likeMine takes the images of the services from beside the operator's own: the same registry, beginning and tag.
func likeMine(ctx context.Context, live client.Reader) error {
	var pod corev1.Pod
	at := types.NamespacedName{Namespace: os.Getenv("POD_NAMESPACE"), Name: os.Getenv("POD_NAME")}
	if at.Name == "" {
		return errors.New("-image-prefix and -image-tag are missing: outside of a pod nothing else tells the services' images")
	}
	if err := live.Get(ctx, at, &pod); err != nil {
		return fmt.Errorf("reading the operator's own pod: %w", err)
	}
	for _, c := range pod.Spec.Containers {
		name, tag, ok := cutTag(c.Image)
		if prefix, mine := strings.CutSuffix(name, "operator"); mine && ok {
			pods.Prefix, pods.Tag = prefix, tag
			return nil
		}
	}
	return errors.New("the operator's own image does not end in operator:TAG, so it does not tell the services' images: give -image-prefix and -image-tag")
}

// cutTag cuts NAME:TAG, whose NAME may have a port.
func cutTag(image string) (name, tag string, ok bool) {
	if strings.Contains(image, "@") {
		return "", "", false
	}
	at := strings.LastIndexByte(image, ':')
	if at < strings.LastIndexByte(image, '/') || at < 0 {
		return "", "", false
	}
	return image[:at], image[at+1:], true
}
