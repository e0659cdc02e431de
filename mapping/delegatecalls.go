package mapping

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// Which functions an expression that the source evaluates may call.

// checkVolatile refuses what an expression calls and would not be the same if it were
// evaluated again, or in another session.
func (b *binder) checkVolatile(ctx context.Context, l *lookup, in reads) error {
	functions, operators := in.called()
	rows, _ := b.conn.Query(ctx, `
		with called as (select p.* from pg_catalog.pg_proc p where p.oid = any($1) or p.oid in (select oprcode from pg_catalog.pg_operator where oid = any($2)))
		select p.proname::text, p.oid::regprocedure::text, p.oid < 16384, p.provolatile = 'v' from called p
		where p.provolatile = 'v' or p.oid < 16384 and (p.proname = any($3) or p.oid::regprocedure::text = any($4)
			or p.proname = 'age' and p.pronargs = 1 or p.proname ~ '^(has_.*_privilege|pg_has_role)$' and p.pronargs = 2)
		order by 2 limit 1`, functions, operators, sessionFunctions, zonedTime) // CollectRows returns its error
	type call struct {
		Name, Title       string
		BuiltIn, Volatile bool
	}
	calls, err := pgx.CollectRows(rows, pgx.RowToStructByPos[call])
	if err != nil {
		return fmt.Errorf("read what %s calls: %w", l.title(), err)
	}
	for _, f := range calls {
		at := mention(l.text, "", f.Name)
		switch {
		case f.Volatile && f.BuiltIn:
			b.mistake(l.value, at, "leave it out", "%s calls %s, which is volatile: each time that the change is read it has another value", l.title(), f.Title)
		case f.Volatile:
			b.mistake(l.value, at, fmt.Sprintf("if it writes nothing and depends on its arguments and on tables alone, run ALTER FUNCTION %s STABLE; or call it in a lookup", f.Title),
				"%s calls %s, which is volatile (pg_proc.provolatile)", l.title(), f.Title)
		case slices.Contains(zonedTime, f.Title):
			b.mistake(l.value, at, "use a time, or a timestamp with time zone", "%s calls %s, whose offset is that of the day of the query", l.title(), f.Title)
		case f.Name == "age":
			b.mistake(l.value, at, "write age(current_date, ...)", "%s calls %s, which counts to the day of the query", l.title(), f.Title)
		case slices.Contains([]string{"now", "transaction_timestamp", "statement_timestamp"}, f.Name):
			b.mistake(l.value, at, "write now(), which is the time of the commit", "%s calls %s, which is the time of the query", l.title(), f.Title)
		default:
			b.mistake(l.value, at, sessionHint, "%s calls %s, which tells of Gancho's own session", l.title(), f.Title)
		}
	}
	return nil
}

// sessionFunctions are PostgreSQL's own functions that are not volatile and depend on the
// session or the server, and zonedTime those that depend on the time: the offset of a time
// with time zone is that of the day of the query.
var (
	sessionFunctions = []string{
		"now", "transaction_timestamp", "statement_timestamp", "current_user", "session_user", "system_user", "getpgusername", "current_setting", "current_query",
		"inet_client_addr", "inet_client_port", "inet_server_addr", "inet_server_port", "pg_backend_pid", "pg_trigger_depth", "txid_current", "txid_current_if_assigned",
		"pg_current_xact_id", "pg_current_xact_id_if_assigned", "txid_current_snapshot", "pg_current_snapshot", "current_database", "current_schema", "current_schemas",
		"pg_postmaster_start_time", "pg_conf_load_time", "pg_my_temp_schema", "pg_is_other_temp_schema", "pg_client_encoding", "pg_show_all_settings", "pg_prepared_statement",
		"pg_cursor", "pg_listening_channels", "pg_timezone_abbrevs", "pg_timezone_names", "pg_get_replication_slots", "row_security_active", "mxid_age",
	}
	zonedTime = []string{"timetz(time without time zone)", "timezone(text,time with time zone)"}
)
