package api

import "gancho/internal/state"

// filterQuery are the parameters that make a filter of deliveries or dead
// letters; [] may be repeated.
var filterQuery = []string{"endpoint", "webhook_id[]", "tenant", "key", "event[]", "from", "to"}

// filter is what the parameters of filterQuery, and outcome, choose.
func (q *query) filter() state.Filter {
	return state.Filter{
		Endpoint: q.text("endpoint"), Webhooks: q.texts("webhook_id"), Tenant: q.optional("tenant"), Key: q.text("key"),
		Events: q.texts("event"), From: q.time("from"), To: q.time("to"), Outcome: q.text("outcome"),
	}
}

// auditFilter is what the parameters object, action, from and to choose.
func (q *query) auditFilter() state.AuditFilter {
	return state.AuditFilter{Object: q.text("object"), Action: q.text("action"), From: q.time("from"), To: q.time("to")}
}

// filterMember is the key "filter" of a body that chooses events, or dead
// letters, which have more to choose by.
func filterMember(f *state.Filter, dead bool) member {
	const moment = `a time such as "2026-03-01T00:00:00Z"`
	members := []member{
		{name: "webhook_ids", into: &f.Webhooks, expects: "a list of webhook-ids"},
		{name: "tenant", into: &f.Tenant, expects: "a text", blank: true},
		{name: "key", into: &f.Key, expects: "a text"},
		{name: "events", into: &f.Events, expects: `a list of names or patterns, such as ["cobranca.*"]`},
		{name: "from", into: &f.From, expects: moment},
		{name: "to", into: &f.To, expects: moment},
	}
	if dead {
		members = append(members,
			member{name: "ids", into: &f.IDs, expects: "a list of numbers"},
			member{name: "endpoint", into: &f.Endpoint, expects: "the name of an endpoint"})
	}
	return member{name: "filter", expects: "an object", members: members}
}
