package config_test

import (
	"testing"

	"gancho/config"
	"gancho/delivery/endpoint"
)

// What is refused here with its place, delivery would refuse without; the
// other direction is tested there.
func TestReservedHeadersAreDeliverys(t *testing.T) {
	t.Parallel()
	for _, name := range config.ReservedHeaders() {
		ep := endpoint.Endpoint{Name: "crm", URL: "https://crm.example.com", Headers: map[string]string{name: "x"}}
		if ep.Check() == nil {
			t.Errorf("delivery takes the header %s", name)
		}
	}
}
