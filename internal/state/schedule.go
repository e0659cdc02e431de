package state

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"gancho/delivery/queue"
	"gancho/delivery/webhook"
)

// RowHash is what is kept of what a schedule's row is known by.
type RowHash = [16]byte

// Schedule is what is known of a rule with schedule of a source.
type Schedule struct {
	// ID names it in what follows.
	ID    int32
	Event string
	// Since is the scheduled time up to which nothing is to be run any more.
	Since time.Time
	// Due is the scheduled time of the run that has begun; zero: there is none. Part is how many of its parts are stored.
	Due  time.Time
	Part int64
	// Failed is when that run failed last, Failure why; zero: it has not.
	Failed  time.Time
	Failure string
	// Last is the last run that ended; nil: none has.
	Last *ScheduledRun
}

// ScheduledRun is a run of a schedule that has ended.
type ScheduledRun struct {
	Due, Ended   time.Time
	Took         time.Duration
	Rows, Events int64
	// Uncomputed are the rows of which no event could be made, and Reason why, of the first.
	Uncomputed int64
	Reason     string
}

// ScheduledPart are events of a run, which are stored before Redis gets them, and the rows that they are of.
type ScheduledPart struct {
	Number   int64 // from 1
	Messages []ScheduledMessage
	Rows     []RowHash
}

// ScheduledMessage is an event with all that is sent of it, whose bytes are kept as they are: what is sent again after a death is the same.
type ScheduledMessage struct {
	webhook.Message

	Payload, Failing []byte
}

const (
	// onceAge is how long a row is known that no run has had since, onceRenewed how exactly that is counted.
	onceAge, onceRenewed = 400 * 24 * time.Hour, 30 * 24 * time.Hour
	// forgetChunkRows is how many rows are forgotten by one statement.
	forgetChunkRows = 50_000
)

// Schedules returns what is known of a source's rules with schedule, by their events. The source is its slot.
func (s *Store) Schedules(ctx context.Context, source string) (map[string]Schedule, error) {
	rows, err := collect(ctx, s, "read the schedules", `
		select id, event, since, due, part, failed, failure, ran, ended, coalesce(extract(epoch from took), 0)::float8, rows, events, uncomputed, reason
		from gancho.schedules where source = $1`, []any{s.text.encode(source)}, func(row pgx.CollectableRow) (Schedule, error) {
		var of Schedule
		var due, failed, ran, ended *time.Time
		var took float64
		var last ScheduledRun
		err := row.Scan(&of.ID, &of.Event, &of.Since, &due, &of.Part, &failed, &of.Failure, &ran, &ended, &took, &last.Rows, &last.Events, &last.Uncomputed, &last.Reason)
		if due != nil {
			of.Due = *due
		}
		if failed != nil {
			of.Failed = *failed
		}
		if ran != nil && ended != nil {
			last.Due, last.Ended, last.Took = *ran, *ended, time.Duration(took*float64(time.Second))
			of.Last = &last
		}
		decodeIn(&of.Event, &of.Failure, &last.Reason)
		return of, err
	})
	if err != nil {
		return nil, err
	}
	out := map[string]Schedule{}
	for _, of := range rows {
		out[of.Event] = of
	}
	return out, nil
}

// Clock returns the time of the database's clock.
func (s *Store) Clock(ctx context.Context) (time.Time, error) {
	return collectOne(ctx, s, "read the clock of the state database", `select clock_timestamp()`, nil, pgx.RowTo[time.Time])
}

// AddSchedule has a schedule of a source be due from a time on, unless it is known. It takes one over that is of no source, as
// all were once.
func (s *Store) AddSchedule(ctx context.Context, source, event string, since time.Time) error {
	return s.write(ctx, "store a schedule", func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `update gancho.schedules set source = $1 where source = '' and event = $2
			and not exists (select from gancho.schedules where source = $1 and event = $2)`, s.text.encode(source), s.text.encode(event))
		if err == nil {
			_, err = tx.Exec(ctx, `insert into gancho.schedules (source, event, since) values ($1, $2, $3) on conflict do nothing`, s.text.encode(source), s.text.encode(event), since)
		}
		return err
	})
}

// RetireSchedules forgets what has run and what was sent of a source's schedules that are none of these events, and have not
// run since onceAge before a time.
func (s *Store) RetireSchedules(ctx context.Context, source string, events []string, now time.Time) error {
	old, err := collect(ctx, s, "read the schedules", `select id from gancho.schedules where source = $1 and not event = any($2) and since < $3`,
		[]any{s.text.encode(source), s.text.encodeAll(events), now.Add(-onceAge)}, pgx.RowTo[int32])
	for _, id := range old {
		if err = s.forgetRows(ctx, id, now); err != nil {
			return err
		}
		err = s.schedule(ctx, "forget a schedule", `delete from gancho.schedules where id = $1 and since < $2`, id, now.Add(-onceAge))
		if errors.Is(err, ErrConflict) {
			err = nil
		}
	}
	return err
}

// BeginRun begins the run of a scheduled time, and gives those before it up. ErrConflict: another has begun, or ended, meanwhile.
func (s *Store) BeginRun(ctx context.Context, id int32, due time.Time) error {
	return s.schedule(ctx, "begin a run of a schedule",
		`update gancho.schedules set due = $2, part = 0, sent = 0, messages = null, identities = null, failed = null, failure = '' where id = $1 and due is null and since < $2`,
		id, due)
}

// SkipRuns gives up what was due up to a time. ErrConflict as of BeginRun.
func (s *Store) SkipRuns(ctx context.Context, id int32, upTo time.Time) error {
	return s.schedule(ctx, "give up runs of a schedule", `update gancho.schedules set since = $2 where id = $1 and due is null and since < $2`, id, upTo)
}

// FailRun notes why a run failed, which will be tried again; "": it has not, and goes on.
func (s *Store) FailRun(ctx context.Context, id int32, due time.Time, reason string) error {
	return s.schedule(ctx, "store why a run failed", `update gancho.schedules set failed = case when $3 <> '' then now() end, failure = $3 where id = $1 and due = $2`,
		id, due, s.text.encode(reason))
}

// StorePart stores the next part of a run. ErrConflict: another has stored it, or the run has ended.
func (s *Store) StorePart(ctx context.Context, id int32, due time.Time, p *ScheduledPart) error {
	packed, err := pack(p.Messages)
	if err != nil {
		return err
	}
	return s.schedule(ctx, "store a part of a run", `update gancho.schedules set part = $3, messages = $4, identities = $5, sent = sent + $6
		where id = $1 and due = $2 and part = $3 - 1 and messages is null`, id, due, p.Number, packed, p.Rows, len(p.Messages))
}

// PendingPart returns the part of a run that Redis may not have got; nil: there is none.
func (s *Store) PendingPart(ctx context.Context, id int32, due time.Time) (*ScheduledPart, error) {
	type stored struct {
		number int64
		packed []byte
		rows   []RowHash
	}
	found, err := collect(ctx, s, "read a part of a run", `select part, messages, identities from gancho.schedules where id = $1 and due = $2 and messages is not null`,
		[]any{id, due}, func(row pgx.CollectableRow) (p stored, err error) {
			err = row.Scan(&p.number, &p.packed, &p.rows)
			return p, err
		})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	p := &ScheduledPart{Number: found[0].number, Rows: found[0].rows}
	if p.Messages, err = unpack(found[0].packed); err != nil {
		return nil, fmt.Errorf("%w; restore it from a backup, or have the run make its events again, of which some may be sent twice: "+
			"update gancho.schedules set messages = null, identities = null where id = %d", err, id)
	}
	return p, nil
}

// SubjectRuns is what schedules keep of a subject.
type SubjectRuns struct {
	// Pending are runs that have not ended and have an event of the subject here, which is queued when they go on.
	Pending int
	// Unreadable are the rules, by their events, of runs that have not ended and whose events cannot be read.
	Unreadable []string
	// Digests: there are some, of rows that were sent.
	Digests bool
}

// ScheduledOf returns what schedules keep of a subject.
func (s *Store) ScheduledOf(ctx context.Context, of queue.Subject) (found SubjectRuns, err error) {
	const what = "look for a key in runs of schedules"
	type run struct {
		Event  string
		Packed []byte
	}
	pending, err := collect(ctx, s, what, `select event, messages from gancho.schedules where messages is not null order by event`, nil, pgx.RowToStructByPos[run])
	if err != nil {
		return found, err
	}
	for _, r := range pending {
		messages, err := unpack(r.Packed)
		switch {
		case err != nil:
			found.Unreadable = append(found.Unreadable, decode(r.Event))
		case slices.ContainsFunc(messages, func(m ScheduledMessage) bool { return of.Is(m.Tenant, m.Key, m.Type) }):
			found.Pending++
		}
	}
	found.Unreadable = slices.Compact(found.Unreadable) // one of each source
	found.Digests, err = collectOne(ctx, s, what, `select exists (select from gancho.scheduled_rows)`, nil, pgx.RowTo[bool])
	return found, err
}

// EndPart notes that Redis has a part, and that its rows have been sent. ErrConflict: another has.
func (s *Store) EndPart(ctx context.Context, id int32, due time.Time, p *ScheduledPart) error {
	return s.write(ctx, "end a part of a run", func(tx pgx.Tx) error {
		done, err := tx.Exec(ctx, `update gancho.schedules set messages = null, identities = null where id = $1 and due = $2 and part = $3 and messages is not null`,
			id, due, p.Number)
		if err == nil && done.RowsAffected() == 0 {
			err = ErrConflict
		}
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `insert into gancho.scheduled_rows (schedule, row, due) select $1, row, $2 from unnest($3::uuid[]) row on conflict (schedule, row) do update set due = excluded.due`,
			id, due, p.Rows)
		return err
	})
}

// SentRows returns which rows a schedule has sent. A run has them at a time, for which they are known as long as onceAge.
func (s *Store) SentRows(ctx context.Context, id int32, due time.Time, rows []RowHash) (map[RowHash]bool, error) {
	const what = "read which rows a schedule has sent"
	found, err := collect(ctx, s, what, `select row, due < $3 from gancho.scheduled_rows where schedule = $1 and row = any($2::uuid[])`,
		[]any{id, rows, due.Add(-onceRenewed)}, func(row pgx.CollectableRow) (sentRow, error) {
			var of sentRow
			err := row.Scan(&of.RowHash, &of.old)
			return of, err
		})
	if err != nil {
		return nil, err
	}
	sent, old := map[RowHash]bool{}, []RowHash{}
	for _, of := range found {
		sent[of.RowHash] = true
		if of.old {
			old = append(old, of.RowHash)
		}
	}
	if len(old) == 0 {
		return sent, nil
	}
	return sent, s.write(ctx, what, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `update gancho.scheduled_rows set due = $3 where schedule = $1 and row = any($2::uuid[])`, id, old, due)
		return err
	})
}

// sentRow is a row that was sent; old: the run that had it last is long ago.
type sentRow struct {
	RowHash
	old bool
}

// EndRun ends a run of which all parts have ended, and forgets rows: those of the run, or, with once, those that no run has
// had for onceAge, which is looked for in the first run of a day: there may be millions. It counts the events itself, those
// of earlier attempts too. ErrConflict: another has ended it.
func (s *Store) EndRun(ctx context.Context, id int32, once bool, run *ScheduledRun) error {
	var before *time.Time // the last run
	err := s.write(ctx, "end a run of a schedule", func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `update gancho.schedules s set since = $2, due = null, failed = null, failure = '',
				ran = $2, ended = now(), took = make_interval(secs => $3), rows = $4, events = s.sent, uncomputed = $5, reason = $6
			from (select id, ran from gancho.schedules where id = $1 for update) before
			where s.id = before.id and s.due = $2 and s.messages is null returning before.ran`,
			id, run.Due, run.Took.Seconds(), run.Rows, run.Uncomputed, s.text.encode(run.Reason)).Scan(&before)
		if errors.Is(err, pgx.ErrNoRows) {
			err = ErrConflict
		}
		return err
	})
	const day = 24 * time.Hour
	switch {
	case err != nil:
		return err
	case !once:
		return s.forgetRows(ctx, id, run.Due.Add(time.Second))
	case before != nil && before.Truncate(day).Equal(run.Due.Truncate(day)):
		return nil
	}
	return s.forgetRows(ctx, id, run.Due.Add(-onceAge))
}

// forgetRows forgets the rows of a schedule that runs had before a time.
func (s *Store) forgetRows(ctx context.Context, id int32, before time.Time) (err error) {
	for more := true; more && err == nil; {
		err = s.write(ctx, "forget rows of a schedule", func(tx pgx.Tx) error {
			done, err := tx.Exec(ctx, `delete from gancho.scheduled_rows where ctid = any(array(select ctid from gancho.scheduled_rows where schedule = $1 and due < $2 limit $3))`,
				id, before, forgetChunkRows)
			more = done.RowsAffected() == forgetChunkRows
			return err
		})
	}
	return err
}

// schedule carries out a statement that changes one schedule: ErrConflict when there is none that it is for.
func (s *Store) schedule(ctx context.Context, what, sql string, args ...any) error {
	return s.write(ctx, what, func(tx pgx.Tx) error {
		done, err := tx.Exec(ctx, sql, args...)
		if err == nil && done.RowsAffected() == 0 {
			err = ErrConflict
		}
		return err
	})
}

func pack(messages []ScheduledMessage) ([]byte, error) {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestSpeed)
	if err == nil {
		err = json.NewEncoder(w).Encode(messages)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("pack a part of a run: %w", err)
	}
	return b.Bytes(), nil
}

func unpack(packed []byte) ([]ScheduledMessage, error) {
	var messages []ScheduledMessage
	text, err := io.ReadAll(flate.NewReader(bytes.NewReader(packed)))
	if err == nil {
		err = json.Unmarshal(text, &messages)
	}
	if err != nil {
		return nil, errors.New("read a part of a run: it is not what Gancho has stored there")
	}
	for i := range messages {
		m := &messages[i]
		m.Data, m.Errors = m.Payload, m.Failing
	}
	return messages, nil
}
