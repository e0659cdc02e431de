package state

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// claim is a worker's hold on a job.
type claim struct {
	worker string
	number int64 // the fencing token: the next claim has a higher one
	lease  time.Duration
	// ceiling is the last dead letter of a redrive: events that die again get higher ids.
	ceiling int64
}

const jobColumns = `id, kind, endpoint, filter::text, rate, state, total, sent, tenant, error, actor, created, started, finished, position, claims, ceiling`

// CreateJob stores a job of j's Kind, Endpoint, Filter, Rate and Tenant, for
// the events or dead letters that exist now, and counts them (Total). A redrive
// without an endpoint in its filter is of the endpoint's own dead letters.
func (s *Store) CreateJob(ctx context.Context, actor string, j Job) (Job, error) {
	what := fmt.Sprintf("create a %s for endpoint %q", j.Kind, j.Endpoint)
	if j.Kind == Redrive && j.Filter.Endpoint == "" {
		j.Filter.Endpoint = j.Endpoint
	}
	w, err := s.jobWhere(ctx, &j)
	if err != nil {
		return Job{}, fmt.Errorf("%s: %w", what, err)
	}
	filter, err := filterText(&j.Filter)
	if err != nil {
		return Job{}, fmt.Errorf("%s: %w", what, err)
	}
	err = s.write(ctx, what, func(tx pgx.Tx) error {
		var total, ceiling int64
		count := `select count(*), 0::bigint from ` + eventsTable
		if j.Kind == Redrive {
			count = `select count(*), coalesce(max(id), 0) from ` + deadTable
		}
		if err := tx.QueryRow(ctx, count+w.sql(), w.args...).Scan(&total, &ceiling); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `insert into gancho.jobs (kind, endpoint, filter, rate, state, total, tenant, actor, ceiling)
			values ($1, $2, $3::text::json, $4, 'queued', $5, $6, $7, $8) returning `+jobColumns,
			string(j.Kind), s.text.encode(j.Endpoint), filter, j.Rate, total, s.text.encode(j.Tenant), s.text.encode(actor), ceiling)
		if err != nil {
			return err
		}
		if j, err = pgx.CollectExactlyOneRow(rows, scanJob); err != nil {
			return err
		}
		return s.recordJob(ctx, tx, actor, "create", &j)
	})
	return j, err
}

// recordJob writes an audit entry such as resend.create.
func (s *Store) recordJob(ctx context.Context, tx pgx.Tx, actor, action string, j *Job) error {
	after, err := facts(map[string]any{
		"job": j.ID, "state": j.State, "filter": j.Filter, "rate": j.Rate, "total": j.Total, "sent": j.Sent,
	})
	if err != nil {
		return err
	}
	_, err = s.record(ctx, tx, Change{
		Actor: actor, Tenant: j.Tenant, Action: string(j.Kind) + "." + action, Object: endpointObject(j.Endpoint), After: after,
	})
	return err
}

func scanJob(row pgx.CollectableRow) (Job, error) {
	var j Job
	var filter string
	var started, finished *time.Time
	err := row.Scan(&j.ID, &j.Kind, &j.Endpoint, &filter, &j.Rate, &j.State, &j.Total, &j.Sent, &j.Tenant, &j.Error, &j.Actor,
		&j.Created, &started, &finished, &j.Cursor, &j.claim.number, &j.claim.ceiling)
	if err != nil {
		return j, err
	}
	j.Created, j.Started, j.Finished = j.Created.UTC(), utc(started), utc(finished)
	decodeIn(&j.Endpoint, &j.Tenant, &j.Error, &j.Actor)
	j.Filter, err = parseFilter(filter)
	return j, err
}

// Jobs returns up to n jobs, the newest first, whose ID is below before (0:
// from the newest). A tenant's are those that its tokens created; "": all.
func (s *Store) Jobs(ctx context.Context, tenant string, before int64, n int) ([]Job, error) {
	w := &where{text: s.text}
	if tenant != "" {
		w.equal("tenant", tenant)
	}
	if before > 0 {
		w.add("id < %s", before)
	}
	return collect(ctx, s, "read jobs", `select `+jobColumns+` from gancho.jobs`+w.sql()+` order by id desc limit `+w.param(n), w.args, scanJob)
}

// Job reads one. ErrNotFound: it does not exist, or is not the tenant's ("": any).
func (s *Store) Job(ctx context.Context, id int64, tenant string) (Job, error) {
	w := &where{text: s.text}
	w.add("id = %s", id)
	if tenant != "" {
		w.equal("tenant", tenant)
	}
	return collectOne(ctx, s, fmt.Sprintf("read job %d", id), `select `+jobColumns+` from gancho.jobs`+w.sql(), w.args, scanJob)
}

// CancelJob stops a job before its next page. ErrNotFound: it does not exist, or
// is not the tenant's ("": any); ErrConflict: it has ended.
func (s *Store) CancelJob(ctx context.Context, actor string, id int64, tenant string) (Job, error) {
	j, err := s.Job(ctx, id, tenant)
	if err != nil {
		return Job{}, err
	}
	err = s.write(ctx, fmt.Sprintf("cancel job %d", id), func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `update gancho.jobs set state = 'canceled', finished = now(), claims = claims + 1
			where id = $1 and state in ('queued', 'running') returning `+jobColumns, id)
		if err != nil {
			return err
		}
		canceled, err := pgx.CollectRows(rows, scanJob)
		if err != nil {
			return err
		}
		if len(canceled) == 0 {
			return fmt.Errorf("%w: the job has ended", ErrConflict)
		}
		j = canceled[0]
		return s.recordJob(ctx, tx, actor, "cancel", &j)
	})
	return j, err
}

// ClaimJob claims, for the lease, the oldest job that waits or whose worker's
// lease has expired; nil: no job waits. AdvanceJob renews the lease.
func (s *Store) ClaimJob(ctx context.Context, worker string, lease time.Duration) (*Job, error) {
	jobs, err := collect(ctx, s, "claim a job", `update gancho.jobs set state = 'running', worker = $1, claims = claims + 1, leased = now() + $2, started = coalesce(started, now())
		where id = (
			select id from gancho.jobs where state = 'queued' or state = 'running' and leased < now()
			order by id limit 1 for update skip locked
		) returning `+jobColumns, []any{s.text.encode(worker), lease}, scanJob)
	if err != nil || len(jobs) == 0 {
		return nil, err
	}
	j := &jobs[0]
	j.claim.worker, j.claim.lease = worker, lease
	return j, nil
}

// FinishJob ends a claimed job as Done or Failed, for a reason that people can
// read, or gives it back as Queued, for another worker to continue. ErrConflict:
// it was canceled, or another worker has it.
func (s *Store) FinishJob(ctx context.Context, j *Job, to JobState, why string) error {
	return s.write(ctx, fmt.Sprintf("end job %d", j.ID), func(tx pgx.Tx) error {
		done, err := tx.Exec(ctx, `update gancho.jobs set state = $3, error = $4, finished = case when $3 = 'queued' then null else now() end, worker = '', leased = null
			where id = $1 and claims = $2 and state = 'running'`, j.ID, j.claim.number, string(to), s.text.encode(why))
		if err != nil {
			return err
		}
		if done.RowsAffected() == 0 {
			return ErrConflict
		}
		j.State, j.Error = to, why
		return nil
	})
}
