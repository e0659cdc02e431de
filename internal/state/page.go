package state

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"gancho/delivery/webhook"
)

// JobPage is what a job sends next.
type JobPage struct {
	// Messages are marked as replays.
	Messages []webhook.Message
	// Last: nothing follows.
	Last bool
	// position is where the job continues after this page.
	position string
	// dead are the messages' dead letters, which AdvanceJob deletes.
	dead []int64
}

// jobWhere returns the conditions of a job's filter on its table. A resend is of
// what was committed before the job was created.
func (s *Store) jobWhere(ctx context.Context, j *Job) (*where, error) {
	if j.Kind == Redrive {
		return s.where(ctx, &j.Filter, deadTable)
	}
	f := j.Filter
	created := j.Created
	if created.IsZero() {
		created = time.Now()
	}
	if f.To.IsZero() || f.To.After(created) {
		f.To = created
	}
	return s.where(ctx, &f, eventsTable)
}

// JobPage reads up to n events, and about 8 MiB of bodies, from the job's
// position on: kept events in commit order, dead letters in the order in which
// they were stored.
func (s *Store) JobPage(ctx context.Context, j *Job, n int) (JobPage, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	w, err := s.jobWhere(ctx, j)
	if err != nil {
		return JobPage{}, err
	}
	var p JobPage
	if j.Kind == Redrive {
		p, err = s.deadPage(ctx, j, w, n)
	} else {
		p, err = s.eventPage(ctx, j, w, n)
	}
	if err != nil {
		return JobPage{}, fmt.Errorf("read the events of job %d: %w", j.ID, explain(err))
	}
	return p, nil
}

func (s *Store) deadPage(ctx context.Context, j *Job, w *where, n int) (JobPage, error) {
	var after int64
	if j.Cursor != "" {
		var err error
		if after, err = strconv.ParseInt(j.Cursor, 10, 64); err != nil {
			return JobPage{}, fmt.Errorf("read position %q: %w", j.Cursor, err)
		}
	}
	w.add("id > %s and id <= %s", after, j.claim.ceiling)
	sql := pageSQL("id, "+eventColumns, deadTable+w.sql(), "id", w.param(n))
	p := JobPage{position: j.Cursor}
	var id, found int64
	rows, err := s.pool.Query(ctx, sql, w.args...)
	if err != nil {
		return p, err
	}
	events, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (KeptEvent, error) {
		e, err := scanEvent(leadingColumns{row, []any{&found, &id}})
		p.dead = append(p.dead, id)
		return e, err
	})
	if err != nil {
		return p, err
	}
	if len(p.dead) > 0 {
		p.position = strconv.FormatInt(p.dead[len(p.dead)-1], 10)
	}
	p.fill(events, found, n)
	return p, nil
}

// maxPageBytes bounds the memory of a page: it ends with the message that exceeds
// it.
const maxPageBytes = 8 << 20

// pageSQL returns the query of a page of at most n rows, of those that fit into
// maxPageBytes, each with the number of those that would follow without that
// bound. The lengths of bodies are read without the bodies.
func pageSQL(columns, from, order, n string) string {
	return fmt.Sprintf(`select found, %[1]s from (
			select *, count(*) over () as found,
				sum(octet_length(data) + coalesce(octet_length(previous), 0)) over (order by %[3]s rows between unbounded preceding and 1 preceding) as before
			from (select %[1]s from %[2]s order by %[3]s limit %[4]s) rows
		) page where before is null or before < %[5]d order by %[3]s`, columns, from, order, n, maxPageBytes)
}

func (s *Store) eventPage(ctx context.Context, j *Job, w *where, n int) (JobPage, error) {
	if j.Cursor != "" {
		committed, id, err := parseEventPosition(j.Cursor)
		if err != nil {
			return JobPage{}, err
		}
		// The first condition is implied; it spares the partitions of earlier days.
		w.add("committed >= %s", committed)
		w.add("(committed, webhook_id) > (%s, %s)", committed, s.text.encode(id))
	}
	sql := pageSQL(eventColumns, eventsTable+w.sql(), "committed, webhook_id", w.param(n))
	p := JobPage{position: j.Cursor}
	var found int64
	rows, err := s.pool.Query(ctx, sql, w.args...)
	if err != nil {
		return p, err
	}
	events, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (KeptEvent, error) {
		return scanEvent(leadingColumns{row, []any{&found}})
	})
	if err != nil {
		return p, err
	}
	if len(events) > 0 {
		last := &events[len(events)-1]
		p.position = strconv.FormatInt(last.Time.UnixMicro(), 10) + " " + s.text.encode(last.ID)
	}
	p.fill(events, found, n)
	return p, nil
}

func parseEventPosition(text string) (time.Time, string, error) {
	micros, id, _ := strings.Cut(text, " ")
	n, err := strconv.ParseInt(micros, 10, 64)
	if err != nil {
		return time.Time{}, "", fmt.Errorf("read position %q: %w", text, err)
	}
	return time.UnixMicro(n), decode(id), nil
}

// fill sets the messages of a page: events of the found ones, of at most n.
func (p *JobPage) fill(events []KeptEvent, found int64, n int) {
	for i := range events {
		p.Messages = append(p.Messages, events[i].Message)
	}
	p.Last = found < int64(n) && int64(len(events)) == found
}

// AdvanceJob stores that a page has been sent, in one transaction: where the job
// continues, how much it has sent, and, for a redrive, the deletion of its dead
// letters. The job's total rises when more was sent than it had counted: an
// event is kept when it is delivered, which may be after the job was created. It
// renews the lease; a page without messages does only that, also with a copy of
// the job while another page is in flight. ErrConflict: the job was canceled or
// another worker has it; stop.
func (s *Store) AdvanceJob(ctx context.Context, j *Job, p JobPage) error {
	err := s.write(ctx, fmt.Sprintf("store what job %d has sent", j.ID), func(tx pgx.Tx) error {
		done, err := tx.Exec(ctx, `update gancho.jobs set position = case when $4 > 0 then $3 else position end, sent = sent + $4, total = greatest(total, sent + $4), leased = now() + $5
			where id = $1 and claims = $2 and state = 'running'`, j.ID, j.claim.number, p.position, len(p.Messages), j.claim.lease)
		if err != nil {
			return err
		}
		if done.RowsAffected() == 0 {
			return ErrConflict
		}
		if len(p.dead) == 0 {
			return nil
		}
		_, err = tx.Exec(ctx, `delete from gancho.dead_letters where id = any($1)`, p.dead)
		return err
	})
	if err != nil {
		return err
	}
	if len(p.Messages) > 0 {
		j.Cursor = p.position
	}
	j.Sent += int64(len(p.Messages))
	j.Total = max(j.Total, j.Sent)
	return nil
}
