package cdc

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"gancho/internal/retry"
)

// LockedError is a table that another session has locked, so that something that reads it has
// waited in vain. It passes: see [Fault].
type LockedError struct {
	// Table is the zero Name when it is not known.
	Table Name
	// PID is that of the session, 0 when it is not known, as of a prepared transaction; Role
	// and Application are its own, and Since is when its transaction began, as far as the
	// role may see that.
	PID               int
	Role, Application string
	Since             time.Time

	err error // the server's
}

// Error says who has locked the table, and what to do.
func (e *LockedError) Error() string {
	what, who, end := "a table", "another session", "see pg_locks and pg_prepared_xacts"
	if e.Table != (Name{}) {
		what = "table " + e.Table.String()
	}
	if e.PID != 0 {
		who = fmt.Sprintf("session %d", e.PID)
		end = fmt.Sprintf("or run SELECT pg_terminate_backend(%d)", e.PID)
	}
	if e.Role != "" {
		who += " of role " + e.Role
	}
	if e.Application != "" {
		who += " (" + e.Application + ")"
	}
	since := ""
	if !e.Since.IsZero() {
		since = ", in a transaction that began at " + e.Since.UTC().Format(time.DateTime) + " UTC"
	}
	return fmt.Sprintf("%s has locked %s%s; it cannot be read before that transaction ends (%s)", who, what, since, end)
}

// Unwrap returns the server's error.
func (e *LockedError) Unwrap() error { return e.err }

// Locked returns the error of a statement that has waited for the lock of a table in vain as
// a [*LockedError], and others as they are. The session's transaction has ended. Which table it
// was the server does not say: the error names what one session alone can have caused, and
// nobody when several sessions have locked tables.
func Locked(ctx context.Context, conn *pgx.Conn, err error) error {
	return lockedBy(ctx, conn, "", 0, err)
}

// lockHolder is a session that keeps others out of a table.
type lockHolder struct {
	table             Name
	readable          bool // a statement may name it: it is no index, nor a table of the catalogue
	session           string
	pid               int
	role, application string
	since             *time.Time
}

// lockedBy is Locked for the table of an oid; 0: any.
func lockedBy(ctx context.Context, conn *pgx.Conn, encoding Encoding, oid uint32, err error) error {
	if SQLState(err) != CodeLockNotAvailable {
		return err
	}
	e := &LockedError{err: err}
	holders, asked := lockHolders(ctx, conn, encoding, oid)
	if asked != nil || len(holders) == 0 {
		return e // also when the lock is gone meanwhile
	}
	first := &holders[0]
	if slices.ContainsFunc(holders, func(h lockHolder) bool { return h.session != first.session }) {
		return e
	}
	if tables := slices.DeleteFunc(slices.Clone(holders), func(h lockHolder) bool { return !h.readable }); len(tables) == 1 {
		e.Table = tables[0].table
	}
	e.PID, e.Role, e.Application = first.pid, first.role, first.application
	if first.since != nil {
		e.Since = *first.since
	}
	return e
}

// lockHolders are the sessions that keep others out of the table of an oid, or out of any (0).
func lockHolders(ctx context.Context, conn *pgx.Conn, encoding Encoding, oid uint32) (all []lockHolder, err error) {
	// Whoever waits for such a lock keeps out those behind it, too. Nobody waits for a temporary
	// table, nor for one that is not committed yet, which pg_class does not have.
	rows, _ := conn.Query(ctx, `
		select distinct on (c.oid) `+encoding.SQL("n.nspname::text")+`, `+encoding.SQL("c.relname::text")+`,
			c.oid >= 16384 and c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname <> 'pg_toast', l.virtualtransaction, coalesce(l.pid, 0),
			coalesce(`+encoding.SQL("a.usename::text")+`, ''), coalesce(`+encoding.SQL("a.application_name")+`, ''), a.xact_start
		from pg_catalog.pg_locks l join pg_catalog.pg_class c on c.oid = l.relation join pg_catalog.pg_namespace n on n.oid = c.relnamespace
		left join pg_catalog.pg_stat_activity a on a.pid = l.pid
		where l.locktype = 'relation' and l.mode = 'AccessExclusiveLock' and l.pid is distinct from pg_catalog.pg_backend_pid()
			and l.database in (0, (select oid from pg_catalog.pg_database where datname = current_database()))
			and ($1 = 0::oid or c.oid = $1) and c.relpersistence <> 't'
		order by c.oid, l.granted desc`, oid) // ForEachRow returns its error
	var h lockHolder
	_, err = pgx.ForEachRow(rows, []any{&h.table.Schema, &h.table.Name, &h.readable, &h.session, &h.pid, &h.role, &h.application, &h.since}, func() error {
		all = append(all, h)
		return nil
	})
	return all, err
}

// loadFormulas reads the formulas of the generated columns. To print them, the server opens
// the table: it waits while the application has that to itself, as in an ALTER TABLE, and
// whoever comes behind us would wait, too. So we wait briefly, and say who has the table.
func loadFormulas(ctx context.Context, conn *pgx.Conn, encoding Encoding, t *Table) error {
	var column, formula string
	err := briefly(ctx, conn, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, `
			select `+encoding.SQL("a.attname::text")+`, `+encoding.SQL("pg_get_expr(d.adbin, d.adrelid)")+`
			from pg_catalog.pg_attribute a join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
			where a.attrelid = $1 and a.attgenerated <> '' and not a.attisdropped`, t.Relation.OID)
		_, err := pgx.ForEachRow(rows, []any{&column, &formula}, func() error {
			t.Generated[column] = formula
			return nil
		})
		return err
	})
	return lockedBy(ctx, conn, encoding, t.Relation.OID, err)
}

// lockTimeout is how long a statement that locks tables of the application waits for one of
// them, and lockTries how often it tries before the error.
const (
	lockTimeout = 500 * time.Millisecond
	lockTries   = 5
)

// LockPause is between two tries: what has queued behind the last one runs meanwhile.
var LockPause = retry.Backoff{Min: 500 * time.Millisecond, Max: 4 * time.Second}

// Briefly runs a statement that locks tables of the application. What conflicts with its lock
// queues behind a statement that waits, too, such as the application's own ALTER TABLE, and
// everything behind that: so it waits half a second, and again after a pause, five times in
// all; busy is called before each pause. check, unless it is nil, is called in the transaction
// of the statement, which its error takes back.
func Briefly(ctx context.Context, conn *pgx.Conn, statement string, check func(context.Context, *pgx.Conn) error, busy func(error)) error {
	statement = strings.TrimSuffix(strings.TrimPrefix(statement, "BEGIN; "), " COMMIT;") // it is one transaction here anyway
	tries := 0
	_, err := retry.Do(ctx, LockPause, func() (struct{}, error) {
		return struct{}{}, briefly(ctx, conn, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, statement)
			if err == nil && check != nil {
				err = check(ctx, conn)
			}
			return err
		})
	}, func(err error) bool {
		if tries++; SQLState(err) != CodeLockNotAvailable || tries == lockTries {
			return false
		}
		busy(err)
		return true
	})
	return err
}

// briefly runs a transaction that waits for no lock longer than lockTimeout.
func briefly(ctx context.Context, conn *pgx.Conn, do func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "select pg_catalog.set_config('lock_timeout', $1, true)", strconv.FormatInt(lockTimeout.Milliseconds(), 10))
		if err == nil {
			err = do(tx)
		}
		return err
	})
}
