// Command operator runs gateways in a cluster: it makes what the documents there ask for, and keeps it so.
package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/go-logr/zapr"
	"go.uber.org/zap"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
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
	flag.StringVar(&pods.Prefix, "image-prefix", "vmcp-", "`prefix` of the services' images, such as registry.example.com/vmcp-")
	flag.StringVar(&pods.Tag, "image-tag", "dev", "`tag` of the services' images")
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
	kept := control.Cache()
	if *namespaces != "" {
		kept.DefaultNamespaces = map[string]cache.Config{}
		for n := range strings.SplitSeq(*namespaces, ",") {
			kept.DefaultNamespaces[strings.TrimSpace(n)] = cache.Config{}
		}
	}
	release := time.Second
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: scheme.Scheme, Cache: kept, HealthProbeBindAddress: *health, Metrics: metrics.Options{BindAddress: *metricsAt},
		LeaderElection: *elect != "", LeaderElectionNamespace: *elect, LeaderElectionID: "vmcp-operator", LeaderElectionReleaseOnCancel: true,
		RetryPeriod:          &release,
		LivenessEndpointName: "/livez", ReadinessEndpointName: "/readyz",
	})
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
	r := &control.Reconciler{Images: pods, Registry: &images.Registry{Mirrors: mirrors}, Now: time.Now}
	if err := r.Start(mgr); err != nil {
		return err
	}
	return mgr.Start(ctx)
}
