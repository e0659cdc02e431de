package state

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
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
	// start is the job's position before the page; places are where it continues after
	// each message.
	start  string
	places []place
	// dead are the messages' dead letters, which AdvanceJob deletes.
	dead []int64
}

// place is where a job has got to: the id of a dead letter, or the time of a commit, in
// microseconds, and the id of an event, as it is stored.
type place struct {
	number int64
	event  string
}

func (p place) String() string {
	if p.event == "" {
		return strconv.FormatInt(p.number, 10)
	}
	return strconv.FormatInt(p.number, 10) + " " + p.event
}

func parsePlace(text string) (place, error) {
	number, event, _ := strings.Cut(text, " ")
	n, err := strconv.ParseInt(cmp.Or(number, "0"), 10, 64)
	if err != nil {
		return place{}, fmt.Errorf("read position %q: %w", text, err)
	}
	return place{n, event}, nil
}

// Position is where the job continues after the page.
func (p *JobPage) Position() string { return p.PositionAfter(len(p.Messages)) }

// PositionAfter is where it continues after the page's first n messages.
func (p *JobPage) PositionAfter(n int) string {
	if n == 0 {
		return p.start
	}
	return p.places[n-1].String()
}

// Reached returns how many of the page's messages are not after a position; empty: none.
func (p *JobPage) Reached(position string) (int, error) {
	if position == "" {
		return 0, nil
	}
	to, err := parsePlace(position)
	n := 0
	for n < len(p.places) && cmp.Or(cmp.Compare(p.places[n].number, to.number), cmp.Compare(p.places[n].event, to.event)) <= 0 {
		n++
	}
	return n, err
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
// they were stored. Dead letters are claimed for the job first, as long as it runs; those
// that another job has are left out, and for those that a canceled one still has it waits: a
// page may be empty and not the Last. ErrConflict: a redrive was canceled, or another worker
// has it.
func (s *Store) JobPage(ctx context.Context, j *Job, n int) (JobPage, error) {
	p := JobPage{start: j.Cursor}
	what := fmt.Sprintf("read the events of job %d", j.ID)
	w, err := s.jobWhere(ctx, j)
	if err == nil {
		err = w.after(j)
	}
	if err != nil {
		return JobPage{}, fmt.Errorf("%s: %w", what, explain(err))
	}
	var id, found int64
	var held bool
	columns, from, order, first := eventColumns, eventsTable, "committed, webhook_id", []any{&found}
	if j.Kind == Redrive {
		columns, from, order, first = "id, "+eventColumns, deadTable, "id", []any{&found, &id}
	}
	err = s.write(ctx, what, func(tx pgx.Tx) error {
		p.dead, p.places = nil, nil
		if j.Kind == Redrive {
			var err error
			if held, err = claimDead(ctx, tx, w, j, n); err != nil {
				return err
			}
		}
		rows, _ := tx.Query(ctx, pageSQL(columns, from+w.sql(), order, w.param(n), ""), w.args...)
		var err error
		p.Messages, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (webhook.Message, error) {
			m, err := scanEvent(leadingColumns{row, first})
			at := place{m.Time.UnixMicro(), s.text.encode(m.ID)}
			if j.Kind == Redrive {
				p.dead = append(p.dead, id)
				at = place{number: id}
			}
			p.places = append(p.places, at)
			return m, err
		})
		return err
	})
	if err != nil {
		return JobPage{}, err
	}
	p.Last = !held && found < int64(n) && int64(len(p.Messages)) == found
	return p, nil
}

// claimDead claims the next dead letters for the job, and limits w to those that it has.
// A claim ends with its job; held: a canceled one has not let go yet of some of the next,
// and nothing more was claimed. A job's claims rise: what it claims is behind all that it has
// claimed before, also when that was freed by another job meanwhile. So whatever Redis has
// from the job up to a position, it has every letter of the job up to there. ErrConflict:
// the job was canceled, or another worker has it.
func claimDead(ctx context.Context, tx pgx.Tx, w *where, j *Job, n int) (held bool, err error) {
	var claimed int64
	err = tx.QueryRow(ctx, `select claimed from gancho.jobs where id = $1 and claims = $2 and state = 'running' for update`,
		j.ID, j.claim.number).Scan(&claimed)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, ErrConflict
	}
	if err != nil {
		return false, err
	}
	free := where{w.text, slices.Clone(w.conditions), slices.Clone(w.args)}
	w.add("job = %s", j.ID)
	waits := where{free.text, slices.Clone(free.conditions), slices.Clone(free.args)}
	waits.add("id > %s and job in (select id from gancho.jobs where "+letsGo+")", claimed)
	if err := tx.QueryRow(ctx, `select exists (select from gancho.dead_letters`+waits.sql()+`)`, waits.args...).Scan(&held); err != nil || held {
		return held, err
	}
	mine := free.param(j.ID)
	free.conditions = append(free.conditions, "(job = "+mine+" or id > "+free.param(claimed)+" and (job is null"+
		" or not exists (select from gancho.jobs other where other.id = job and other.state in ('queued', 'running'))))")
	_, err = tx.Exec(ctx, `with chosen as (
			update gancho.dead_letters set job = `+mine+` where id in (
				select id from gancho.dead_letters`+free.sql()+` order by id limit `+free.param(n)+` for update skip locked)
			returning id
		) update gancho.jobs set claimed = greatest(claimed, (select max(id) from chosen)) where id = `+mine, free.args...)
	return false, err
}

// after adds that a page begins behind the job's position: the id of a dead
// letter, or the time and the id of an event.
func (w *where) after(j *Job) error {
	at, err := parsePlace(j.Cursor)
	switch {
	case err != nil:
		return err
	case j.Kind == Redrive:
		w.add("id > %s and id <= %s", at.number, j.claim.ceiling)
	case j.Cursor != "":
		// The first condition is implied; it spares the partitions of earlier days.
		w.add("committed >= %s", time.UnixMicro(at.number))
		w.add("(committed, webhook_id) > (%s, %s)", time.UnixMicro(at.number), at.event)
	}
	return nil
}

// maxPageBytes bounds the memory of a page: it ends with the message that exceeds
// it.
const maxPageBytes = 8 << 20

// pageSQL returns the query of a page of at most n rows, of those that fit into
// maxPageBytes, each with the number of those that would follow without that
// bound. The lengths of bodies are read without the bodies; more is another length that counts.
func pageSQL(columns, from, order, n, more string) string {
	return fmt.Sprintf(`select found, %[1]s from (
			select *, count(*) over () as found,
				sum(octet_length(data) + coalesce(octet_length(previous), 0)%[6]s) over (order by %[3]s rows between unbounded preceding and 1 preceding) as before
			from (select %[1]s from %[2]s order by %[3]s limit %[4]s) rows
		) page where before is null or before < %[5]d order by %[3]s`, columns, from, order, n, maxPageBytes, more)
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
			where id = $1 and claims = $2 and state = 'running'`, j.ID, j.claim.number, p.Position(), len(p.Messages), j.claim.lease)
		if err != nil {
			return err
		}
		if done.RowsAffected() == 0 {
			return ErrConflict
		}
		if len(p.dead) == 0 {
			return nil
		}
		_, err = tx.Exec(ctx, `delete from gancho.dead_letters where id = any($1) and job = $2`, p.dead, j.ID)
		return err
	})
	if err != nil {
		return err
	}
	if len(p.Messages) > 0 {
		j.Cursor = p.Position()
	}
	j.Sent += int64(len(p.Messages))
	j.Total = max(j.Total, j.Sent)
	return nil
}
