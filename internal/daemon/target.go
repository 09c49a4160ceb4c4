package daemon

// Target returns the gRPC target of an address in the form that Listen takes.
func Target(addr string) string {
	network, address := Network(addr)
	if network == "unix" {
		return "unix:" + address
	}
	return "dns:///" + address
}
