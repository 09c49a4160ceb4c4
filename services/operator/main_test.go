package main

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"vmcp/services/operator/internal/render"
)

type onePod struct {
	client.Reader
	image string
}

func (p onePod) Get(_ context.Context, _ client.ObjectKey, to client.Object, _ ...client.GetOption) error {
	to.(*corev1.Pod).Spec.Containers = []corev1.Container{{Name: "operator", Image: p.image}}
	return nil
}

// TestLikeMine: the services' images stand beside the operator's own; where that does not tell them, the flags must.
func TestLikeMine(t *testing.T) {
	for image, want := range map[string]string{
		"vmcp-operator:dev": "vmcp-authz:dev",
		"registry.example.com:5000/team/vmcp-operator:1": "registry.example.com:5000/team/vmcp-authz:1",
		"registry.example.com/operator:1":                "registry.example.com/authz:1",
		"registry.example.com:5000/vmcp-operator":        "",
		"vmcp-operator@sha256:00":                        "",
		"mirror.example.com/op:1":                        "",
	} {
		t.Setenv("POD_NAME", "one")
		pods = render.Images{}
		err := likeMine(t.Context(), onePod{image: image})
		if got := pods.Of("authz"); want != "" && (err != nil || got != want) || want == "" && (err == nil || !strings.Contains(err.Error(), "-image-prefix")) {
			t.Errorf("%s: %s, %v; want %q", image, got, err, want)
		}
	}
	t.Setenv("POD_NAME", "")
	if err := likeMine(t.Context(), onePod{}); err == nil || !strings.Contains(err.Error(), "-image-prefix and -image-tag are missing") {
		t.Errorf("outside of a pod: %v", err)
	}
}
