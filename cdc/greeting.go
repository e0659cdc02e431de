package cdc

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// greeting is what a server says of itself to a replication connection when that was opened.
type greeting struct {
	streams bool // the connection streams from a slot for long: the server is to wait for its signs of life no longer than slotPatience
	chosen  bool // the DSN says how long that is

	senderTimeout time.Duration // the server's wal_sender_timeout, or that of the DSN; 0: never
	standbys      string        // synchronous_standby_names
	name          string        // application_name
	replica       bool
	started       string // when the server was started, in seconds; "": the role may not ask
}

// greetingName is that under which a connection keeps its greeting.
const greetingName = "greeting"

// greetingOf is that of a connection of connectReplication.
func greetingOf(pg *pgconn.PgConn) *greeting {
	g, _ := pg.CustomData()[greetingName].(*greeting)
	return g
}

// senderTimeout is an SQL expression: wal_sender_timeout in milliseconds. pg_settings, which has it as a number, makes all rows for one.
const senderTimeout = `(extract(epoch from pg_catalog.current_setting('wal_sender_timeout')::pg_catalog.interval) * 1000)::pg_catalog.int8`

// read reads the greeting, with one statement, which returns the values of other expressions, too; and has the server wait no longer than
// slotPatience for a session that streams.
func (g *greeting) read(ctx context.Context, pg *pgconn.PgConn, others []string) (values []string, err error) {
	patience := "null"
	if g.streams && !g.chosen {
		ms := slotPatience.Milliseconds()
		patience = fmt.Sprintf("case when %[1]s not between 1 and %[2]d then pg_catalog.set_config('wal_sender_timeout', '%[2]d', false) end", senderTimeout, ms)
	}
	columns := []string{
		senderTimeout, patience, "pg_catalog.current_setting('synchronous_standby_names')", "pg_catalog.current_setting('application_name')", "pg_catalog.pg_is_in_recovery()",
		"extract(epoch from pg_catalog.pg_postmaster_start_time())::text",
	}
	own := len(columns)
	columns = append(columns, others...)
	rows, err := ask(ctx, pg, "select "+strings.Join(columns, ", "))
	if SQLState(err) == codeInsufficientPrivilege { // a role that may not ask when it was started knows less
		columns[own-1] = "null"
		rows, err = ask(ctx, pg, "select "+strings.Join(columns, ", "))
	}
	if err != nil {
		return nil, err
	}
	row := rows[0]
	ms, err := strconv.ParseInt(row[0], 10, 64)
	if err != nil {
		return nil, fmt.Errorf("read wal_sender_timeout: %w", err)
	}
	g.senderTimeout, g.standbys, g.name, g.replica, g.started = time.Duration(ms)*time.Millisecond, row[2], row[3], row[4] == "t", row[5]
	pg.CustomData()[greetingName] = g
	return row[own:], nil
}

// timeouts are how long the server waits for a sign of life, and how long it does for this session.
func (g *greeting) timeouts() (server, session time.Duration) {
	server = g.senderTimeout
	if server == 0 {
		server = noSenderTimeout
	}
	if g.chosen || server <= slotPatience {
		return server, server
	}
	return server, slotPatience
}

// choosesTimeout reports whether the DSN says how long the server waits for a sign of life.
func choosesTimeout(config *pgconn.Config) bool {
	const name = "wal_sender_timeout"
	for parameter := range config.RuntimeParams {
		if strings.EqualFold(parameter, name) {
			return true
		}
	}
	return strings.Contains(strings.ReplaceAll(strings.ToLower(config.RuntimeParams["options"]), "-", "_"), name)
}
