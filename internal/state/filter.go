package state

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

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
	case (f.Endpoint != "" || len(f.Endpoints) > 0) && name == eventsTable:
		part = "endpoint"
	case f.Outcome != "" && name != attemptsTable:
		part = "outcome"
	case f.Latest && name != attemptsTable:
		part = "latest"
	case (f.Class != "" || f.Status != nil) && name != deadTable:
		part = "class or status"
	case f.Rule != "" || f.Reason != "":
		part = "rule or reason"
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
	w.anyOf("webhook_id", f.Webhooks)
	w.given("endpoint = %s", f.Endpoint)
	w.anyOf("endpoint", f.Endpoints)
	w.equal("tenant", f.Tenant)
	w.anyOf("tenant", f.Tenants)
	w.equal("key", orNil(f.Key))
	if len(f.Tags) > 0 {
		// The planner believes of a value that its statistics do not have that one row in 200 has
		// it, and would look for a page of these along the time. Conditions that say the same
		// multiply that: rare values are found by the index of tags, frequent ones along the time.
		tags := w.text.encodeAll(f.Tags)
		w.add("tags @> %s::text[] and tags && %s::text[] and %s = any(tags)", tags, tags, tags[0])
	}
	w.given("outcome = %s", f.Outcome)
	w.given("class = %s", f.Class)
	if f.Status != nil {
		w.add("status = %s", *f.Status)
	}
	if name == attemptsTable {
		w.between("time", f.From, f.To)
		if f.Latest {
			w.conditions = append(w.conditions, latest)
		}
	} else {
		w.between("committed", f.From, f.To)
	}
	if len(f.Events) > 0 {
		names, err := s.eventNames(ctx, name, f)
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

// eventNames returns the names in a table that one of the filter's patterns fits, as
// they are stored. They are few, and the index gives each with one descent. The
// filter then compares names, which the index finds, too, in any number of rows. Of the attempts
// the days of the filter's times are read, which are partitions: other days may be locked.
func (s *Store) eventNames(ctx context.Context, name string, f *Filter) ([]string, error) {
	if !slices.ContainsFunc(f.Events, func(p string) bool { return strings.Contains(p, "*") }) {
		return s.text.encodeAll(f.Events), nil
	}
	w := &where{text: s.text}
	w.events(f.Events)
	fits := strings.Join(w.conditions, " and ")
	w.conditions = []string{"true"}
	if name == attemptsTable {
		day := func(t time.Time) time.Time { return t.UTC().Truncate(24 * time.Hour) }
		from, to := f.From, f.To
		if !from.IsZero() {
			from = day(from)
		}
		if !to.IsZero() {
			to = day(to.Add(24*time.Hour - 1))
		}
		w.between("time", from, to)
	}
	names, err := collect(ctx, s, "read the names of events", fmt.Sprintf(`
		with recursive names (event) as (
			(select event from %[1]s where %[3]s order by event limit 1)
			union all
			select (select t.event from %[1]s t where t.event > n.event and %[3]s order by t.event limit 1) from names n where n.event is not null
		)
		select event from names where event is not null and %[2]s`, name, fits, strings.Join(w.conditions, " and ")), w.args,
		pgx.RowTo[string])
	if names == nil {
		names = []string{}
	}
	return names, err
}

// tags are those of an event as they are stored: null when it has none.
func (s *Store) tags(tags []string) []string {
	if len(tags) == 0 {
		return nil
	}
	return s.text.encodeAll(tags)
}

// where gathers the conditions of a query and their parameters.
type where struct {
	text       encoding
	conditions []string
	args       []any
}

// param adds a parameter and returns its placeholder.
func (w *where) param(v any) string {
	w.args = append(w.args, v)
	return "$" + strconv.Itoa(len(w.args))
}

// add adds a condition, in which each %s is the place of the next parameter.
func (w *where) add(condition string, params ...any) {
	places := make([]any, len(params))
	for i, p := range params {
		places[i] = w.param(p)
	}
	w.conditions = append(w.conditions, fmt.Sprintf(condition, places...))
}

// given adds a condition on a text, unless that is empty.
func (w *where) given(condition, text string) {
	if text != "" {
		w.add(condition, w.text.encode(text))
	}
}

// anyOf adds that a column is one of the texts, unless there are none.
func (w *where) anyOf(column string, texts []string) {
	if len(texts) > 0 {
		w.add(column+" = any(%s::text[])", w.text.encodeAll(texts))
	}
}

// equal compares a column of any length, through the index on its beginning;
// nil: it may be anything.
func (w *where) equal(column string, value *string) {
	if value == nil {
		return
	}
	place := w.param(w.text.encode(*value))
	w.conditions = append(w.conditions, fmt.Sprintf("left(%[1]s, 128) = left(%[2]s, 128) and %[1]s = %[2]s", column, place))
}

// between limits a time, to exclusive; zero times do not.
func (w *where) between(column string, from, to time.Time) {
	if !from.IsZero() {
		w.add(column+" >= %s", from)
	}
	if !to.IsZero() {
		w.add(column+" < %s", to)
	}
}

// sql returns the where clause, or nothing.
func (w *where) sql() string {
	if len(w.conditions) == 0 {
		return ""
	}
	return " where " + strings.Join(w.conditions, " and ")
}
