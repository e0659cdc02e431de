package state

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"gancho/delivery/queue"
)

// Forgotten is how much of a subject the store has held.
type Forgotten struct {
	KeptEvents  int64 `json:"kept_events"`
	DeadLetters int64 `json:"dead_letters"`
	Attempts    int64 `json:"attempts"`
	// Mentions are jobs that have ended and entries of the audit log whose filters name
	// the key. They stay, with *** in its place.
	Mentions int64 `json:"mentions"`
}

// Add adds what another call has found.
func (f *Forgotten) Add(o Forgotten) {
	f.KeptEvents += o.KeptEvents
	f.DeadLetters += o.DeadLetters
	f.Attempts += o.Attempts
	f.Mentions += o.Mentions
}

// forgetChunk bounds how long a transaction that erases takes, in rows.
const forgetChunk = 5000

// subjectTables are the tables that have rows of a subject, with their primary keys.
var subjectTables = []struct {
	name, key string
	count     func(*Forgotten) *int64
}{
	{eventsTable, "committed, webhook_id", func(f *Forgotten) *int64 { return &f.KeptEvents }},
	{deadTable, "id", func(f *Forgotten) *int64 { return &f.DeadLetters }},
	{attemptsTable, "time, endpoint, entry, number", func(f *Forgotten) *int64 { return &f.Attempts }},
}

// SubjectFilter chooses the rows of a subject.
func SubjectFilter(s queue.Subject) Filter {
	return Filter{Tenant: &s.Tenant, Key: s.Key, Events: s.Events}
}

// CountSubject returns how much of the subject there is; every: filters that name no
// tenant are counted, too.
func (s *Store) CountSubject(ctx context.Context, of queue.Subject, every bool) (all Forgotten, err error) {
	f := SubjectFilter(of)
	for _, t := range subjectTables {
		if *t.count(&all), err = s.countRows(ctx, t.name, &f); err != nil {
			return all, err
		}
	}
	for _, m := range mentions {
		n, err := s.count(ctx, "count mentions", `select count(*) from `+m.table+m.where(), mentionArgs(of, every))
		if err != nil {
			return all, err
		}
		all.Mentions += n
	}
	return all, nil
}

// Forget deletes the subject's kept events, dead letters and attempts, in transactions of
// some thousands, and the key from the filters of jobs that have ended and of the audit log.
// every: also from filters that name no tenant. Calling it again finishes what a call that
// failed has left.
func (s *Store) Forget(ctx context.Context, of queue.Subject, every bool) (all Forgotten, err error) {
	f := SubjectFilter(of)
	for _, t := range subjectTables {
		for n := int64(forgetChunk); n == forgetChunk; {
			w, err := s.where(ctx, &f, t.name)
			if err != nil {
				return all, err
			}
			sql := fmt.Sprintf(`delete from %[1]s where (%[2]s) in (select %[2]s from %[1]s%[3]s order by %[2]s limit %[4]d)`, t.name, t.key, w.sql(), forgetChunk)
			if n, err = s.erase(ctx, sql, w.args); err != nil {
				return all, err
			}
			*t.count(&all) += n
		}
	}
	for _, m := range mentions {
		n, err := s.erase(ctx, `update `+m.table+` set `+m.set()+m.where(), mentionArgs(of, every))
		if err != nil {
			return all, err
		}
		all.Mentions += n
	}
	return all, nil
}

// erase runs one statement, and returns how many rows it has changed.
func (s *Store) erase(ctx context.Context, sql string, args []any) (n int64, err error) {
	err = s.writeMany(ctx, "erase a key", func(tx pgx.Tx) error {
		done, err := tx.Exec(ctx, sql, args...)
		n = done.RowsAffected()
		return err
	})
	return n, err
}

// mention is where filters are kept, whose keys may be a person's.
type mention struct {
	table   string
	columns []string // of type json
	only    string   // condition
}

// A job that has not ended needs its filter; it chooses nothing of what was erased.
var mentions = []mention{
	{"gancho.jobs", []string{"filter"}, "state in ('done', 'canceled', 'failed')"},
	{"gancho.audit", []string{"before", "after"}, "true"},
}

// Whether a filter is of another tenant is read from its text, as are the keys: in some
// encodings of a database the escapes of a json cannot be read.
func (m mention) where() string {
	either := make([]string, len(m.columns))
	for i, c := range m.columns {
		either[i] = fmt.Sprintf(`(position($1 in %[1]s::text) > 0 and ($3 and position('"tenant":' in %[1]s::text) = 0 or position($2 in %[1]s::text) > 0))`, c)
	}
	return " where " + m.only + " and (" + strings.Join(either, " or ") + ")"
}

func (m mention) set() string {
	set := make([]string, len(m.columns))
	for i, c := range m.columns {
		set[i] = fmt.Sprintf(`%[1]s = replace(%[1]s::text, $1, '"key":"***"')::json`, c)
	}
	return strings.Join(set, ", ")
}

// mentionArgs are the key and the tenant as a stored filter has them.
func mentionArgs(of queue.Subject, every bool) []any {
	member := func(name, value string) string {
		text, _ := json.Marshal(value) // a text
		return `"` + name + `":` + string(asciiJSON(text))
	}
	return []any{member("key", of.Key), member("tenant", of.Tenant), every}
}

// BeginForget writes to the audit log that a subject is to be erased, before anything is:
// whoever is interrupted leaves an entry without its end. EndForget completes it.
func (s *Store) BeginForget(ctx context.Context, c Change, what any) (Change, error) {
	err := s.write(ctx, "write the audit log", func(tx pgx.Tx) error { return s.record(ctx, tx, &c, facts{"forget": what}, nil) })
	return c, err
}

// EndForget adds what was erased to the entry.
func (s *Store) EndForget(ctx context.Context, c Change, receipt any) error {
	text, err := json.Marshal(receipt)
	if err != nil {
		return fmt.Errorf("write the audit log: %w", err)
	}
	_, err = s.erase(ctx, `update gancho.audit set after = $2::text::json where id = $1`, []any{c.ID, string(asciiJSON(text))})
	return err
}

// Receivers are the endpoints that were sent something of the subject, by name.
func (s *Store) Receivers(ctx context.Context, of queue.Subject) ([]string, error) {
	f := SubjectFilter(of)
	w, err := s.where(ctx, &f, attemptsTable)
	if err != nil {
		return nil, err
	}
	names, err := collectMany(ctx, s, "read who has received events", `select distinct endpoint from gancho.attempts`+w.sql()+` order by 1`, w.args, pgx.RowTo[string])
	return decodeAll(names), err
}

// Pseudonym is what stands for a subject in the audit log and in receipts; "": there is no
// state.key to hash it with.
func (s *Store) Pseudonym(of queue.Subject) string {
	if s.keys == nil {
		return ""
	}
	return s.keys.Subjects(of.Tenant, of.Key)[0]
}

// ParkedOf returns what says of a parked change whether it is of the subject, if that is known.
func (s *Store) ParkedOf(of queue.Subject) func(subject string) (is, known bool) {
	if s.keys == nil {
		return func(string) (is, known bool) { return false, false }
	}
	subjects := s.keys.Subjects(of.Tenant, of.Key)
	return func(subject string) (is, known bool) { return s.keys.isOf(subject, subjects) }
}
