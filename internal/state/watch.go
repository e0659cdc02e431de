package state

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"gancho/internal/retry"
)

// Topic is what a change of the state is about.
type Topic string

// The topics; their texts are the payloads of notifications.
const (
	// TopicEndpoints: Endpoints may give another answer.
	TopicEndpoints Topic = "revision"
	// TopicJobs: ClaimJob may find a job.
	TopicJobs Topic = "jobs"
	// TopicDrops: Drops may give another answer.
	TopicDrops Topic = "drops"
)

const (
	channel = "gancho"
	// slowPoll is how long a change may stay unknown when its notification is
	// lost, pollWithout how long where notifications do not come.
	slowPoll    = 30 * time.Second
	pollWithout = time.Second
	// jobRecheck is how soon after a job was announced the leases are read again.
	jobRecheck = 5 * time.Second
)

// Watch calls changed with each topic at the start, and from then on when
// something of it may have changed: at a notification (triggers send them,
// within milliseconds of the commit), after a lost connection, when a secret
// expires (TopicEndpoints), and when a worker's lease of a job runs out, or the
// time of a postponed one has come (TopicJobs). A statement every 30 seconds finds what was not notified; where
// a pooler keeps notifications away, one each second does.
//
// changed is called from Watch's goroutine and delays the next topic. Watch
// keeps one connection of its own. It returns nil when ctx ends, or the error of
// a schema that is not this program's; for an unreachable database it waits.
func (s *Store) Watch(ctx context.Context, changed func(Topic)) error {
	w := &watch{store: s, changed: changed}
	backoff := retry.Backoff{Min: 100 * time.Millisecond, Max: 5 * time.Second}
	for failures := 1; ; failures++ {
		began := time.Now()
		err := w.listen(ctx)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // the end that was asked for
		case !errors.Is(err, ErrUnreachable):
			return err
		case time.Since(began) > backoff.Max:
			failures = 1
		}
		if failures == 1 {
			s.logger.Warn().Err(err).Msg("changes of endpoints, jobs and drops are not seen while the state database is unreachable; connecting again")
		}
		if retry.Wait(ctx, backoff.Delay(failures)) != nil {
			return nil //nolint:nilerr // the end that was asked for
		}
	}
}

// watch is the state of a Watch between its connections.
type watch struct {
	store   *Store
	changed func(Topic)
	known   revision
}

// revision is what is compared: while it is the same, so are the endpoints.
type revision struct {
	n       int64
	expired int64 // secrets that no longer sign
}

// listen watches on a connection of its own until it is lost.
func (w *watch) listen(ctx context.Context) error {
	config := w.store.pool.Config().ConnConfig
	config.RuntimeParams["application_name"] = applicationName + "-watch"
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("watch the state database: %w", explain(err))
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTimeout)
		defer cancel()
		_ = conn.Close(closing)
	}()
	var pid uint32
	err = conn.QueryRow(ctx, "select pg_backend_pid()").Scan(&pid)
	poll := slowPoll
	if pid != conn.PgConn().PID() {
		// A pooler is between us and the server: the process that would listen does
		// not stay ours, and would listen on in somebody else's session.
		poll = pollWithout
	} else if err == nil {
		_, err = conn.Exec(ctx, "listen "+channel)
	}
	if err != nil {
		return fmt.Errorf("watch the state database: %w", explain(err))
	}
	for first := true; ; first = false {
		if first || poll == pollWithout { // notifications of before are lost, or do not come
			w.changed(TopicJobs)
			w.changed(TopicDrops)
		}
		next, err := w.compare(ctx, conn)
		if err != nil {
			return err
		}
		if err := w.wait(ctx, conn, min(poll, next)); err != nil {
			return fmt.Errorf("watch the state database: %w", explain(err))
		}
	}
}

// wait passes notifications on, for d or until one is of the revision.
func (w *watch) wait(ctx context.Context, conn *pgx.Conn, d time.Duration) error {
	for until := time.Now().Add(d); ; {
		waiting, cancel := context.WithDeadline(ctx, until)
		n, err := conn.WaitForNotification(waiting)
		over := waiting.Err() != nil
		cancel()
		switch {
		case err == nil && Topic(n.Payload) == TopicEndpoints:
			return nil
		case err == nil:
			w.changed(Topic(n.Payload))
			// Whoever claims the job may die: then its lease is the next thing to happen.
			if soon := time.Now().Add(jobRecheck); Topic(n.Payload) == TopicJobs && soon.Before(until) {
				until = soon
			}
		case over && !conn.IsClosed():
			return ctx.Err() // nil: it was only time
		default:
			return err
		}
	}
}

// compare reads the revision and reports a change. It returns how long until
// time itself changes something.
func (w *watch) compare(ctx context.Context, conn *pgx.Conn) (next time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var now revision
	var jobs, drops bool     // there may be some to be had
	var secret, lease *int64 // microseconds
	err = conn.QueryRow(ctx, `select n, (select count(*) from gancho.secrets where expires <= now()),
			(select 1 + (extract(epoch from min(expires) - now()) * 1000000)::bigint from gancho.secrets where expires > now()),
			j.overdue or exists (select from gancho.jobs where state = 'queued'), exists (select from gancho.drops), j.next
		from gancho.revision, (select coalesce(min(leased) < now(), false) as overdue,
			1 + (extract(epoch from min(leased) filter (where leased >= now()) - now()) * 1000000)::bigint as next
			from gancho.jobs where state in ('queued', 'running') or `+letsGo+`) j`).Scan(&now.n, &now.expired, &secret, &jobs, &drops, &lease)
	if err != nil {
		return 0, fmt.Errorf("read the revision of the state: %w", explain(err))
	}
	if now != w.known {
		w.known = now
		w.changed(TopicEndpoints)
	}
	if jobs {
		w.changed(TopicJobs)
	}
	if drops {
		w.changed(TopicDrops)
	}
	next = slowPoll
	for _, micros := range []*int64{secret, lease} {
		if micros != nil {
			next = min(next, time.Duration(*micros)*time.Microsecond)
		}
	}
	return next, nil
}
