package webhook

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"gancho/delivery/endpoint"
)

// special is a network that no webhook goes to unasked.
type special struct {
	prefix netip.Prefix
	use    string
}

// globalUnicast is all of IPv6 that IANA hands out. What lies outside is
// loopback, unique local, link-local, multicast, NAT64 (64:ff9b::/96 and
// 64:ff9b:1::/48), IPv4-compatible, discard-only, segment routing or not yet
// assigned: refused as a whole, so that the next special block is refused too.
var globalUnicast = netip.MustParsePrefix("2000::/3")

// specials are the networks inside IPv4 and 2000::/3 that are refused.
//
// https://www.iana.org/assignments/iana-ipv4-special-registry
// https://www.iana.org/assignments/iana-ipv6-special-registry
//
// The few entries that the registries call globally reachable (AS112, AMT,
// Teredo's neighbours) are here too: no receiver of webhooks is in them.
var specials = []special{
	{netip.MustParsePrefix("0.0.0.0/8"), "this network"},
	{netip.MustParsePrefix("10.0.0.0/8"), "private"},
	{netip.MustParsePrefix("100.64.0.0/10"), "carrier-grade NAT"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("168.63.129.16/32"), "Azure's platform address"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local, cloud metadata"},
	{netip.MustParsePrefix("172.16.0.0/12"), "private"},
	{netip.MustParsePrefix("192.0.0.0/24"), "protocol assignments"},
	{netip.MustParsePrefix("192.0.2.0/24"), "documentation"},
	{netip.MustParsePrefix("192.31.196.0/24"), "AS112"},
	{netip.MustParsePrefix("192.52.193.0/24"), "AMT"},
	{netip.MustParsePrefix("192.88.99.0/24"), "6to4 relay"},
	{netip.MustParsePrefix("192.168.0.0/16"), "private"},
	{netip.MustParsePrefix("192.175.48.0/24"), "AS112"},
	{netip.MustParsePrefix("198.18.0.0/15"), "benchmarking"},
	{netip.MustParsePrefix("198.51.100.0/24"), "documentation"},
	{netip.MustParsePrefix("203.0.113.0/24"), "documentation"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved, broadcast"},
	{netip.MustParsePrefix("::/128"), "unspecified"},
	{netip.MustParsePrefix("::1/128"), "loopback"},
	{netip.MustParsePrefix("64:ff9b::/96"), "NAT64"},
	{netip.MustParsePrefix("64:ff9b:1::/48"), "local NAT64"},
	{netip.MustParsePrefix("fc00::/7"), "unique local"},
	{netip.MustParsePrefix("fe80::/10"), "link-local"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
	{netip.MustParsePrefix("2001::/23"), "protocol assignments, Teredo, benchmarking"},
	{netip.MustParsePrefix("2001:db8::/32"), "documentation"},
	{netip.MustParsePrefix("2002::/16"), "6to4"},
	{netip.MustParsePrefix("2620:4f:8000::/48"), "AS112"},
	{netip.MustParsePrefix("3fff::/20"), "documentation"},
}

// RefusedAddressError says that an endpoint's name or address leads into a
// network that webhooks are kept out of, lest a webhook reach what only this
// machine can reach.
type RefusedAddressError struct {
	Addr    netip.Addr
	Network netip.Prefix
	Use     string // what the network is for
}

// Error names the address, its network and the way to allow it.
func (e *RefusedAddressError) Error() string {
	return fmt.Sprintf("refuse to connect to %s: it is in %s (%s); if the receiver is meant to be there, add allow_private: [%s] to the endpoint",
		e.Addr, e.Network, e.Use, e.Network)
}

// guard refuses connections to special-purpose networks. It sees the address
// that is about to be connected to, after any resolution, so that no notation
// of an address and no answer of a name server gets around it, not even one
// that changes between a check and its use.
type guard struct {
	allow []netip.Prefix
}

// newGuard returns a guard that lets through what allow covers. Equal sets
// give guards of equal key.
func newGuard(allow []netip.Prefix) guard {
	var g guard
	for _, p := range allow {
		if p.IsValid() {
			g.allow = append(g.allow, unmapPrefix(p))
		}
	}
	slices.SortFunc(g.allow, netip.Prefix.Compare)
	g.allow = slices.Compact(g.allow)
	return g
}

// unmapPrefix turns ::ffff:a.b.c.d/96+n into a.b.c.d/n.
func unmapPrefix(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked()
}

func (g guard) key() string {
	var b strings.Builder
	for _, p := range g.allow {
		b.WriteString(p.String())
		b.WriteByte(' ')
	}
	return b.String()
}

// control is a net.Dialer's ControlContext: it runs after the socket is made
// and before it connects, once for each address tried.
func (g guard) control(_ context.Context, network, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil || !strings.HasPrefix(network, "tcp") {
		return fmt.Errorf("refuse to connect over %s: it is not a TCP address", network)
	}
	return g.check(at.Addr())
}

// check returns a *RefusedAddressError, or nil.
func (g guard) check(addr netip.Addr) error {
	addr = addr.Unmap().WithZone("")
	for _, p := range g.allow {
		if p.Contains(addr) {
			return nil
		}
	}
	for _, s := range specials {
		if s.prefix.Contains(addr) {
			return &RefusedAddressError{Addr: addr, Network: s.prefix, Use: s.use}
		}
	}
	if addr.Is6() && !globalUnicast.Contains(addr) {
		return &RefusedAddressError{Addr: addr, Network: netip.PrefixFrom(addr, 128), Use: "outside IPv6's global unicast"}
	}
	return nil
}

// CheckAddress reports an address in the endpoint's URL that every connection would be
// refused to. What a name resolves to is judged at each dial alone.
func CheckAddress(ep *endpoint.Endpoint) error {
	u, err := ep.Target()
	if err != nil {
		return nil //nolint:nilerr // Endpoint.Check reports it
	}
	addr, err := netip.ParseAddr(u.Hostname())
	if err != nil {
		return nil //nolint:nilerr // it is a name
	}
	if err := newGuard(ep.AllowPrivate).check(addr); err != nil {
		return fmt.Errorf("endpoint %q: %w", ep.Name, err)
	}
	return nil
}
