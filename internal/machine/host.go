package machine

import (
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Loopback reports whether a host is localhost or an address that only this machine reaches. Another name may be anything.
func Loopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && address.IsLoopback()
}

// Own reports whether a host is this machine: what is sent to an address of its own does not leave it.
func Own(host string) bool {
	if Loopback(host) {
		return true
	}
	address, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	own, err := net.InterfaceAddrs()
	return err == nil && slices.ContainsFunc(own, func(a net.Addr) bool {
		prefix, err := netip.ParsePrefix(a.String())
		return err == nil && prefix.Addr() == address.Unmap()
	})
}
