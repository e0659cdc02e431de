package plan

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"gancho/cdc"
	"gancho/internal/retry"
)

// runner runs statements at the source.
type runner struct {
	conn    *pgx.Conn
	options Options
	say     func(format string, args ...any)
}

// StoppedError is a plan that ended before its last statement.
type StoppedError struct {
	Done int
	Left []Change // the first is the one that it ended at
	Err  error
}

// Error implements error. It says what was done and what was not.
func (e *StoppedError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "stopped at %s: %v; %d done, %d not:", strings.TrimSuffix(e.Left[0].SQL, ";"), e.Err, e.Done, len(e.Left))
	for _, c := range e.Left {
		b.WriteString("\n  " + c.SQL)
	}
	return b.String()
}

// Unwrap returns the reason.
func (e *StoppedError) Unwrap() error { return e.Err }

// ErrBlocked is wrapped by a [StoppedError] at a statement that Apply does not run.
var ErrBlocked = errors.New("gancho does not run it")

// Apply runs the statements in their order, and writes them into the record. It stops at the
// first that fails or that is blocked, with a [*StoppedError]. say gets its progress.
func (p *Plan) Apply(ctx context.Context, conn *pgx.Conn, r *Record, say func(format string, args ...any)) error {
	run := runner{conn, p.options, say}
	release, err := run.alone(ctx)
	if err != nil {
		return err
	}
	defer release()
	for i := range p.Changes {
		c := &p.Changes[i]
		err = p.apply(ctx, &run, r, c)
		if err != nil {
			return &StoppedError{i, p.Changes[i:], err}
		}
		say("%d of %d done: %s", i+1, len(p.Changes), c.SQL)
	}
	return nil
}

func (p *Plan) apply(ctx context.Context, run *runner, r *Record, c *Change) error {
	if c.Blocked != "" {
		return fmt.Errorf("%w: %s", ErrBlocked, c.Blocked)
	}
	for _, e := range r.entries { // cut off before; the checks say that it is still to be done
		if e.State == begun && e.SQL == c.SQL && e.System == p.system && e.Database == p.Database {
			if err := r.end(e.Number, failed); err != nil {
				return err
			}
		}
	}
	number, err := r.begin(p, c)
	if err != nil {
		return err
	}
	if err := run.do(ctx, c.SQL, c.Undo, c.Tables); err != nil {
		if ctx.Err() != nil {
			return err // it may have been done
		}
		return errors.Join(err, r.end(number, failed))
	}
	return r.end(number, done)
}

// alone refuses to work beside another one, which may be the session of a process that was
// killed and whose last statement is not finished. release lets the next one in: the server
// notices the end of the session only later.
func (run *runner) alone(ctx context.Context) (release func(), err error) {
	var alone bool
	err = run.conn.QueryRow(ctx, "select pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended('gancho plan', 0))").Scan(&alone)
	if err != nil {
		return nil, fmt.Errorf("lock the plan: %w", err)
	}
	if !alone {
		return nil, errors.New("another gancho plan is changing this database, or the server has not finished the last statement of one that was killed; wait for it (see pg_stat_activity), and start again")
	}
	return func() {
		// Without an answer the session is over, and the lock with it.
		_, _ = run.conn.Exec(context.WithoutCancel(ctx), "select pg_catalog.pg_advisory_unlock(pg_catalog.hashtextextended('gancho plan', 0))")
	}, nil
}

// do runs a statement; undo is what takes it back.
func (run *runner) do(ctx context.Context, sql, undo string, tables []string) error {
	switch {
	case strings.HasPrefix(sql, "CREATE UNIQUE INDEX CONCURRENTLY "):
		return run.createIndex(ctx, sql, undo)
	case strings.HasPrefix(sql, "SELECT pg_create_"):
		run.say("creating the slot, which waits for transactions that are running")
		return run.exec(ctx, sql)
	case strings.HasPrefix(sql, "SELECT "), strings.Contains(sql, " CONCURRENTLY "):
		return run.exec(ctx, sql)
	}
	check, err := run.check(ctx, sql, tables)
	if err != nil {
		return err
	}
	err = cdc.Briefly(ctx, run.conn, run.options.Encoding.Encode(sql), check, func(error) {
		run.say("another session has locked %s (%s): trying again", strings.Join(tables, ", "), run.holders(ctx, tables))
	})
	if cdc.SQLState(err) == cdc.CodeLockNotAvailable {
		err = fmt.Errorf("%w: another session has locked %s (%s); end it, or try at another time", err, strings.Join(tables, ", "), run.holders(ctx, tables))
	}
	return err
}

func (run *runner) exec(ctx context.Context, sql string) error {
	_, err := run.conn.Exec(ctx, run.options.Encoding.Encode(sql), pgx.QueryExecModeSimpleProtocol)
	return err
}

// check returns what is called in the transaction of a statement: it fails if statements of
// the application would fail after it that do not now.
func (run *runner) check(ctx context.Context, sql string, tables []string) (func(context.Context, *pgx.Conn) error, error) {
	var names []cdc.Name
	for _, t := range tables {
		name, err := cdc.ParseName(t)
		if err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	look := func(ctx context.Context, conn *pgx.Conn) ([]cdc.Hazard, error) {
		return cdc.RefusedNow(ctx, conn, run.options.Encoding, run.options.Publication, names)
	}
	switch {
	case strings.HasPrefix(sql, "ALTER PUBLICATION "): // whatever it publishes already
		look = func(ctx context.Context, conn *pgx.Conn) ([]cdc.Hazard, error) {
			return cdc.Hazards(ctx, conn, run.options.Encoding, run.options.Publication)
		}
	case len(names) == 0:
		return nil, nil
	}
	before, err := look(ctx, run.conn)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, conn *pgx.Conn) error {
		// The statement's lock is held meanwhile.
		if _, err := conn.Exec(ctx, "set local statement_timeout = '2s'"); err != nil {
			return err
		}
		after, err := look(ctx, conn)
		if err != nil {
			return err
		}
		for i := range after {
			h := &after[i]
			known := slices.ContainsFunc(before, func(b cdc.Hazard) bool { return b.String() == h.String() })
			if h.RefusesStatements() && !known {
				return fmt.Errorf("rolled back, because after it %s; %s", h, h.Fix())
			}
		}
		return nil
	}, nil
}

// holders are the sessions that have locked the tables, without what they run.
func (run *runner) holders(ctx context.Context, tables []string) string {
	rows, _ := run.conn.Query(ctx, `
		select distinct format('pid %s%s, in a transaction since %s', a.pid, coalesce(' of ' || nullif(a.application_name, ''), ''), to_char(a.xact_start, 'YYYY-MM-DD HH24:MI:SS TZ'))
		from pg_catalog.pg_locks l join pg_catalog.pg_stat_activity a using (pid)
		where l.granted and l.locktype = 'relation' and l.database = (select oid from pg_catalog.pg_database where datname = current_database())
			and l.relation = any(select to_regclass(t)::oid from unnest($1::text[]) t) and a.pid <> pg_backend_pid() order by 1 limit 3`, tables)
	holders, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(holders) == 0 {
		return "see pg_locks"
	}
	return strings.Join(holders, "; ")
}

// indexTries is how often an index is begun. PostgreSQL may end one as a deadlock victim.
const indexTries = 3

// createIndex creates an index while the application writes. What an attempt has left behind,
// an earlier process's too, is dropped. Its wait for transactions has no limit: it holds
// nothing that reads or writes of rows wait for.
func (run *runner) createIndex(ctx context.Context, sql, drop string) error {
	name := strings.TrimSuffix(strings.TrimPrefix(drop, "DROP INDEX CONCURRENTLY "), ";")
	tries := 0
	run.say("creating index %s, which waits for transactions that are running", name)
	_, err := retry.Do(ctx, cdc.LockPause, func() (struct{}, error) {
		var invalid bool
		err := run.conn.QueryRow(ctx, "select exists (select from pg_catalog.pg_index where indexrelid = to_regclass($1) and not indisvalid)", name).Scan(&invalid)
		if err == nil && invalid {
			run.say("dropping the invalid index %s that an interrupted creation has left", name)
			err = run.exec(ctx, drop)
		}
		if err == nil {
			err = run.exec(ctx, sql)
		}
		return struct{}{}, err
	}, func(err error) bool {
		tries++
		return tries < indexTries && cdc.FaultOf(err).Passing()
	})
	return err
}
