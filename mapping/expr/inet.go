package expr

import (
	"bytes"
	"net/netip"
	"strconv"
)

// parseInet reads an address with an optional mask length.
func parseInet(s []byte) (addr netip.Addr, bits int, ok bool) {
	host, mask, masked := bytes.Cut(bytes.TrimSpace(s), []byte("/"))
	addr, err := netip.ParseAddr(string(host))
	if err != nil || addr.Zone() != "" {
		return addr, 0, false
	}
	bits = addr.BitLen()
	if masked {
		n, err := strconv.Atoi(string(mask))
		if err != nil || n < 0 || n > bits {
			return addr, 0, false
		}
		bits = n
	}
	return addr, bits, true
}

// equalInet compares two addresses with their masks.
func equalInet(a, b []byte) bool {
	x, xbits, ok1 := parseInet(a)
	y, ybits, ok2 := parseInet(b)
	return ok1 && ok2 && x == y && xbits == ybits
}
