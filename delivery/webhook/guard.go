package webhook

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"syscall"

	"gancho/delivery/endpoint"
)

// guard refuses connections to special-purpose networks, but for those that it
// lists, as endpoint.SimplifyNetworks returns them. It sees the address that is
// about to be connected to, after any resolution, so that no notation of an
// address and no answer of a name server gets around it, not even one that
// changes between a check and its use.
type guard []netip.Prefix

func guardOf(ep *endpoint.Endpoint) guard { return endpoint.SimplifyNetworks(ep.AllowPrivate) }

// control is a net.Dialer's ControlContext: it runs after the socket is created
// and before it connects, once for each address tried.
func (g guard) control(_ context.Context, network, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil || !strings.HasPrefix(network, "tcp") {
		return fmt.Errorf("refuse to connect over %s: it is not a TCP address", network)
	}
	return g.check(at.Addr())
}

// check returns a *endpoint.RefusedAddressError, or nil.
func (g guard) check(addr netip.Addr) error {
	if refused := endpoint.CheckAddress(addr, g); refused != nil {
		return refused
	}
	return nil
}
