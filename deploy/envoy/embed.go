// Package envoy holds the gateway's Envoy configuration as it is shipped.
package envoy

import _ "embed"

// Config is envoy.yaml; TLS, Role and Peers are the files of its certificates, which it names. internal/envoyproc fills
// in addresses and paths.
var (
	//go:embed envoy.yaml
	Config []byte
	//go:embed tls.yaml
	TLS []byte
	//go:embed role.yaml
	Role []byte
	//go:embed peers.yaml
	Peers []byte
)
