package api

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"gancho/cdc"
	"gancho/internal/control"
	"gancho/internal/state"
	"gancho/internal/strictyaml"
)

// query is the parameters of a request. Its methods never fail: they note what
// is wrong and return a zero value, so that one pass finds every mistake. err
// reports all of them.
type query struct {
	values   url.Values
	mistakes []control.Problem
}

// parseQuery reads the parameters, of which no others than these are allowed,
// each at most once unless its name ends in [] here.
func parseQuery(raw string, allowed []string) *query {
	values, err := url.ParseQuery(raw)
	q := &query{values: values}
	if err != nil {
		q.wrong("", "write name=value pairs joined by &, encoded as in URLs", "the query cannot be read")
		return q
	}
	plain := make([]string, len(allowed))
	for i := range allowed {
		plain[i] = strings.TrimSuffix(allowed[i], "[]")
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if len(q.mistakes) > strictyaml.MaxErrors {
			break
		}
		switch {
		case !slices.Contains(plain, name):
			q.wrong(name, suggest(name, plain), "the parameter %q is not known here", name)
		case len(values[name]) > 1 && !slices.Contains(allowed, name+"[]"):
			q.wrong(name, "remove one", "the parameter %q is given twice", name)
		case slices.ContainsFunc(values[name], func(s string) bool { return !isText(s) }):
			q.wrong(name, "", "the parameter %q is not text in UTF-8", name)
		case name != "tenant" && slices.Contains(values[name], ""):
			// An empty filter would choose everything.
			q.wrong(name, "leave it out", "the parameter %q is empty", name)
		}
	}
	return q
}

func (q *query) wrong(name, hint, format string, args ...any) {
	q.mistakes = append(q.mistakes, control.Problem{Parameter: name, Message: fmt.Sprintf(format, args...), Hint: hint})
}

// err is a *problem when anything is wrong.
func (q *query) err() error {
	if len(q.mistakes) == 0 {
		return nil
	}
	return invalid(q.mistakes...)
}

func (q *query) text(name string) string { return q.values.Get(name) }

func (q *query) texts(name string) []string { return q.values[name] }

// optional is nil when the parameter is absent, as opposed to empty.
func (q *query) optional(name string) *string {
	if !q.values.Has(name) {
		return nil
	}
	return new(q.values.Get(name))
}

func (q *query) bool(name string) bool {
	switch q.values.Get(name) {
	case "true":
		return true
	case "false":
		return false
	}
	if q.values.Has(name) {
		q.wrong(name, "write true or false", "the parameter %q is neither true nor false", name)
	}
	return false
}

// time reads a moment with its offset from UTC.
func (q *query) time(name string) time.Time {
	text := q.values.Get(name)
	if !q.values.Has(name) {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, text)
	switch {
	case err != nil && strings.Contains(text, " "):
		q.wrong(name, "in a URL a + has to be written %2B", "the parameter %q is not a time", name)
	case err != nil:
		q.wrong(name, "write such as 2026-03-01T00:00:00Z", "the parameter %q is not a time of RFC 3339", name)
	}
	return t
}

// position is 0 when the parameter is absent.
func (q *query) position(name string) cdc.LSN {
	if !q.values.Has(name) {
		return 0
	}
	at, err := cdc.ParseLSN(q.values.Get(name))
	if err != nil {
		q.wrong(name, "write it as in the log, such as 0/16B3740", "the parameter %q is not a position", name)
	}
	return at
}

// limit is 0 when the parameter is absent: the control's default.
func (q *query) limit() int {
	if !q.values.Has("limit") {
		return 0
	}
	n, err := strconv.Atoi(q.values.Get("limit"))
	if err != nil || n < 1 || n > control.MaxPage {
		q.wrong("limit", "", "the parameter %q has to be a number from 1 to %d", "limit", control.MaxPage)
	}
	return n
}

// status is nil when the parameter is absent: 0 is where no answer came.
func (q *query) status() *int {
	if !q.values.Has("status") {
		return nil
	}
	n, err := strconv.Atoi(q.values.Get("status"))
	if err != nil || n < 0 || n > 999 {
		q.wrong("status", "write such as 500, or 0 where no answer came", "the parameter %q is not an HTTP status", "status")
	}
	return &n
}

// filterQuery are the parameters that make a filter of deliveries or dead
// letters; [] may be repeated.
var filterQuery = []string{"endpoint", "webhook_id[]", "tenant", "key", "tag[]", "event[]", "from", "to"}

// deadQuery are those of dead letters, which have more to choose by.
var deadQuery = slices.Concat(filterQuery, []string{"class", "status"})

// parkedQuery are those that make a filter of parked changes.
var parkedQuery = []string{"webhook_id[]", "event[]", "rule", "reason", "from", "to"}

// filter is what the parameters of filterQuery, deadQuery and parkedQuery, and outcome, choose.
func (q *query) filter() state.Filter {
	return state.Filter{
		Endpoint: q.text("endpoint"), Webhooks: q.texts("webhook_id"), Tenant: q.optional("tenant"), Key: q.text("key"),
		Tags: q.texts("tag"), Events: q.texts("event"), From: q.time("from"), To: q.time("to"), Outcome: q.text("outcome"), Latest: q.bool("latest"),
		Class: q.text("class"), Status: q.status(), Rule: q.text("rule"), Reason: q.text("reason"),
	}
}

// auditFilter is what the parameters object, action, from and to choose.
func (q *query) auditFilter() state.AuditFilter {
	return state.AuditFilter{Object: q.text("object"), Action: q.text("action"), From: q.time("from"), To: q.time("to")}
}

// parkedMember is the key "filter" of a body that chooses parked changes.
func parkedMember(f *state.Filter) member {
	const moment = `a time such as "2026-03-01T00:00:00Z"`
	return member{name: "filter", expects: "an object", members: []member{
		{name: "positions", into: &f.Parked, expects: "a list of positions"},
		{name: "rule", into: &f.Rule, expects: "a rule, as the groups of parked changes have it"},
		{name: "reason", into: &f.Reason, expects: "a reason, as the groups of parked changes have it"},
		{name: "webhook_ids", into: &f.Webhooks, expects: "a list of webhook-ids"},
		{name: "events", into: &f.Events, expects: `a list of names or patterns, such as ["cobranca.*"]`},
		{name: "from", into: &f.From, expects: moment},
		{name: "to", into: &f.To, expects: moment},
	}}
}

// moment is what a time of a body has to be.
const moment = `a time such as "2026-03-01T00:00:00Z"`

// filterMember is the key "filter" of a body that chooses events, or dead
// letters, which have more to choose by.
func filterMember(f *state.Filter, dead bool) member {
	members := []member{
		{name: "webhook_ids", into: &f.Webhooks, expects: "a list of webhook-ids"},
		{name: "tenant", into: &f.Tenant, expects: "a text", blank: true},
		{name: "key", into: &f.Key, expects: "a text"},
		{name: "tags", into: &f.Tags, expects: `a list of name=value, such as ["pedido=4711"]`},
		{name: "events", into: &f.Events, expects: `a list of names or patterns, such as ["cobranca.*"]`},
		{name: "from", into: &f.From, expects: moment},
		{name: "to", into: &f.To, expects: moment},
	}
	if dead {
		members = append(members,
			member{name: "ids", into: &f.IDs, expects: "a list of numbers"},
			member{name: "endpoint", into: &f.Endpoint, expects: "the name of an endpoint"},
			member{name: "class", into: &f.Class, expects: "how the last attempt has failed, as the groups of dead letters have it"},
			member{name: "status", into: &f.Status, expects: "an HTTP status, or 0 where no answer came"})
	}
	return member{name: "filter", expects: "an object", members: members}
}

// deliveryMember is the key "filter" of a body that chooses deliveries.
func deliveryMember(f *state.Filter) member {
	m := filterMember(f, false)
	m.members = append(m.members,
		member{name: "endpoint", into: &f.Endpoint, expects: "the name of an endpoint"},
		member{name: "outcome", into: &f.Outcome, expects: "delivered, retry, refused, gone or dead"})
	return m
}
