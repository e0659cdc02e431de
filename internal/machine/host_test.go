package machine_test

import (
	"net"
	"net/netip"
	"testing"

	"gancho/internal/machine"
)

// TestHost: names are not looked up, and an address of an interface is this machine's, which others reach.
func TestHost(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]bool{
		"localhost": true, "LOCALHOST": true, "127.0.0.1": true, "127.9.9.9": true, "::1": true, "::ffff:127.0.0.1": true,
		"": false, "0.0.0.0": false, "::": false, "192.0.2.5": false, "localhost.example.com": false, "127.0.0.1.example.com": false,
	} {
		if machine.Loopback(host) != want || machine.Own(host) != want {
			t.Errorf("%q: %t, %t; want %t", host, machine.Loopback(host), machine.Own(host), want)
		}
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if address := netip.MustParsePrefix(a.String()).Addr(); !machine.Own(address.String()) || machine.Loopback(address.String()) != address.IsLoopback() {
			t.Errorf("%s: %t, %t", address, machine.Own(address.String()), machine.Loopback(address.String()))
		}
	}
}
