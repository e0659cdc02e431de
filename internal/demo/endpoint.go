package demo

import (
	"strings"

	"gancho/delivery/endpoint"
)

// subscriber is one of the demo's subscribers.
type subscriber struct {
	Name   string
	Events string // a pattern, as in the configuration
	Tenant int    // 0: all
	Order  string // empty: by key
	Secret endpoint.Secret
}

// endpoints are one that takes everything and one that shows a subscription.
func endpoints() []subscriber {
	return []subscriber{
		{Name: "crm", Events: "*", Secret: endpoint.GenerateSecret()},
		{Name: "catraca-centro", Events: "acesso.*", Tenant: 1, Secret: endpoint.GenerateSecret()},
	}
}

// wants reports whether events of the kind go to the endpoint.
func (e *subscriber) wants(k Kind) bool {
	return strings.HasPrefix(k.Event, strings.TrimSuffix(e.Events, "*")) && (e.Tenant == 0 || e.Tenant == k.Tenant)
}

// share is the part of the counts that goes to the endpoint.
func (e *subscriber) share(c Counts) Counts {
	part := Counts{}
	for k, n := range c {
		if e.wants(k) {
			part[k] = n
		}
	}
	return part
}
