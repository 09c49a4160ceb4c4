package gatewayconfig

import (
	"net"
	"strconv"
)

// AddressAnnotation is written by the operator for the servers that it runs.
const AddressAnnotation = "vmcp/address"

// runsElsewhere says of an MCPServer that it is no child of ours.
func (r *resolver) runsElsewhere(d *document) bool {
	_, given := metaOf(d.object).Annotations[AddressAnnotation]
	return given && !r.src.Loopback
}

// address reads where an MCPServer runs in a cluster: host:port of the bridge beside a stdio server, the URL of another.
// `vmcp up` starts servers itself.
func (r *resolver) address(d *document, b *Backend) {
	text, given := metaOf(d.object).Annotations[AddressAnnotation]
	if !given {
		return
	}
	at := join("metadata.annotations", AddressAnnotation)
	if r.src.Loopback {
		r.note(d, at, "ignored: `vmcp up` starts the server on this machine")
		return
	}
	if b.Transport != TransportStdio {
		if u := r.url(d, at, text, urlRule{remote: true}); u != nil {
			b.URL = text
		}
		return
	}
	host, port, err := net.SplitHostPort(text)
	if n, bad := strconv.ParseUint(port, 10, 16); err != nil || host == "" || bad != nil || n == 0 {
		d.bad(at, "want host:port of the bridge beside the server")
		return
	}
	b.Transport, b.URL, b.Bridge = TransportHTTP, "https://"+text+"/mcp", true
}
