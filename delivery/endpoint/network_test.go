package endpoint_test

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"gancho/delivery/endpoint"

	"code.dny.dev/ssrf"
)

// checkAddress is what the guard of each connection asks.
func checkAddress(allowed []netip.Prefix, addr netip.Addr) *endpoint.RefusedAddressError {
	return endpoint.CheckAddress(addr, endpoint.SimplifyNetworks(allowed))
}

// TestGuardRefusesSpecialNetworks checks the edges of every block of IANA's
// special-purpose registries, and their neighbours.
func TestGuardRefusesSpecialNetworks(t *testing.T) {
	t.Parallel()
	for _, block := range []string{
		// https://www.iana.org/assignments/iana-ipv4-special-registry
		"0.0.0.0/8", "0.0.0.0/32", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
		"192.0.0.0/29", "192.0.0.8/32", "192.0.0.9/32", "192.0.0.10/32", "192.0.0.170/32", "192.0.0.171/32", "192.0.2.0/24", "192.31.196.0/24",
		"192.52.193.0/24", "192.88.99.0/24", "192.88.99.2/32", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24",
		"203.0.113.0/24", "240.0.0.0/4", "255.255.255.255/32", "224.0.0.0/4",
		// https://www.iana.org/assignments/iana-ipv6-special-registry
		"::1/128", "::/128", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64", "2001::/23", "2001::/32", "2001:1::1/128",
		"2001:1::2/128", "2001:1::3/128", "2001:2::/48", "2001:3::/32", "2001:4:112::/48", "2001:10::/28", "2001:20::/28", "2001:30::/28",
		"2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10", "ff00::/8",
		// deprecated, but still in some routing table: site-local, IPv4-compatible
		"fec0::/10", "::/96",
		// clouds: AWS, Google, Oracle, Alibaba, Azure, AWS over IPv6, Google over IPv6
		"169.254.169.254/32", "169.254.170.2/32", "192.0.0.192/32", "100.100.100.200/32", "168.63.129.16/32", "fd00:ec2::254/128", "fd20:ce::254/128",
	} {
		first, last := edges(netip.MustParsePrefix(block))
		for _, addr := range []netip.Addr{first, last, mapped(first), mapped(last), first.WithZone("eth0")} {
			if block == "::ffff:0:0/96" {
				break // judged as the IPv4 addresses that they are
			}
			refused := checkAddress(nil, addr)
			if refused == nil || !strings.Contains(refused.Error(), "allow_private: ["+refused.Network.String()+"]") || !refused.Network.Contains(refused.Addr) {
				t.Errorf("%s of %s: %v; want it refused, with a way to allow it", addr, block, refused)
				continue
			}
			if err := checkAddress([]netip.Prefix{refused.Network}, addr); err != nil {
				t.Errorf("%s is refused although its error's advice is followed: %v", addr, err)
			}
		}
	}
	for _, public := range []string{
		"1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0", "168.63.129.15",
		"168.63.129.17", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.167.255.255", "192.169.0.0", "198.17.255.255",
		"198.20.0.0", "200.147.3.157", "223.255.255.255", "::ffff:8.8.8.8", "2001:200::", "2001:4860:4860::8888", "2003::", "2606:4700::1111",
		"2620:4f:8001::", "2804:14d::1", "3ffe:ffff::", "3fff:1000::",
	} {
		if err := checkAddress(nil, netip.MustParseAddr(public)); err != nil {
			t.Errorf("%s is refused: %v", public, err)
		}
	}
}

func TestGuardAllows(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		allow, addr string
		ok          bool
	}{
		{"10.1.0.0/16", "10.1.255.255", true},
		{"10.1.2.3/16", "10.1.255.255", true}, // host bits are no matter
		{"10.1.0.0/16", "10.2.0.0", false},
		{"10.1.0.0/16", "::ffff:10.1.2.3", true},
		{"::ffff:10.1.0.0/112", "10.1.2.3", true},
		{"::ffff:10.1.0.0/112", "10.2.2.3", false},
		{"10.1.0.0/16", "64:ff9b::10.1.2.3", false},
		{"10.1.0.0/16", "2002:a01:203::", false},
		{"fd00::/8", "fd12::1", true},
		{"fd00::/8", "fe80::1", false},
		{"fe80::/10", "fe80::1%eth0", true},
		{"0.0.0.0/0", "127.0.0.1", true},
		{"0.0.0.0/0", "::1", false},
		{"::/0", "::1", true},
		{"::/0", "127.0.0.1", false},
	} {
		err := checkAddress([]netip.Prefix{{}, netip.MustParsePrefix(c.allow)}, netip.MustParseAddr(c.addr))
		if (err == nil) != c.ok {
			t.Errorf("allow %s, address %s: %v", c.allow, c.addr, err)
		}
	}
}

// TestGuardIsNeverLaxerThanTheOracle compares the guard with
// code.dny.dev/ssrf, which is made from IANA's registries, over the edges of
// every block of both, around every power of two, and at random. Stricter, on
// purpose, are only the networks named here.
func TestGuardIsNeverLaxerThanTheOracle(t *testing.T) {
	t.Parallel()
	oracle := ssrf.New(ssrf.WithAnyPort())
	stricter := []netip.Prefix{
		netip.MustParsePrefix("168.63.129.16/32"), // Azure's platform: globally unicast, and answers from inside only
	}
	var addresses []netip.Addr
	around := func(a netip.Addr) { addresses = append(addresses, a, a.Next(), a.Prev()) }
	blocks := slices.Concat(ssrf.IPv4DeniedPrefixes, ssrf.IPv6DeniedPrefixes, stricter, endpoint.SpecialNetworks(), []netip.Prefix{ssrf.IPv6GlobalUnicast})
	for _, block := range blocks {
		first, last := edges(block)
		around(first)
		around(last)
	}
	for bit := range 128 {
		var b [16]byte
		b[bit/8] = 0x80 >> (bit % 8)
		around(netip.AddrFrom16(b))
		if bit < 32 {
			around(netip.AddrFrom4([4]byte(b[:4])))
		}
	}
	r := rand.New(rand.NewPCG(4, 3))
	for range 200_000 {
		var b [16]byte
		binary.BigEndian.PutUint64(b[:8], r.Uint64())
		binary.BigEndian.PutUint64(b[8:], r.Uint64())
		if b[1]&1 == 0 {
			b[0] = 0x20 | b[0]&0x1f // in 2000::/3, where the blocks are
		}
		addresses = append(addresses, netip.AddrFrom16(b), netip.AddrFrom4([4]byte(b[4:8])))
	}
	checked, apart := 0, map[netip.Prefix]bool{}
	for _, a := range addresses {
		if !a.IsValid() { // before the first, behind the last
			continue
		}
		checked++
		ours, theirs := checkAddress(nil, a), oracle.SafeAddr(a.Unmap())
		i := slices.IndexFunc(stricter, func(p netip.Prefix) bool { return p.Contains(a.Unmap()) })
		switch {
		case (ours == nil) == (theirs == nil):
		case ours != nil && i >= 0:
			apart[stricter[i]] = true
		default:
			t.Errorf("%s: the guard says %v, the oracle %v", a, ours, theirs)
		}
	}
	if checked < 400_000 || len(apart) != len(stricter) {
		t.Errorf("%d addresses checked, and only %v are the guard's own", checked, apart)
	}
}

// edges returns the first and the last address of the prefix.
func edges(p netip.Prefix) (first, last netip.Addr) {
	b := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	last, _ = netip.AddrFromSlice(b)
	return p.Masked().Addr(), last
}

// mapped is the IPv4 address in its IPv6 form.
func mapped(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.AddrFrom16(a.As16())
	}
	return a
}
