package control

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"vmcp/services/operator/internal/render"
)

// podList is a cluster's pods without a cluster.
type podList struct {
	client.Reader
	pods []corev1.Pod
}

func (l podList) List(_ context.Context, to client.ObjectList, _ ...client.ListOption) error {
	to.(*corev1.PodList).Items = l.pods
	return nil
}

// TestBackends: what the metrics of the aggregators say is known by gateway, a change is told, and a pod that is away or
// writes nonsense changes nothing.
func TestBackends(t *testing.T) {
	text := "# HELP\nvmcp_backend_up{backend=\"a\"} 1\nvmcp_backend_up{backend=\"b\"} 0\nvmcp_backend_breaker_open{backend=\"b\"} 1\nvmcp_backend_up{backend=\"c\"} x\nother 1\n"
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, text) }))
	defer s.Close()
	host, port, err := net.SplitHostPort(strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	pod := func(ip string) corev1.Pod {
		return corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Labels: map[string]string{render.GatewayLabel: "g"}}, Status: corev1.PodStatus{PodIP: ip}}
	}
	var told []string
	b := &backends{pods: podList{pods: []corev1.Pod{pod(host), pod("127.0.0.2"), pod("")}}, port: port, tell: func(namespace string) { told = append(told, namespace) }}
	b.ask(t.Context())
	if got := b.of("n", "g"); !got["a"].up || got["b"].up || got["b"].breaker != 1 || len(got) != 2 {
		t.Errorf("servers %+v", got)
	}
	if !slices.Equal(told, []string{"n"}) {
		t.Error("the namespace is not told once")
	}
	b.ask(t.Context())
	if len(told) != 1 {
		t.Error("told although nothing changed")
	}
	text = "vmcp_backend_up{backend=\"a\"} 0\n"
	b.ask(t.Context())
	if len(told) != 2 || b.of("n", "g")["a"].up {
		t.Errorf("a change is not told: %+v", b.of("n", "g"))
	}
	if b.of("n", "other") != nil {
		t.Error("a gateway that was not asked has servers")
	}
}
