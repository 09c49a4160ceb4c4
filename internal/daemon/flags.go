package daemon

import "flag"

// Flags are what every service is told beside its documents and its work.
type Flags struct {
	Admin   string // address of the admin listener, in the form that mtls.Listen takes
	Health  string // host:port; empty: none
	Metrics string // host:port; empty: none
	TLS     string // directory for mtls.Load; empty: no certificate
}

// Declare adds -admin, -health, -metrics, -tls and -stop-time for the service of this name.
func (f *Flags) Declare(fs *flag.FlagSet, service string) {
	fs.StringVar(&f.Admin, "admin", "unix:/run/vmcp/"+service+"-admin.sock", "`address` for health, readiness and metrics")
	fs.StringVar(&f.Health, "health", "", "`address` for probes from other machines: /livez and /readyz alone, plain http")
	fs.DurationVar(&stopTime, "stop-time", stopTime, "how long calls in flight get after the signal to stop")
	fs.StringVar(&f.Metrics, "metrics", "", "`address` for a monitoring system on another machine: /metrics alone, plain http")
	fs.StringVar(&f.TLS, "tls", "", "`directory` with ca.crt, tls.crt and tls.key of this role; TCP is mutual TLS with it, and stays on loopback without")
}
