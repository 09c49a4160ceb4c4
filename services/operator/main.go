package main

import (
	_ "github.com/google/go-containerregistry/pkg/v1/remote"
	_ "go.uber.org/zap"
	_ "k8s.io/api/core/v1"
	_ "sigs.k8s.io/controller-runtime"
	_ "sigs.k8s.io/controller-runtime/pkg/envtest"

	_ "vmcp/services/operator/internal/render"
)

func main() {}
