package state

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// The tables that filters choose from.
const (
	attemptsTable = "gancho.attempts"
	eventsTable   = "gancho.events"
	deadTable     = "gancho.dead_letters"
)

// lacks returns an error for a part of the filter that the table does not have:
// ignoring it would choose more than intended.
func (f *Filter) lacks(name string) error {
	var part string
	switch {
	case len(f.IDs) > 0 && name != deadTable:
		part = "ids"
	case f.Endpoint != "" && name == eventsTable:
		part = "endpoint"
	case f.Outcome != "" && name != attemptsTable:
		part = "outcome"
	default:
		return nil
	}
	return fmt.Errorf("choose from %s: they have no %s", name, part)
}

// where returns the conditions of a filter on a table.
func (s *Store) where(ctx context.Context, f *Filter, name string) (*where, error) {
	if err := f.lacks(name); err != nil {
		return nil, err
	}
	w := &where{text: s.text}
	if len(f.IDs) > 0 {
		w.add("id = any(%s::bigint[])", f.IDs)
	}
	if len(f.Webhooks) > 0 {
		w.add("webhook_id = any(%s::text[])", s.text.encodeAll(f.Webhooks))
	}
	if f.Endpoint != "" {
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
	if f.Outcome != "" {
		w.add("outcome = %s", s.text.encode(f.Outcome))
	}
	if name == attemptsTable {
		w.between("time", f.From, f.To)
		w.events(f.Events)
		return w, nil
	}
	w.between("committed", f.From, f.To)
	if len(f.Events) > 0 {
		names, err := s.eventNames(ctx, name, f.Events)
		if err != nil {
			return nil, err
		}
		w.add("event = any(%s::text[])", names)
	}
	return w, nil
}

// events compares names with patterns, if there are any.
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
	case len(patterns) == 0:
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
// they are stored. They are few, and the index gives each with one descent. The
// filter then compares names, which the index finds, too, in any number of rows.
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
