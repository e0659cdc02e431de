package state

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// table says where a filter's parts are found.
type table struct {
	name string
	// time is the column that From and To limit.
	time string
	// byEvent: there is an index on event, so that its values are quickly listed.
	byEvent bool
}

// The tables that filters choose from.
const (
	attemptsTable = "gancho.attempts"
	eventsTable   = "gancho.events"
	deadTable     = "gancho.dead_letters"
)

func tableOf(name string) table {
	switch name {
	case attemptsTable:
		return table{name: name, time: "time"}
	case eventsTable:
		return table{name: name, time: "committed", byEvent: true}
	}
	return table{name: name, time: "committed", byEvent: true}
}

// where makes the conditions of a filter on a table. What the table does not
// have is not asked for: events belong to no endpoint, and have no outcome.
func (s *Store) where(ctx context.Context, f *Filter, name string) (*where, error) {
	t := tableOf(name)
	w := &where{text: s.text}
	if len(f.IDs) > 0 && name == deadTable {
		w.add("id = any(%s::bigint[])", f.IDs)
	}
	if len(f.Webhooks) > 0 {
		w.add("webhook_id = any(%s::text[])", s.text.encodeAll(f.Webhooks))
	}
	if f.Endpoint != "" && name != eventsTable {
		w.add("endpoint = %s", s.text.encode(f.Endpoint))
	}
	if f.Tenant != nil {
		w.equal("tenant", *f.Tenant)
	}
	if len(f.Tenants) > 0 {
		w.add("tenant = any(%s::text[])", s.text.encodeAll(f.Tenants))
	}
	if f.Key != "" {
		w.equal("key", f.Key)
	}
	if f.Outcome != "" && name == attemptsTable {
		w.add("outcome = %s", f.Outcome)
	}
	w.between(t.time, f.From, f.To)
	if len(f.Events) == 0 {
		return w, nil
	}
	if !t.byEvent {
		w.events(f.Events)
		return w, nil
	}
	names, err := s.eventNames(ctx, t.name, f.Events)
	if err != nil {
		return nil, err
	}
	w.add("event = any(%s::text[])", names)
	return w, nil
}

// events compares names with patterns.
func (w *where) events(patterns []string) {
	var names, like []string
	for _, p := range patterns {
		if strings.Contains(p, "*") {
			like = append(like, likePattern(w.text, p))
		} else {
			names = append(names, w.text.encode(p))
		}
	}
	switch {
	case len(like) == 0:
		w.add("event = any(%s::text[])", names)
	case len(names) == 0:
		w.add("event like any(%s::text[])", like)
	default:
		w.add("(event = any(%s::text[]) or event like any(%s::text[]))", names, like)
	}
}

// likePattern writes a pattern in which * stands for any text as LIKE has it.
func likePattern(text encoding, pattern string) string {
	escaped := strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(text.encode(pattern))
	return strings.ReplaceAll(escaped, "*", "%")
}

// eventNames returns the names in a table that one of the patterns fits, as
// they are stored. There are few, and the index gives each with one descent: so
// the filter compares names, which the index finds too, however many rows there are.
func (s *Store) eventNames(ctx context.Context, name string, patterns []string) ([]string, error) {
	if !slices.ContainsFunc(patterns, func(p string) bool { return strings.Contains(p, "*") }) {
		return s.text.encodeAll(patterns), nil
	}
	w := &where{text: s.text}
	w.events(patterns)
	names, err := collect(ctx, s, "read the names of events", fmt.Sprintf(`
		with recursive names (event) as (
			(select event from %[1]s order by event limit 1)
			union all
			select (select t.event from %[1]s t where t.event > n.event order by t.event limit 1) from names n where n.event is not null
		)
		select event from names where event is not null and %[2]s`, name, strings.Join(w.conditions, " and ")), w.args,
		pgx.RowTo[string])
	if names == nil {
		names = []string{}
	}
	return names, err
}
