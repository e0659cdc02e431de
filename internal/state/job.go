package state

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"gancho/delivery/webhook"
)

// claim is a worker's hold on a job.
type claim struct {
	worker string
	number int64 // the fencing token: the next claim has a higher one
	lease  time.Duration
	// ceiling is the last dead letter of a redrive: events that die again get higher ids.
	ceiling int64
}

// JobLease is how long after its process's death a job waits for another one, and the longest
// that a worker may take to learn that its job was canceled.
const JobLease = 10 * time.Second

// letsGo is the condition of canceled redrives whose worker may still be sending, or has yet
// to delete what it has sent: their dead letters stay claimed.
const letsGo = `(state = 'canceled' and kind = 'redrive' and leased is not null)`

const jobColumns = `id, kind, endpoint, filter::text, rate, state, total, sent, tenant, error, actor, created, started, finished, position, claims, ceiling, silent, kept, waits, estimated, source, sealed`

// CreateJob is CreateJobs of one.
func (s *Store) CreateJob(ctx context.Context, actor string, j Job) (Job, error) {
	jobs, err := s.CreateJobs(ctx, actor, []Job{j})
	if err != nil {
		return Job{}, err
	}
	return jobs[0], nil
}

// CreateJobs stores jobs of each one's Kind, Endpoint, Filter, Rate and Tenant, all or none,
// for the events or dead letters that exist now, and counts them, unless the caller has
// (Total). A redrive without an endpoint in its filter is of the endpoint's own dead letters.
// Parked changes are in Redis, rows in the source: the caller has counted them. ErrLimit. ErrConflict: there is
// a backfill of the store's source that has not ended.
func (s *Store) CreateJobs(ctx context.Context, actor string, jobs []Job) ([]Job, error) {
	jobs = slices.Clone(jobs)
	counts := make([]*where, len(jobs)) // of those that are to be counted
	write := s.write
	for i := range jobs {
		j := &jobs[i]
		if j.Kind == Redrive && j.Filter.Endpoint == "" {
			j.Filter.Endpoint = j.Endpoint
		}
		if j.Kind == RedriveParked || j.Kind == Backfill || j.Total > 0 {
			continue
		}
		write = s.writeMany
		var err error
		if counts[i], err = s.jobWhere(ctx, j); err != nil {
			return nil, fmt.Errorf("%s: %w", creating(j), err)
		}
	}
	what := "create jobs"
	if len(jobs) == 1 {
		what = creating(&jobs[0])
	}
	created := make([]Job, len(jobs))
	err := write(ctx, what, func(tx pgx.Tx) (err error) {
		for i := range jobs {
			if created[i], err = s.createJob(ctx, tx, actor, &jobs[i], counts[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return created, nil
}

func creating(j *Job) string { return fmt.Sprintf("create a %s for endpoint %q", j.Kind, j.Endpoint) }

// createJob stores a job; w chooses what is to be counted, nil: nothing.
func (s *Store) createJob(ctx context.Context, tx pgx.Tx, actor string, j *Job, w *where) (Job, error) {
	filter, err := json.Marshal(j.Filter.withoutWhere(""))
	if err != nil {
		return Job{}, err
	}
	needs, err := filterParts(filter)
	if err != nil {
		return Job{}, err
	}
	table := eventsTable
	var ceiling int64
	if j.Kind == Redrive {
		table = deadTable
		if err := tx.QueryRow(ctx, `select coalesce(max(id), 0) from `+deadTable).Scan(&ceiling); err != nil {
			return Job{}, err
		}
	}
	total := j.Total
	if w != nil {
		if err := tx.QueryRow(ctx, `select count(*) from `+table+w.sql(), w.args...).Scan(&total); err != nil {
			return Job{}, err
		}
	}
	if err := s.checkLimit(ctx, tx, j.Tenant, s.limits.Jobs, countJobs); err != nil {
		return Job{}, err
	}
	rows, _ := tx.Query(ctx, `insert into gancho.jobs (kind, endpoint, filter, rate, state, total, tenant, actor, ceiling, estimated, source, needs)
		values ($1, $2, $3::text::json, $4, 'queued', $5, $6, $7, $8, $9, $10, $11) on conflict (kind, source) where kind = 'backfill' and state in ('queued', 'running', 'paused') do nothing returning `+jobColumns,
		string(j.Kind), s.text.encode(j.Endpoint), string(asciiJSON(filter)), j.Rate, total, s.text.encode(j.Tenant), s.text.encode(actor), ceiling, j.Estimated, s.text.encode(s.sourceOf(j.Kind)), needs)
	created, err := pgx.CollectExactlyOneRow(rows, s.scanJob)
	if errors.Is(err, pgx.ErrNoRows) {
		return Job{}, fmt.Errorf("%w: a backfill has not ended", ErrConflict)
	}
	if err == nil {
		err = s.sealWhere(ctx, tx, &created, j.Filter.Where)
	}
	if err != nil {
		return Job{}, err
	}
	return created, s.recordJob(ctx, tx, actor, "create", &created)
}

// countJobs counts the jobs of a tenant that have not ended.
const countJobs = `select count(*) from gancho.jobs where left(tenant, 128) = left($1, 128) and tenant = $1 and state in ('queued', 'running')`

// CountJobs returns how many jobs of a tenant have not ended.
func (s *Store) CountJobs(ctx context.Context, tenant string) (int, error) {
	return collectOne(ctx, s, "count jobs", countJobs, []any{s.text.encode(tenant)}, pgx.RowTo[int])
}

// recordJob writes an audit entry such as resend.create.
func (s *Store) recordJob(ctx context.Context, tx pgx.Tx, actor, action string, j *Job) error {
	c := Change{Actor: actor, Tenant: j.Tenant, Action: string(j.Kind) + "." + action, Object: endpointObject(j.Endpoint)}
	switch j.Kind {
	case RedriveParked:
		c.Object = parkedObject
	case Backfill:
		c.Object = "source"
	}
	return s.record(ctx, tx, &c, nil,
		facts{"job": j.ID, "state": j.State, "filter": j.Filter.withoutWhere(HiddenWhere), "rate": j.Rate, "total": j.Total, "sent": j.Sent})
}

func (s *Store) scanJob(row pgx.CollectableRow) (Job, error) {
	var j Job
	var filter string
	var sealed []byte
	var started, finished *time.Time
	err := row.Scan(&j.ID, &j.Kind, &j.Endpoint, &filter, &j.Rate, &j.State, &j.Total, &j.Sent, &j.Tenant, &j.Error, &j.Actor,
		&j.Created, &started, &finished, &j.Cursor, &j.claim.number, &j.claim.ceiling, &j.Silent, &j.Kept, &j.Waits, &j.Estimated, &j.Source, &sealed)
	if err != nil {
		return j, err
	}
	j.Created, j.Started, j.Finished = j.Created.UTC(), utc(started), utc(finished)
	decodeIn(&j.Endpoint, &j.Tenant, &j.Error, &j.Actor, &j.Waits, &j.Source)
	if json.Unmarshal([]byte(filter), &j.Filter) != nil {
		return j, errors.New("read the filter of a job: it is not what Gancho has stored there")
	}
	s.openWhere(&j, sealed)
	return j, nil
}

// Jobs returns up to n jobs, the newest first, whose ID is below before (0:
// from the newest). A tenant's are those that its tokens created; "": all.
func (s *Store) Jobs(ctx context.Context, tenant string, before int64, n int) ([]Job, error) {
	w := &where{text: s.text}
	w.equal("tenant", orNil(tenant))
	if before > 0 {
		w.add("id < %s", before)
	}
	return collect(ctx, s, "read jobs", `select `+jobColumns+` from gancho.jobs`+w.sql()+` order by id desc limit `+w.param(n), w.args, s.scanJob)
}

// Job reads one. ErrNotFound: it does not exist, or is not the tenant's ("": any).
func (s *Store) Job(ctx context.Context, id int64, tenant string) (Job, error) {
	w := &where{text: s.text}
	w.add("id = %s", id)
	w.equal("tenant", orNil(tenant))
	return collectOne(ctx, s, fmt.Sprintf("read job %d", id), `select `+jobColumns+` from gancho.jobs`+w.sql(), w.args, s.scanJob)
}

// CancelJob stops a job before its next page. What a redrive has sent of a page is deleted
// then, by its worker or the next one that claims it (DropSent). ErrNotFound: it does not exist, or
// is not the tenant's ("": any); ErrConflict: it has ended.
func (s *Store) CancelJob(ctx context.Context, actor string, id int64, tenant string) (Job, error) {
	j, err := s.Job(ctx, id, tenant)
	if err != nil {
		return Job{}, err
	}
	err = s.write(ctx, fmt.Sprintf("cancel job %d", id), func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, `update gancho.jobs set state = 'canceled', waits = '', finished = now(), claims = claims + 1,
				leased = case when kind = 'redrive' and started is not null then case when state = 'running' then coalesce(leased, now()) else now() end end
			where id = $1 and state in ('queued', 'running', 'paused') returning `+jobColumns, id)
		canceled, err := pgx.CollectExactlyOneRow(rows, s.scanJob)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("%w: the job has ended", ErrConflict)
		}
		if err != nil {
			return err
		}
		j = canceled
		return s.recordJob(ctx, tx, actor, "cancel", &j)
	})
	return j, err
}

// claimSQL counts the jobs that are worked on once, of all tenants. Its first condition is that
// of the index jobs_open. Of the case the planner believes that it is true for half of the jobs, of <@ alone that it is for one in 200.
const claimSQL = `with busy as materialized (
		select tenant, count(*) as n from gancho.jobs where state = 'running' and leased >= now() group by tenant
	)
	update gancho.jobs set state = case when state = 'canceled' then state else 'running' end, worker = $1, claims = claims + 1, leased = now() + $2, started = coalesce(started, now())
	where id = (
		select id from gancho.jobs left join busy using (tenant) where (state in ('queued', 'running') or leased is not null)
			and (state = 'queued' and coalesce(leased, created) <= now() or (state = 'running' or ` + letsGo + `) and leased < now()) and kind <> all($3::text[]) and source in ('', $4) and case when needs <@ $5::text[] then true else false end
		order by coalesce(n, 0), coalesce(leased, created), id
		limit 1 for update of jobs skip locked
	) returning ` + jobColumns

// ClaimJob claims, for the lease, a job that waits or whose worker's lease has expired, of
// a kind that is not excepted; nil: no job waits. A job whose filter has parts that this version does not know is none: it
// waits for a worker of a newer one. It is one of the tenant of which the
// fewest are worked on, and of those the one that has waited longest: no tenant's jobs wait
// until all of another's are done, and none of another source than the store's. AdvanceJob renews the lease. A redrive that is Canceled is claimed for DropSent, which ends it.
func (s *Store) ClaimJob(ctx context.Context, worker string, lease time.Duration, except ...JobKind) (*Job, error) {
	kinds := []string{}
	for _, k := range except {
		kinds = append(kinds, string(k))
	}
	jobs, err := collect(ctx, s, "claim a job", claimSQL, []any{s.text.encode(worker), lease, kinds, s.text.encode(s.source), knownParts()}, s.scanJob)
	if err != nil || len(jobs) == 0 {
		return nil, err
	}
	j := &jobs[0]
	j.claim.worker, j.claim.lease = worker, lease
	return j, nil
}

// FinishJob ends a claimed job as Done or Failed, for a reason that people can
// read, or gives it back as Queued, for another worker to continue. ErrConflict:
// it was canceled, or another worker has it. What is done has sent its total: some
// of what it counted may have been sent by another job, or deleted.
func (s *Store) FinishJob(ctx context.Context, j *Job, to JobState, why string) error {
	return s.write(ctx, fmt.Sprintf("end job %d", j.ID), func(tx pgx.Tx) error {
		done, err := tx.Exec(ctx, `update gancho.jobs set state = $3, error = $4, waits = '', finished = case when $3 = 'queued' then null else now() end, worker = '', leased = null,
			total = case when $3 = 'done' then sent + silent + kept else total end
			where id = $1 and claims = $2 and state = 'running'`, j.ID, j.claim.number, string(to), s.text.encode(why))
		if err != nil {
			return err
		}
		if done.RowsAffected() == 0 {
			return ErrConflict
		}
		j.State, j.Error = to, why
		if to == Done {
			j.Total = j.Sent + j.Silent + j.Kept
		}
		return nil
	})
}

// PostponeJob gives a claimed job back as Queued, for whoever claims it when the time has
// come. ErrConflict: it was canceled, or another worker has it.
func (s *Store) PostponeJob(ctx context.Context, j *Job, wait time.Duration) error {
	return s.write(ctx, fmt.Sprintf("postpone job %d", j.ID), func(tx pgx.Tx) error {
		done, err := tx.Exec(ctx, `update gancho.jobs set state = 'queued', worker = '', leased = now() + $3 where id = $1 and claims = $2 and state = 'running'`, j.ID, j.claim.number, wait)
		if err == nil && done.RowsAffected() == 0 {
			err = ErrConflict
		}
		return err
	})
}

// NoteWait stores what a claimed job waits for; empty: it goes on. ErrConflict: it was
// canceled, or another worker has it.
func (s *Store) NoteWait(ctx context.Context, j *Job, why string) error {
	err := s.write(ctx, fmt.Sprintf("store what job %d waits for", j.ID), func(tx pgx.Tx) error {
		done, err := tx.Exec(ctx, `update gancho.jobs set waits = $3 where id = $1 and claims = $2 and state = 'running'`, j.ID, j.claim.number, s.text.encode(why))
		if err == nil && done.RowsAffected() == 0 {
			err = ErrConflict
		}
		return err
	})
	if err == nil {
		j.Waits = why
	}
	return err
}

// DropSent deletes the dead letters that a redrive which fails or was canceled has sent up
// to a position of one of its pages, so that no other sends them again, and counts them as
// sent. Those that a canceled one has not sent are free then. For an empty position it deletes
// nothing, and when another worker has the job it does nothing.
func (s *Store) DropSent(ctx context.Context, j *Job, position string) error {
	to, err := parsePlace(position)
	if err != nil {
		return err
	}
	return s.write(ctx, fmt.Sprintf("delete what job %d has sent", j.ID), func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `with ended as (
				select id from gancho.jobs where id = $1 and (claims = $2 or state = 'canceled') for update
			), gone as (
				delete from gancho.dead_letters where job = (select id from ended) and id <= $3 returning id
			) update gancho.jobs set sent = sent + n, total = greatest(total, sent + n) from (select count(*) as n from gone) sent_now where id = $1`,
			j.ID, j.claim.number, to.number)
		if err == nil {
			_, err = tx.Exec(ctx, `update gancho.jobs set leased = null where id = $1 and state = 'canceled'`, j.ID)
		}
		return err
	})
}

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

// Key identifies the job wherever the state database's numbers may begin anew.
func (j *Job) Key() string { return fmt.Sprintf("%d-%d", j.ID, j.Created.UnixMicro()) }

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
		rows, _ := tx.Query(ctx, pageSQL(columns, from+w.sql(), order, w.param(n)), w.args...)
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
// bound. The lengths of bodies are read without the bodies.
func pageSQL(columns, from, order, n string) string {
	return fmt.Sprintf(`select found, %[1]s from (
			select *, count(*) over () as found,
				sum(octet_length(data) + coalesce(octet_length(previous), 0)) over (order by %[3]s rows between unbounded preceding and 1 preceding) as before
			from (select %[1]s from %[2]s order by %[3]s limit %[4]s) rows
		) page where before is null or before < %[5]d order by %[3]s`, columns, from, order, n, maxPageBytes)
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
