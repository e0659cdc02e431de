package webhook

import (
	"net/netip"
	"slices"

	"gancho/delivery/endpoint"
)

// GuardAddress is the guard's verdict on an address, without a connection.
func GuardAddress(allow []netip.Prefix, addr netip.Addr) error { return newGuard(allow).check(addr) }

// Reserved are the headers that an endpoint may not set.
func Reserved() []string { return slices.Clone(endpoint.Reserved) }

// Transports is how many pools of connections the sender has.
func (s *Sender) Transports() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.transports)
}

// Targets is how many endpoints the sender remembers.
func (s *Sender) Targets() (n int) {
	s.targets.Range(func(any, any) bool { n++; return true })
	return n
}

// AppendStringNumbers is the scanner behind Endpoint.StringNumbers.
var AppendStringNumbers = appendStringNumbers

// FormValue is a JSON value as fields of a form.
func FormValue(name string, value []byte) string { return string(appendFormValue(nil, name, value)) }

// SpecialNetworks are those that the guard refuses by name.
func SpecialNetworks() (list []netip.Prefix) {
	for _, s := range specials {
		list = append(list, s.prefix)
	}
	return list
}

// BodyWriter returns what appends bodies for the endpoint.
func BodyWriter(ep *endpoint.Endpoint) func(dst []byte, m *Message) []byte {
	f := newShape(ep)
	return f.appendBody
}
