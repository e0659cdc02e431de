package config

import "gancho/internal/strictyaml"

// Quotas bound what tenants use of what all of them share.
type Quotas struct {
	// Tenant is what each tenant may use, Total what all of them and the operator's own
	// endpoints may together.
	Tenant, Total Quota
	// Endpoint bounds what is stored as one endpoint.
	Endpoint EndpointQuota
}

// Quota is what may be used.
type Quota struct {
	Endpoints int
	// Backlog is the most queued events, BacklogBytes the most memory of Redis that they
	// take. Nothing is lost beyond it.
	Backlog, BacklogBytes int64
	// Requests is how many requests to the API are carried out at once.
	Requests int
}

// EndpointQuota bounds an endpoint.
type EndpointQuota struct {
	Patterns int // of events
	Headers  int // and as many extra fields
}

func defaultQuotas() Quotas {
	return Quotas{
		Tenant:   Quota{Endpoints: 20, Backlog: 1_000_000, BacklogBytes: 1 << 30, Requests: 4},
		Total:    Quota{Endpoints: 2000, Backlog: 20_000_000, BacklogBytes: 16 << 30, Requests: 32},
		Endpoint: EndpointQuota{Patterns: 100, Headers: 30},
	}
}

// The most that quotas can be.
const (
	maxQuota      = 1_000_000_000
	maxQuotaBytes = 1 << 50
	maxRequests   = 1000
)

func (q *Quotas) decode(v value) {
	v.Map(
		strictyaml.Optional("tenant", q.Tenant.decode),
		strictyaml.Optional("total", q.Total.decode),
		strictyaml.Optional("endpoint", func(v value) {
			v.Map(
				strictyaml.Optional("patterns", func(v value) { q.Endpoint.Patterns = v.Int(1, maxQuota) }),
				strictyaml.Optional("headers", func(v value) { q.Endpoint.Headers = v.Int(1, maxQuota) }),
			)
		}),
	)
}

func (q *Quota) decode(v value) {
	v.Map(
		strictyaml.Optional("endpoints", func(v value) { q.Endpoints = v.Int(0, maxQuota) }),
		strictyaml.Optional("backlog", func(v value) { q.Backlog = int64(v.Int(1, maxQuota)) }),
		strictyaml.Optional("backlog_bytes", func(v value) { q.BacklogBytes = v.Bytes(1<<10, maxQuotaBytes) }),
		strictyaml.Optional("requests", func(v value) { q.Requests = v.Int(1, maxRequests) }),
	)
}
