package state

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

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
// every: also from filters that name no tenant. What a process has read of Redis before is
// not stored after it (see Intake): call it when Redis has nothing of the subject. Calling it
// again finishes what a call that failed has left.
func (s *Store) Forget(ctx context.Context, of queue.Subject, every bool) (all Forgotten, err error) {
	if err := s.bar(ctx); err != nil {
		return all, err
	}
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

// The state of those who move rows here from Redis, and of those who forget somebody, meets
// in gancho.forgets: whoever writes locks it in ROW SHARE, whoever forgets in EXCLUSIVE.
// Neither waits for who only reads it, such as a backup.

// Intake returns the state for rows that are read from Redis after this call, and not
// before: once somebody was forgotten since, their writing is ErrForgotten.
func (s *Store) Intake(ctx context.Context) (*Store, error) {
	n, err := collectOne(ctx, s, "read how often somebody was forgotten", `select n from gancho.forgets`, nil, pgx.RowTo[int64])
	out := *s
	out.forgets = &n
	return &out, err
}

// checkForgets holds up who forgets somebody until the transaction ends.
func (s *Store) checkForgets(ctx context.Context, tx pgx.Tx) error {
	if s.forgets == nil {
		return nil
	}
	if _, err := tx.Exec(ctx, `lock table gancho.forgets in row share mode`); err != nil {
		return err
	}
	var n int64
	if err := tx.QueryRow(ctx, `select n from gancho.forgets`).Scan(&n); err != nil {
		return err
	}
	if n != *s.forgets {
		return ErrForgotten
	}
	return nil
}

// bar waits for those who are writing, and keeps the rest of what was read from being stored.
func (s *Store) bar(ctx context.Context) error {
	return s.write(ctx, "wait for the log's writers", func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `lock table gancho.forgets in exclusive mode`)
		if err == nil {
			_, err = tx.Exec(ctx, `update gancho.forgets set n = n + 1`)
		}
		return err
	})
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
const jobEnded = "state in ('done', 'canceled', 'failed') and not " + letsGo

var (
	jobMention = mention{"gancho.jobs", []string{"filter"}, jobEnded}
	mentions   = []mention{jobMention, {"gancho.audit", []string{"before", "after"}, "true"}}
)

// Whether a filter is of another tenant is read from its text, as are the keys: in some
// encodings of a database the escapes of a json cannot be read.
func (m mention) where() string { return " where " + m.only + " and (" + m.names() + ")" }

func (m mention) names() string {
	either := make([]string, len(m.columns))
	for i, c := range m.columns {
		either[i] = fmt.Sprintf(`(position($1 in %[1]s::text) > 0 and ($3 and position('"tenant":' in %[1]s::text) = 0 or position($2 in %[1]s::text) > 0))`, c)
	}
	return strings.Join(either, " or ")
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

// Receivers are the endpoints that were sent something of the subject, by name, as the log
// says, or the entry of an earlier call, which has erased the log.
func (s *Store) Receivers(ctx context.Context, of queue.Subject) ([]string, error) {
	f := SubjectFilter(of)
	w, err := s.where(ctx, &f, attemptsTable)
	if err != nil {
		return nil, err
	}
	names, err := collectMany(ctx, s, "read who has received events", `select distinct endpoint from gancho.attempts`+w.sql(), w.args, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	names = decodeAll(names)
	entries, err := s.forgetEntries(ctx, of)
	for _, e := range entries {
		var before struct {
			Forget struct{ Receivers []string } `json:"forget"`
		}
		if err := json.Unmarshal([]byte(e), &before); err != nil {
			return nil, fmt.Errorf("read who has received events: an entry of the audit log is not what Gancho has stored there: %w", err)
		}
		names = append(names, before.Forget.Receivers...)
	}
	slices.Sort(names)
	return slices.Compact(names), err
}

// forgetEntries are what BeginForget has written about the subject, whichever key of
// state.key was the first then.
func (s *Store) forgetEntries(ctx context.Context, of queue.Subject) ([]string, error) {
	if s.keys == nil {
		return nil, nil
	}
	objects := s.keys.Subjects(of.Tenant, of.Key)
	for i := range objects {
		objects[i] = SubjectObject(objects[i])
	}
	return collect(ctx, s, "read who was forgotten before", `select before::text from gancho.audit
		where left(object, 128) = any($1) and object = any($1) and action = 'forget' and before is not null order by id`, []any{objects}, pgx.RowTo[string])
}

// SubjectObject is what the audit log calls a subject of which this is the Pseudonym.
func SubjectObject(pseudonym string) string { return "subject/" + pseudonym }

// JobsOf returns how many jobs may have had events of the subject in memory within a time up
// to now, and how many of these name the key in their filter: jobs that have not ended, and
// those that have ended since, or so shortly before (JobLease) that a worker may not have known.
// every: also those that name no tenant beside it.
func (s *Store) JobsOf(ctx context.Context, of queue.Subject, every bool, within time.Duration) (all, naming int64, err error) {
	counted, err := collectOne(ctx, s, "count the jobs that may have events of a key",
		`select count(*), count(*) filter (where `+jobMention.names()+`) from gancho.jobs
			where (not (`+jobEnded+`) or started is not null and finished >= now() - $5::interval) and tenant in ('', $4)`,
		append(mentionArgs(of, every), s.text.encode(of.Tenant), within+JobLease), pgx.RowToStructByPos[struct{ All, Naming int64 }])
	return counted.All, counted.Naming, err
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
