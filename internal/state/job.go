package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
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
// Parked changes are in Redis, rows in the source: the caller has counted them, and names the source in the filter if there are several. ErrLimit. ErrConflict: there is
// a backfill of the store's source that has not ended.
func (s *Store) CreateJobs(ctx context.Context, actor string, jobs []Job) ([]Job, error) {
	return s.createJobs(ctx, actor, jobs, nil)
}

// CreateJobsOf keeps events, and creates resends of them: all of it or nothing, so that no event counts as sent that no
// job sends. Jobs that have nothing to send are left out. Its errors are those of CreateJobs and WriteEvents.
func (s *Store) CreateJobsOf(ctx context.Context, actor string, jobs []Job, events []webhook.Message) ([]Job, error) {
	days := make([]time.Time, len(events))
	for i := range events {
		days[i] = events[i].Time
	}
	if err := s.ensureDays(ctx, eventsTable, days); err != nil {
		return nil, fmt.Errorf("keep events: %w", explain(err))
	}
	return s.createJobs(ctx, actor, jobs, func(tx pgx.Tx) error {
		if len(events) == 0 {
			return nil
		}
		err := s.checkForgets(ctx, tx)
		if err == nil {
			err = keepDays(ctx, tx, eventsTable, days)
		}
		if err == nil {
			err = copyOnce(ctx, tx, eventsTable, writtenColumns, "do nothing", copyValues(len(events), s.eventRow(events)))
		}
		return err
	})
}

// createJobs is CreateJobs in a transaction that does something first; nil: nothing.
func (s *Store) createJobs(ctx context.Context, actor string, jobs []Job, first func(pgx.Tx) error) ([]Job, error) {
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
	var created []Job
	err := write(ctx, what, func(tx pgx.Tx) error {
		created = make([]Job, 0, len(jobs))
		if first != nil {
			if err := first(tx); err != nil {
				return err
			}
		}
		for i := range jobs {
			j := jobs[i]
			if w := counts[i]; w != nil {
				if err := tx.QueryRow(ctx, `select count(*) from `+j.table()+w.sql(), w.args...).Scan(&j.Total); err != nil {
					return err
				}
			}
			if first != nil && j.Total == 0 {
				continue
			}
			made, err := s.createJob(ctx, tx, actor, &j)
			if err != nil {
				return err
			}
			created = append(created, made)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return created, nil
}

func creating(j *Job) string { return fmt.Sprintf("create a %s for endpoint %q", j.Kind, j.Endpoint) }

// table is that of what the job sends.
func (j *Job) table() string {
	if j.Kind == Redrive {
		return deadTable
	}
	return eventsTable
}

func (s *Store) createJob(ctx context.Context, tx pgx.Tx, actor string, j *Job) (Job, error) {
	filter, err := json.Marshal(j.Filter.withoutWhere(""))
	if err != nil {
		return Job{}, err
	}
	needs, err := filterParts(filter)
	if err != nil {
		return Job{}, err
	}
	var ceiling int64
	if j.Kind == Redrive {
		if err := tx.QueryRow(ctx, `select coalesce(max(id), 0) from `+deadTable).Scan(&ceiling); err != nil {
			return Job{}, err
		}
	}
	if err := s.checkLimit(ctx, tx, j.Tenant, s.limits.Jobs, countJobs); err != nil {
		return Job{}, err
	}
	rows, _ := tx.Query(ctx, `insert into gancho.jobs (kind, endpoint, filter, rate, state, total, tenant, actor, ceiling, estimated, source, needs)
		values ($1, $2, $3::text::json, $4, 'queued', $5, $6, $7, $8, $9, $10, $11) on conflict (kind, source) where kind = 'backfill' and state in ('queued', 'running', 'paused') do nothing returning `+jobColumns,
		string(j.Kind), s.text.encode(j.Endpoint), string(asciiJSON(filter)), j.Rate, j.Total, s.text.encode(j.Tenant), s.text.encode(actor), ceiling, j.Estimated, s.text.encode(s.sourceOf(j.Kind)), needs)
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
	source := "" // its name, as everywhere in the log; j.Source is its slot
	if len(j.Filter.Sources) == 1 {
		source = j.Filter.Sources[0]
	}
	switch j.Kind {
	case RedriveParked:
		c.Object = inSource(parkedObject, source)
	case Backfill:
		c.Object = inSource("source", source)
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

// JobSources returns the sources, by their slots, for whose bridge a job waits or is worked on.
func (s *Store) JobSources(ctx context.Context) ([]string, error) {
	return collect(ctx, s, "list the sources of jobs", `select distinct source from gancho.jobs where state in ('queued', 'running') and source <> ''`, nil,
		func(row pgx.CollectableRow) (source string, err error) {
			err = row.Scan(&source)
			decodeIn(&source)
			return source, err
		})
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

// Key identifies the job wherever the state database's numbers may begin anew.
func (j *Job) Key() string { return fmt.Sprintf("%d-%d", j.ID, j.Created.UnixMicro()) }
