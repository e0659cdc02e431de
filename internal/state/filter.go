package state

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
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

// filterParts are the names of the parts that a stored filter has.
func filterParts(filter []byte) ([]string, error) {
	var parts map[string]json.RawMessage
	err := json.Unmarshal(filter, &parts)
	return slices.AppendSeq([]string{}, maps.Keys(parts)), err
}

// knownParts are the names of the parts that this version knows of stored filters.
func knownParts() []string {
	var parts []string
	for field := range reflect.TypeFor[Filter]().Fields() {
		if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "-" {
			parts = append(parts, name)
		}
	}
	return parts
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
	w.sources(f.Sources)
	w.equal("key", orNil(f.Key))
	if err := s.whereTags(ctx, w, name, f.Tags); err != nil {
		return nil, err
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

// whereTags adds that rows have all of the tags, if there are any.
func (s *Store) whereTags(ctx context.Context, w *where, table string, tags []string) error {
	if len(tags) == 0 {
		return nil
	}
	all := w.text.encodeAll(tags)
	w.add("tags @> %s::text[]", all)
	// Of a value that is not among the frequent ones of its statistics the planner believes that one row in 200 has it, and
	// would look for a page of these along the time. Conditions that say the same multiply that, so that it takes the index of tags. Of a
	// frequent one it knows how many there are: there they would have it gather all of them.
	frequent, err := collect(ctx, s, "read which tags are frequent", `select tag from unnest($2::text[]) tag where exists (select from pg_stats
		where schemaname = 'gancho' and (tablename = $1 or tablename ~ ('^' || $1 || '_p[0-9]{8}$')) and attname = 'tags' and tag = any(most_common_elems::text::text[]))`,
		[]any{strings.TrimPrefix(table, "gancho."), all}, pgx.RowTo[string])
	if err != nil {
		return err
	}
	if rare := slices.IndexFunc(all, func(tag string) bool { return !slices.Contains(frequent, tag) }); rare >= 0 {
		w.add("tags && %s::text[] and %s = any(tags)", all[rare:rare+1], all[rare])
	}
	return nil
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

// sources compares the sources that tenants begin with, where there are several, with patterns, as endpoint.Reads does; none: all.
func (w *where) sources(patterns []string) {
	if len(patterns) == 0 {
		return
	}
	like := make([]string, len(patterns))
	for i, p := range patterns {
		like[i] = likePattern(w.text, p)
	}
	w.add("split_part(tenant, '/', 1) like any(%s::text[])", like)
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

// indexed is the length of the beginning of a column that its index has.
const indexed = 128

// equal compares a column of any length, through the index on its beginning;
// nil: it may be anything.
func (w *where) equal(column string, value *string) {
	if value == nil {
		return
	}
	text := w.text.encode(*value)
	place := w.param(text)
	if len(text) < indexed {
		// Whatever begins like this, and is no longer, is this. A second condition would have the planner believe
		// in the square of how rare the value is, and sort all of its rows rather than read the newest along the index.
		w.conditions = append(w.conditions, fmt.Sprintf("left(%s, %d) = %s", column, indexed, place))
		return
	}
	w.conditions = append(w.conditions, fmt.Sprintf("left(%[1]s, %[3]d) = left(%[2]s, %[3]d) and %[1]s = %[2]s", column, place, indexed))
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
