package endpoint

import (
	"fmt"
	"net/netip"
	"slices"
)

// globalUnicast is all of IPv6 that IANA hands out. What lies outside is
// loopback, unique local, link-local, multicast, NAT64 (64:ff9b::/96 and
// 64:ff9b:1::/48), IPv4-compatible, discard-only, segment routing or not yet
// assigned: refused as a whole, so that the next special block is refused too.
var globalUnicast = netip.MustParsePrefix("2000::/3")

// specialNetworks are the networks inside IPv4 and 2000::/3 that are refused.
//
// https://www.iana.org/assignments/iana-ipv4-special-registry
// https://www.iana.org/assignments/iana-ipv6-special-registry
//
// The few entries that the registries call globally reachable (AS112, AMT,
// Teredo's neighbours) are here too: no receiver of webhooks is in them.
var specialNetworks = []struct {
	prefix netip.Prefix
	use    string
}{
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

// SimplifyNetworks returns networks that contain the same addresses: those of
// IPv4 as such, sorted, each once, and none that is not valid. Equal sets give
// equal lists.
func SimplifyNetworks(networks []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range networks {
		if !p.IsValid() {
			continue
		}
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		out = append(out, p.Masked())
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out)
}

// CheckAddress returns why an endpoint may not be at the address, or nil. The
// networks in which it may be are as SimplifyNetworks returns them.
func CheckAddress(addr netip.Addr, allowed []netip.Prefix) *RefusedAddressError {
	addr = addr.Unmap().WithZone("")
	contains := func(p netip.Prefix) bool { return p.Contains(addr) }
	if slices.ContainsFunc(allowed, contains) {
		return nil
	}
	for _, s := range specialNetworks {
		if contains(s.prefix) {
			return &RefusedAddressError{Addr: addr, Network: s.prefix, Use: s.use}
		}
	}
	if addr.Is6() && !contains(globalUnicast) {
		return &RefusedAddressError{Addr: addr, Network: netip.PrefixFrom(addr, 128), Use: "outside IPv6's global unicast"}
	}
	return nil
}
