// Package envoy holds the gateway's Envoy configuration as it is shipped.
package envoy

import _ "embed"

// Config is envoy.yaml, TLS is tls.yaml. internal/envoyproc fills in addresses and paths.
var (
	//go:embed envoy.yaml
	Config []byte
	//go:embed tls.yaml
	TLS []byte
)
