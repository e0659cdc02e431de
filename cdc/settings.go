package cdc

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// The settings of our sessions. They are made by set_config after the start of a
// session, and not by parameters of its start: poolers refuse those, or drop them
// without a word. A connection on which another process answers than the one that
// greeted us leads through a pooler, which may give the session to the
// application next. There nothing is set that outlasts a transaction: settings
// that only protect us are left as they are, and one that decides about results
// has to have its value already, or the connection is refused.

// sessionSettings are those of every session: nothing but Gancho itself ends or
// hides what we read, whatever the role's own are.
func sessionSettings() map[string]string {
	return map[string]string{
		"statement_timeout":                   "0",
		"lock_timeout":                        "0",
		"idle_session_timeout":                "0",
		"idle_in_transaction_session_timeout": "0",
		// The decoding of a large transaction is a transaction itself.
		"transaction_timeout": "0",
		// Row-level security raises an error instead of hiding rows.
		"row_security": "off",
	}
}

// catalogSettings are those of sessions that read the catalogue: the server compiles
// none of their statements, which takes seconds, and longer than they do. Names and the
// expressions of constraints, formulas and filters print in one form. A role whose
// transactions are read-only unless they say otherwise may run what it was told to.
func catalogSettings() map[string]string {
	return map[string]string{
		"jit":                   "off",
		"quote_all_identifiers": "off", "standard_conforming_strings": "on",
		"datestyle": "ISO", "intervalstyle": "postgres",
		"default_transaction_read_only": "off",
	}
}

// watchSettings are those of sessions that read the catalogue again and again. None of
// their statements opens a table of the application (see Encoding.memberships); if one
// did, it would not wait for as long as the application keeps the table to itself.
func watchSettings() map[string]string {
	settings := catalogSettings()
	settings["lock_timeout"] = "2s"
	return settings
}

// stableSettings are those of sessions whose statements are all our own.
func stableSettings() map[string]string {
	return map[string]string{"timezone": "UTC", "search_path": "", "client_min_messages": "warning"}
}

// catalogPath is the search_path of sessions whose statements are our own and find the
// names of others: theirs resolves along databasePath.
const catalogPath = "pg_catalog, pg_temp"

// DatabasePath is an SQL expression for sessions of [Connect], and for others: the
// schemas, as name[], in which the database's search_path finds a name, in order. The
// search_path of Connect's own has none in which others could create a function that
// our statements would call.
const DatabasePath = `coalesce(nullif(pg_catalog.current_setting('gancho.search_path', true), '')::pg_catalog.name[], pg_catalog.current_schemas(false))`

// Found is an SQL expression: the oid of the relation that a name, as an SQL
// expression, leads to along DatabasePath; null: none.
func Found(name string) string {
	return `(select found.oid from pg_catalog.unnest(` + DatabasePath + `) with ordinality listed(name, i)
		join pg_catalog.pg_namespace space on space.nspname = listed.name
		join pg_catalog.pg_class found on found.relnamespace = space.oid where found.relname = ` + name + ` order by listed.i limit 1)`
}

// leavePath sets the search_path of a session of our own to catalogPath, and remembers
// the one that it had. Behind a pooler it stays as it is.
func leavePath(ctx context.Context, conn *pgconn.PgConn) error {
	local := isShared(conn)
	_, err := ask(ctx, conn, "select pg_catalog.set_config('gancho.search_path', pg_catalog.current_schemas(false)::pg_catalog.text, "+local+")")
	if err == nil {
		_, err = ask(ctx, conn, "select pg_catalog.set_config('search_path', "+quoteLiteral(catalogPath)+", "+local+")")
	}
	if err != nil {
		return fmt.Errorf("make the session's settings: %w", err)
	}
	return nil
}

// roomSettings are those of sessions that run the SQL of rules, whatever the DSN has:
// it finds what is along the path, writes nothing, misses no row, and is split into
// literals and names as the rules were.
func roomSettings(path string) map[string]string {
	return map[string]string{
		"search_path": path, "row_security": "off",
		"default_transaction_read_only": "on", "transaction_read_only": "on",
		"standard_conforming_strings": "on",
		// Else an array cannot have a null among its elements.
		"array_nulls": "on",
	}
}

// valueSettings are the settings that reach the text of a value.
func valueSettings() map[string]string {
	return map[string]string{
		"datestyle":          "ISO",
		"intervalstyle":      "postgres",
		"extra_float_digits": "3",
		"timezone":           "UTC",
		"bytea_output":       "hex",
		// money prints with the symbol, separators and digits of its locale.
		"lc_monetary": "C",
		// Values of regclass, regtype and regproc are quoted by taste; the stream's
		// are qualified, too, because its search_path is empty.
		"quote_all_identifiers": "off",
	}
}

// protective are settings without which a session still does what it should.
var protective = []string{
	"statement_timeout", "lock_timeout", "idle_session_timeout", "idle_in_transaction_session_timeout", "transaction_timeout",
	"row_security", "search_path", "client_min_messages", "plan_cache_mode", "jit",
}

// newer are settings that not every supported server has.
var newer = []string{"idle_session_timeout", "transaction_timeout"}

// SettingError is a setting that does not have the value that a session needs.
type SettingError struct{ Name, Is, Want string }

// Error implements error.
func (e *SettingError) Error() string {
	return fmt.Sprintf("the setting %s is %q and has to be %q, and between gancho and the server is a pooler, through which it cannot be set; connect to the server itself, or run ALTER ROLE ... SET %s = %s for the role of the connection",
		e.Name, e.Is, e.Want, e.Name, quoteLiteral(e.Want))
}

// pin makes the settings in every session that config opens. Behind a pooler those that
// are protective, or in optional, are left as they are.
func pin(config *pgconn.Config, settings, optional map[string]string) {
	config.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		_, missed, err := makeSettings(ctx, conn, settings)
		if err != nil {
			return err
		}
		for _, m := range missed {
			if _, left := optional[m.Name]; !left && !slices.Contains(protective, m.Name) {
				return &m
			}
		}
		return nil
	}
}

// makeSettings makes the settings in a session of our own. A shared one is left
// as it is; missed are the settings that it would need.
func makeSettings(ctx context.Context, conn *pgconn.PgConn, settings map[string]string) (shared bool, missed []SettingError, err error) {
	// Where another process answers, the settings end with this statement.
	sql := settingsSQL(settings, isShared(conn))
	rows, err := ask(ctx, conn, sql)
	if err != nil {
		return false, nil, fmt.Errorf("make the session's settings: %w", err)
	}
	for _, row := range rows {
		shared = row[3] == "t"
		if shared && row[1] != row[2] {
			missed = append(missed, SettingError{Name: row[0], Is: row[1], Want: row[2]})
		}
	}
	return shared, missed, nil
}

// keepSettings makes the settings in a session that is our own, whoever stands
// between, and reads them back, with the greeting: a visit of one of hundreds of databases is little more than its
// connection, of which each statement costs the server a twentieth.
func keepSettings(ctx context.Context, conn *pgconn.PgConn, settings map[string]string, g *greeting) error {
	made, err := ask(ctx, conn, settingsSQL(settings, "false"))
	if err != nil {
		return fmt.Errorf("make the session's settings: %w", err)
	}
	names := make([]string, len(made))
	for i, row := range made {
		names[i] = "pg_catalog.current_setting(" + quoteLiteral(row[0]) + ")"
	}
	rest, err := g.read(ctx, conn, names)
	if err != nil {
		return fmt.Errorf("read the session's settings: %w", err)
	}
	for i, row := range made {
		if rest[i] != row[2] {
			return &SettingError{Name: row[0], Is: rest[i], Want: row[2]}
		}
	}
	return nil
}

// isShared is an SQL expression: another process answers than the one that greeted us.
// Like all that runs before the search_path is ours, it names no operator without its
// schema: others may have made one that comes first.
func isShared(conn *pgconn.PgConn) string {
	return fmt.Sprintf("pg_catalog.pg_backend_pid() operator(pg_catalog.<>) %d", conn.PID())
}

// settingsSQL makes the settings, for the transaction if the SQL expression local
// is true, and returns of each its name, its value before and after, and local.
func settingsSQL(settings map[string]string, local string) string {
	values := make([]string, 0, len(settings))
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		values = append(values, "("+quoteLiteral(name)+", "+quoteLiteral(settings[name])+")")
	}
	quoted := make([]string, len(newer))
	for i, name := range newer {
		quoted[i] = quoteLiteral(name)
	}
	return "select s.name, pg_catalog.current_setting(s.name), pg_catalog.set_config(s.name, s.value, " + local + "), " + local +
		" from (values " + strings.Join(values, ", ") + ") s(name, value)" +
		" where s.name operator(pg_catalog.<>) all (array[" + strings.Join(quoted, ", ") + "]) or pg_catalog.current_setting(s.name, true) is not null"
}

// ask runs one statement over the simple protocol, the only one of a replication
// connection, and returns its rows; null is "".
func ask(ctx context.Context, conn *pgconn.PgConn, sql string) ([][]string, error) {
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, err
	}
	var out [][]string
	for _, row := range results[0].Rows {
		texts := make([]string, len(row))
		for i, v := range row {
			texts[i] = string(v)
		}
		out = append(out, texts)
	}
	return out, nil
}
