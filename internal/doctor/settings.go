package doctor

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"gancho/cdc"
)

// watched are the settings that decide about the slot, by their names in pg_settings.
var watched = []string{
	"wal_level", "max_replication_slots", "max_wal_senders", "wal_sender_timeout", "max_slot_wal_keep_size",
	"idle_replication_slot_timeout", "logical_decoding_work_mem", "synchronous_standby_names", "hot_standby_feedback",
}

// walRate is how fast the server writes WAL.
type walRate struct {
	perSecond float64   // bytes; 0: not known
	since     time.Time // it is the mean since then
	what      string    // happened then
}

// settings looks at the server's settings, and measures how fast it writes WAL.
func (e *sourceExam) settings(ctx context.Context, tx pgx.Tx) error {
	e.set = map[string]string{}
	rows, _ := tx.Query(ctx, `select name, setting from pg_catalog.pg_settings where name = any($1)`, unnamed, watched)
	var name, setting string
	if _, err := pgx.ForEachRow(rows, []any{&name, &setting}, func() error { e.set[name] = setting; return nil }); err != nil {
		return fmt.Errorf("read settings: %w", err)
	}
	var slots, senders, standbys int
	err := tx.QueryRow(ctx, `select (select count(*) from pg_catalog.pg_replication_slots), (select count(*) from pg_catalog.pg_stat_get_wal_senders()),
		(select count(*) from pg_catalog.pg_replication_slots where slot_type = 'physical' and active)`, unnamed).Scan(&slots, &senders, &standbys)
	if err != nil {
		return fmt.Errorf("count slots: %w", err)
	}
	if e.set["wal_level"] == "logical" {
		e.say(cdc.SeverityOK, "server.wal_level", atSource, "wal_level is logical")
	}
	e.room("server.slots", "max_replication_slots", "replication slots", slots)
	e.room("server.senders", "max_wal_senders", "WAL senders", senders)
	if err := e.measureWAL(ctx, tx); err != nil {
		return err
	}
	e.timeouts()
	e.budget()
	e.synchronous(standbys)
	return nil
}

// number is a setting as one; 0 where the server has none of the name.
func (e *sourceExam) number(name string) int64 {
	n, _ := strconv.ParseInt(e.set[name], 10, 64)
	return n
}

// room says how much of a number of places is taken.
func (e *sourceExam) room(id, setting, what string, used int) {
	most := e.number(setting)
	if needed := int64(e.Slots); id == "server.slots" && most < needed {
		e.add(cdc.Finding{
			ID: id, Severity: cdc.SeverityProblem, Where: atSource, Title: fmt.Sprintf("the server has room for %d replication slots (max_replication_slots), and the sources need %d", most, needed),
			Why:        "the sources that find no place are not read",
			Statements: []cdc.Statement{cdc.AlterSystem(setting, strconv.FormatInt(needed+10, 10))}, Remedy: "and restart the server",
		})
		return
	}
	if int64(used) < most {
		e.say(cdc.SeverityOK, id, atSource, "%d of %d %s are used", used, most, what)
		return
	}
	e.add(cdc.Finding{
		ID: id, Severity: cdc.SeverityWarning, Where: atSource, Title: fmt.Sprintf("all %d %s are used (%s)", most, what, setting),
		Why:        "a second bridge, a standby or a base backup finds no place, nor does Gancho itself if its own is given away",
		Statements: []cdc.Statement{cdc.AlterSystem(setting, strconv.FormatInt(most+5, 10))}, Remedy: "and restart the server",
	})
}

// measureWAL takes the higher of the mean since the last checkpoint and that since the
// statistics began: a forecast should rather be too short.
func (e *sourceExam) measureWAL(ctx context.Context, tx pgx.Tx) error {
	if e.recovery {
		return nil // it writes none
	}
	var bytes, recent float64
	var reset, checkpoint time.Time
	var allowed bool
	err := tx.QueryRow(ctx, `select wal_bytes::float8, stats_reset, pg_catalog.has_function_privilege('pg_catalog.pg_control_checkpoint()', 'execute') from pg_catalog.pg_stat_wal`, unnamed).Scan(&bytes, &reset, &allowed)
	if err != nil {
		return fmt.Errorf("read pg_stat_wal: %w", err)
	}
	e.wal = walRate{perSecond: bytes / math.Max(time.Since(reset).Seconds(), 1), since: reset, what: "the statistics began"}
	if !allowed {
		return nil
	}
	err = tx.QueryRow(ctx, `select pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), checkpoint_lsn)::float8, checkpoint_time from pg_catalog.pg_control_checkpoint()`, unnamed).Scan(&recent, &checkpoint)
	if err != nil {
		return fmt.Errorf("read the last checkpoint: %w", err)
	}
	// A checkpoint of a moment ago says nothing.
	if age := time.Since(checkpoint).Seconds(); age > 60 && recent/age > e.wal.perSecond {
		e.wal = walRate{perSecond: recent / age, since: checkpoint, what: "the last checkpoint"}
	}
	return nil
}

// shortBase is the time below which a mean is of a moment: a load, or the pause before one, may be all that there was.
const shortBase = time.Hour

// brief reports whether the rate is of a moment.
func (w walRate) brief() bool { return time.Since(w.since) < shortBase }

// String is the rate, and of when it is.
func (w walRate) String() string {
	if w.brief() {
		return fmt.Sprintf("%s of WAL a day (of the last %s only, since %s)", Bytes(int64(w.perSecond*86400)), span(max(time.Since(w.since), time.Second)), w.what)
	}
	return fmt.Sprintf("%s of WAL a day (the mean since %s, at %s)", Bytes(int64(w.perSecond*86400)), w.what, w.since.UTC().Format("2006-01-02 15:04"))
}

// lasts is how long the server takes to write so many bytes of WAL; false: not known.
func (w walRate) lasts(bytes int64) (time.Duration, bool) {
	if w.perSecond <= 0 {
		return 0, false
	}
	seconds := math.Min(float64(bytes)/w.perSecond, math.MaxInt32)
	return time.Duration(seconds) * time.Second, true
}

// minSenderTimeout is the shortest wal_sender_timeout that a pause of a busy machine, or
// of a collector, does not pass.
const minSenderTimeout = 10 * time.Second

func (e *sourceExam) timeouts() {
	timeout := time.Duration(e.number("wal_sender_timeout")) * time.Millisecond
	f := cdc.Finding{ID: "server.wal_sender_timeout", Severity: cdc.SeverityOK, Where: atSource, Title: "wal_sender_timeout is " + span(timeout)}
	switch {
	case timeout == 0:
		f.Severity, f.Title = cdc.SeverityNote, "wal_sender_timeout is 0, which is never"
		f.Why = "a bridge whose machine has vanished keeps the slot until TCP gives up, and no other can take over before that"
		f.Statements, f.Remedy = []cdc.Statement{cdc.AlterSystem("wal_sender_timeout", "60s")}, "and SELECT pg_reload_conf();"
	case timeout < minSenderTimeout:
		f.Severity, f.Why = cdc.SeverityWarning, "a pause of that length ends the stream, which then begins again"
		f.Statements, f.Remedy = []cdc.Statement{cdc.AlterSystem("wal_sender_timeout", "60s")}, "and SELECT pg_reload_conf();"
	}
	e.add(f)
	if idle, known := e.set["idle_replication_slot_timeout"]; known {
		e.idleTimeout(idle)
	}
	memory := e.number("logical_decoding_work_mem") << 10
	e.say(cdc.SeverityOK, "server.logical_decoding_work_mem", atSource, "logical_decoding_work_mem is %s: larger transactions are decoded from files", Bytes(memory))
}

// idleTimeout: from 18 on, a slot that nobody reads for so long is invalidated.
func (e *sourceExam) idleTimeout(text string) {
	seconds, _ := strconv.ParseInt(text, 10, 64)
	f := cdc.Finding{ID: "server.idle_replication_slot_timeout", Severity: cdc.SeverityOK, Where: atSource, Title: "idle_replication_slot_timeout is 0: a bridge may be stopped for long without losing its slot"}
	if limit := time.Duration(seconds) * time.Second; limit > 0 {
		f.Severity, f.Title = cdc.SeverityNote, "idle_replication_slot_timeout is "+span(limit)
		f.Why = "a bridge that is stopped for longer loses its slot, and the changes made meanwhile"
		if limit < 24*time.Hour {
			f.Severity = cdc.SeverityWarning
			f.Statements, f.Remedy = []cdc.Statement{cdc.AlterSystem("idle_replication_slot_timeout", "0")}, "and SELECT pg_reload_conf();, if max_slot_wal_keep_size bounds the WAL"
		}
	}
	e.add(f)
}

// budget looks at what bounds the WAL that the slot holds.
func (e *sourceExam) budget() {
	f := cdc.Finding{ID: "server.max_slot_wal_keep_size", Severity: cdc.SeverityOK, Where: atSource}
	limit := e.number("max_slot_wal_keep_size") // in MB
	if limit >= 0 {
		f.Title = fmt.Sprintf("max_slot_wal_keep_size is %s: a slot is given up before it holds more", Bytes(limit<<20))
		e.add(f)
		return
	}
	f.Severity, f.Title = cdc.SeverityWarning, "max_slot_wal_keep_size is -1: nothing bounds the WAL that a slot holds"
	f.Why = "a bridge that is stopped, or a Redis that takes nothing, fills the disk of the source"
	days := 10.0 // GB
	if e.wal.perSecond > 0 {
		f.Why += ", at " + e.wal.String()
		days = math.Max(days, math.Ceil(e.wal.perSecond*3*86400/1e9))
	}
	f.Statements = []cdc.Statement{cdc.AlterSystem("max_slot_wal_keep_size", fmt.Sprintf("%.0fGB", days))}
	f.Remedy = "and SELECT pg_reload_conf();, with less than the disk has to spare"
	e.add(f)
}

// synchronous looks at the standbys: those that commits wait for, and those that take over.
func (e *sourceExam) synchronous(standbys int) {
	if names := e.set["synchronous_standby_names"]; names == "" {
		e.say(cdc.SeverityOK, "server.synchronous", atSource, "no commit waits for a standby")
	} else {
		e.say(cdc.SeverityNote, "server.synchronous", atSource, "commits wait for the standbys of synchronous_standby_names; Gancho takes a name that is not among them")
	}
	switch {
	case e.recovery && e.set["hot_standby_feedback"] != "on":
		e.add(cdc.Finding{
			ID: "server.standby", Severity: cdc.SeverityWarning, Where: atSource, Title: "the source is a standby, and its hot_standby_feedback is off",
			Why:        "the primary may remove rows of the catalogue that the slot needs, which invalidates it",
			Statements: []cdc.Statement{cdc.AlterSystem("hot_standby_feedback", "on")}, Remedy: "on the standby, and SELECT pg_reload_conf();",
		})
	case e.recovery:
		e.say(cdc.SeverityNote, "server.standby", atSource, "the source is a standby, with hot_standby_feedback on")
	case standbys > 0:
		e.say(cdc.SeverityOK, "server.standby", atSource, "the source is a primary with %d physical standbys that have a slot", standbys)
	default:
		e.say(cdc.SeverityOK, "server.standby", atSource, "the source is a primary, without physical standbys that have a slot")
	}
}
