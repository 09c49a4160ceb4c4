// Package loopback knows the names of this machine that need no resolver: one answer to whether a host is here, for all
// who make that a condition.
package loopback

import (
	"net"
	"net/netip"
)

// Host says whether host is localhost or a loopback address. Brackets, ports, other spellings of localhost and the names
// below it are not.
func Host(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// Address is Host of host:port.
func Address(address string) bool {
	host, _, err := net.SplitHostPort(address)
	return err == nil && Host(host)
}
