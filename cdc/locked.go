package cdc

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
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
// a [*LockedError], and others as they are. The session's transaction has ended. Any table
// of the application that is locked now may be the one.
func Locked(ctx context.Context, conn *pgx.Conn, err error) error {
	return lockedBy(ctx, conn, "", 0, err)
}

// lockedBy is Locked for the table of an oid; 0: any.
func lockedBy(ctx context.Context, conn *pgx.Conn, encoding Encoding, oid uint32, err error) error {
	if SQLState(err) != codeLockNotAvailable {
		return err
	}
	e := &LockedError{err: err}
	var since *time.Time
	// Whoever waits for such a lock keeps out those behind it, too.
	asked := conn.QueryRow(ctx, `
		select `+encoding.sql("n.nspname::text")+`, `+encoding.sql("c.relname::text")+`, coalesce(l.pid, 0),
			coalesce(`+encoding.sql("a.usename::text")+`, ''), coalesce(`+encoding.sql("a.application_name")+`, ''), a.xact_start
		from pg_catalog.pg_locks l join pg_catalog.pg_class c on c.oid = l.relation join pg_catalog.pg_namespace n on n.oid = c.relnamespace
		left join pg_catalog.pg_stat_activity a on a.pid = l.pid
		where l.locktype = 'relation' and l.mode = 'AccessExclusiveLock' and l.pid is distinct from pg_catalog.pg_backend_pid()
			and l.database = (select oid from pg_catalog.pg_database where datname = current_database())
			and case when $1 = 0::oid then c.oid >= 16384 and c.relkind in ('r', 'p') else c.oid = $1 end
		order by l.granted desc, c.oid limit 1`, oid).Scan(&e.Table.Schema, &e.Table.Name, &e.PID, &e.Role, &e.Application, &since)
	if asked == nil && since != nil {
		e.Since = *since
	}
	return e // also when the lock is gone meanwhile
}

// loadFormulas reads the formulas of the generated columns. To print them, the server opens
// the table: it waits while the application has that to itself, as in an ALTER TABLE, and
// whoever comes behind us would wait, too. So we wait briefly, and say who has the table.
func loadFormulas(ctx context.Context, conn *pgx.Conn, encoding Encoding, t *Table) error {
	var column, formula string
	err := briefly(ctx, conn, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, `
			select `+encoding.sql("a.attname::text")+`, `+encoding.sql("pg_get_expr(d.adbin, d.adrelid)")+`
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
