package doctor

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"gancho/cdc"
)

const atSource = "source"

// source looks at the source, and has the rules checked.
func (x *examination) source(ctx context.Context) {
	conn := x.connect(ctx)
	checking := make(chan []cdc.TableNeed, 1)
	go func() { checking <- x.check(ctx, conn != nil) }()
	if conn == nil {
		<-checking
		for _, id := range []string{"server.settings", "slot.reader", "identity.cost", "application.statements"} {
			x.skip(id, atSource, "the source was not reached")
		}
		return
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	e := &sourceExam{examination: x, conn: conn}
	e.all(ctx, e.server, e.settings, e.role, e.slot)
	tables := <-checking // which waits for the source, too
	e.hazards(ctx)
	var looks []func(context.Context, pgx.Tx) error
	for _, look := range []func(context.Context, pgx.Tx, []cdc.TableNeed) error{e.identities, e.largeRows, e.unused} {
		looks = append(looks, func(ctx context.Context, tx pgx.Tx) error { return look(ctx, tx, tables) })
	}
	e.all(ctx, looks...)
}

// all looks at one thing after the other, and goes on where one cannot be read.
func (e *sourceExam) all(ctx context.Context, looks ...func(context.Context, pgx.Tx) error) {
	ctx, cancel := context.WithTimeout(ctx, partTimeout)
	defer cancel()
	for _, look := range looks {
		if err := e.read(ctx, look); err != nil {
			e.add(cdc.Finding{ID: "source.unread", Severity: cdc.SeverityWarning, Where: atSource, Title: oneLine(err), Why: "what follows from it was not looked at"})
		}
		if e.conn.IsClosed() {
			return // all that is left would say the same
		}
	}
}

// check has the configuration and the rules checked, and returns the rules' tables.
func (x *examination) check(ctx context.Context, online bool) []cdc.TableNeed {
	if x.Check == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	found, tables := x.Check(ctx, online)
	x.checked(found, online)
	return tables
}

// checked adds the findings of the check, and what it has found to be in order.
func (x *examination) checked(found []cdc.Finding, online bool) {
	mistakes := slices.ContainsFunc(found, func(f cdc.Finding) bool { return f.Severity == cdc.SeverityProblem })
	x.add(found...)
	switch {
	case !online:
		x.skip("rules.valid", "rules", "the rules were not compared with the source")
	case !mistakes:
		x.say(cdc.SeverityOK, "rules.valid", "rules", "the configuration, the rules and what they need in the source are in order")
	}
}

// refused compares the source with what the queue knows of it.
func (x *examination) refused(ctx context.Context) {
	if x.Refused == nil {
		return
	}
	switch why, err := x.Refused(ctx); {
	case err != nil:
		x.skip("slot.refused", atSlot, "the source was not compared with what the queue knows of it: "+oneLine(err))
	case why == "":
		x.say(cdc.SeverityOK, "slot.refused", atSlot, "the source and the slot are those that were read before, or nothing was read yet")
	default:
		x.add(cdc.Finding{
			ID: "slot.refused", Severity: cdc.SeverityProblem, Where: atSlot, Title: "capture cannot go on: " + why,
			Why: "a bridge delivers what is queued and captures nothing", Remedy: "gancho recover --dry-run shows what is missing and what would be done; gancho recover --yes goes on",
		})
	}
}

// connect connects to the source; nil: it could not.
func (x *examination) connect(ctx context.Context) *pgx.Conn {
	if x.Source.DSN == "" {
		x.skip("source.reachable", "source.dsn", "source.dsn is not known")
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := cdc.Connect(ctx, x.Source.DSN)
	if err != nil {
		x.add(cdc.Finding{
			ID: "source.unreachable", Severity: cdc.SeverityProblem, Where: "source.dsn", Title: "the source cannot be reached: " + oneLine(err),
			Why: "nothing is captured", Remedy: "check source.dsn, and that its server runs and lets this machine in (pg_hba.conf)",
		})
		return nil
	}
	return conn
}

// sourceExam is the examination of a source that answers.
type sourceExam struct {
	*examination
	conn     *pgx.Conn
	version  int
	recovery bool              // it is a standby
	set      map[string]string // settings, in the units of pg_settings
	monitor  bool              // the role sees what other sessions do
	wal      walRate
}

// read calls f in a transaction that writes nothing and ends soon.
func (e *sourceExam) read(ctx context.Context, f func(context.Context, pgx.Tx) error) error {
	tx, err := e.conn.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
	if err != nil {
		return fmt.Errorf("read the source: %w", err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // nothing was written
	limits := fmt.Sprintf("set local statement_timeout = %d; set local lock_timeout = %d", statementTimeout.Milliseconds(), lockTimeout.Milliseconds())
	if _, err := tx.Exec(ctx, limits, pgx.QueryExecModeSimpleProtocol); err != nil {
		return fmt.Errorf("read the source: %w", err)
	}
	return f(ctx, tx)
}

// unnamed leaves no prepared statement in a session that a pooler may give to others.
const unnamed = pgx.QueryExecModeExec

// server looks at who answers, and at its clock.
func (e *sourceExam) server(ctx context.Context, tx pgx.Tx) error {
	var version, database, encoding string
	var pid uint32
	var now time.Time
	asked := time.Now()
	err := tx.QueryRow(ctx, `select current_setting('server_version_num'), current_database()::text, pg_catalog.getdatabaseencoding()::text, pg_catalog.pg_backend_pid(), pg_catalog.clock_timestamp(), pg_catalog.pg_is_in_recovery()`, unnamed).
		Scan(&version, &database, &encoding, &pid, &now, &e.recovery)
	if err != nil {
		return fmt.Errorf("ask the server who it is: %w", err)
	}
	ahead := now.Sub(asked.Add(time.Since(asked) / 2))
	if e.version, err = strconv.Atoi(version); err != nil {
		return fmt.Errorf("read server_version_num: %w", err)
	}
	e.say(cdc.SeverityOK, "source.reachable", "source.dsn", "PostgreSQL %d.%d answers; encoding %s", e.version/10000, e.version%10000, encoding)
	if pid != e.conn.PgConn().PID() {
		e.add(cdc.Finding{
			ID: "source.pooler", Severity: cdc.SeverityWarning, Where: "source.dsn", Title: "a pooler stands between Gancho and the source: another process answers than the one that greeted",
			Why:    "a slot can be read only through a pooler that passes replication connections on, and settings are made for each transaction",
			Remedy: "let source.dsn lead to the server itself; source.lookup_dsn and state.dsn may lead through the pooler",
		})
	} else {
		e.say(cdc.SeverityOK, "source.pooler", "source.dsn", "no pooler gives the session to others")
	}
	e.clock(atSource, "server.clock", "the source's server", ahead)
	return nil
}

// maxClock is the offset from which on people and receivers are misled.
const maxClock = 10 * time.Second

// clock compares a server's clock with this machine's.
func (x *examination) clock(where, id, whose string, ahead time.Duration) {
	title := fmt.Sprintf("the clock of %s is %s ahead of this machine's", whose, span(ahead.Abs()))
	if ahead < 0 {
		title = fmt.Sprintf("the clock of %s is %s behind this machine's", whose, span(ahead.Abs()))
	}
	if ahead.Abs() < maxClock {
		x.say(cdc.SeverityOK, id, where, "the clock of %s and this machine's agree", whose)
		return
	}
	x.add(cdc.Finding{
		ID: id, Severity: cdc.SeverityWarning, Where: where, Title: title,
		Why:    "receivers refuse signatures whose time is more than some minutes off, and ages and retries are told wrongly",
		Remedy: "have both follow NTP (timedatectl, chronyc tracking)",
	})
}

// role looks at what the role may see and do.
func (e *sourceExam) role(ctx context.Context, tx pgx.Tx) error {
	var name string
	var replicates, superuser bool
	err := tx.QueryRow(ctx, `select rolname::text, rolreplication or rolsuper, rolsuper, pg_catalog.pg_has_role(current_user, 'pg_read_all_stats', 'usage')
		from pg_catalog.pg_roles where rolname = current_user`, unnamed).Scan(&name, &replicates, &superuser, &e.monitor)
	if err != nil {
		return fmt.Errorf("read the role of source.dsn: %w", err)
	}
	e.monitor = e.monitor || superuser
	if replicates {
		e.say(cdc.SeverityOK, "role.replication", "source.dsn", "its role %s may replicate", name)
	}
	if e.monitor {
		e.say(cdc.SeverityOK, "role.statistics", "source.dsn", "its role %s sees what other sessions do", name)
		return nil
	}
	grant := fmt.Sprintf("GRANT pg_read_all_stats TO %s;", cdc.QuoteIdentifier(name))
	e.add(cdc.Finding{
		ID: "role.statistics", Severity: cdc.SeverityNote, Where: "source.dsn", Title: fmt.Sprintf("its role %s does not see since when other sessions run, nor their statements", name),
		Why:        "doctor names who holds the slot back by its process only; Gancho itself needs no such right",
		Statements: []cdc.Statement{{SQL: grant, Undo: strings.Replace(strings.Replace(grant, "GRANT", "REVOKE", 1), " TO ", " FROM ", 1)}}, Remedy: "if you want to see them here",
	})
	return nil
}
