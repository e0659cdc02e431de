package endpoint

import "net/netip"

// SpecialNetworks are those that are refused by name.
func SpecialNetworks() (list []netip.Prefix) {
	for _, s := range specialNetworks {
		list = append(list, s.prefix)
	}
	return list
}

// ReservedHeaders are those that an endpoint may not set.
var ReservedHeaders = reservedHeaders
