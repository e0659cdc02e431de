package doctor

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"gancho/cdc"
	"gancho/mapping/expr"
)

// slotState is the slot with what bounds it.
type slotState struct {
	active, failover  bool
	pid               int64
	status            string
	held, unconfirmed int64 // bytes of WAL
	safe              *int64
	xminAge           int64 // transactions; of catalog_xmin
	standbys          int   // physical ones with a slot
	spills, spilled   int64 // transactions, bytes
}

const atSlot = "source.slot"

// slot looks at the slot, and at who holds it back. One that does not exist, or cannot be
// read any more, is the check's.
func (e *sourceExam) slot(ctx context.Context, tx pgx.Tx) error {
	s, err := e.readSlot(ctx, tx)
	if errors.Is(err, pgx.ErrNoRows) {
		e.skip("slot.reader", atSlot, fmt.Sprintf("slot %q does not exist", e.Source.Slot))
		return nil
	}
	if err != nil {
		return fmt.Errorf("read slot %q: %w", e.Source.Slot, err)
	}
	if s.status == "lost" {
		e.skip("slot.reader", atSlot, fmt.Sprintf("slot %q is lost", e.Source.Slot))
		return nil
	}
	e.reader(s)
	e.forecast(s)
	e.horizon(s)
	e.failover(s)
	e.spills(s)
	return e.holders(ctx, tx, s)
}

func (e *sourceExam) readSlot(ctx context.Context, tx pgx.Tx) (*slotState, error) {
	s := &slotState{}
	err := tx.QueryRow(ctx, `
		select active, coalesce(active_pid, 0)::int8, coalesce(wal_status, ''), greatest(pg_catalog.pg_wal_lsn_diff(now.lsn, restart_lsn), 0)::int8,
			greatest(pg_catalog.pg_wal_lsn_diff(now.lsn, confirmed_flush_lsn), 0)::int8, safe_wal_size, coalesce(pg_catalog.age(catalog_xmin), 0)::int8,
			coalesce((pg_catalog.to_jsonb(s)->>'failover')::bool, false),
			(select pg_catalog.count(*) from pg_catalog.pg_replication_slots where slot_type = 'physical' and active),
			coalesce(t.spill_txns, 0), coalesce(t.spill_bytes, 0)
		from pg_catalog.pg_replication_slots s
		left join pg_catalog.pg_stat_replication_slots t on t.slot_name = s.slot_name
		cross join (select case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_replay_lsn() else pg_catalog.pg_current_wal_lsn() end as lsn) now
		where s.slot_name = $1`, unnamed, e.Source.Slot).
		Scan(&s.active, &s.pid, &s.status, &s.held, &s.unconfirmed, &s.safe, &s.xminAge, &s.failover, &s.standbys, &s.spills, &s.spilled)
	return s, err
}

// reader says whether the slot is read, and confirmed.
func (e *sourceExam) reader(s *slotState) {
	f := cdc.Finding{ID: "slot.reader", Severity: cdc.SeverityOK, Where: atSlot, Title: fmt.Sprintf("slot %q is read by pid %d; %s of WAL held", e.Source.Slot, s.pid, Bytes(s.held))}
	switch {
	case s.active:
	case e.Visited && s.held <= e.LagWarning:
		f.Title = fmt.Sprintf("slot %q is read from time to time; %s of WAL held", e.Source.Slot, Bytes(s.held))
	default:
		f.Severity, f.Title = cdc.SeverityWarning, fmt.Sprintf("slot %q is read by no process, and holds %s of WAL", e.Source.Slot, Bytes(s.held))
		f.Why, f.Remedy = "nothing is captured, and the source keeps its WAL", "start gancho run; if it is not to run again: "+fmt.Sprintf("SELECT pg_drop_replication_slot(%s);", quoted(e.Source.Slot))
		if s.held > e.LagWarning {
			f.Severity = cdc.SeverityProblem
		}
	}
	e.add(f)
	f = cdc.Finding{ID: "slot.unconfirmed", Severity: cdc.SeverityOK, Where: atSlot, Title: fmt.Sprintf("%s of WAL are not confirmed", Bytes(s.unconfirmed))}
	if s.active && s.unconfirmed > e.LagWarning {
		f.Severity = cdc.SeverityWarning
		f.Why, f.Remedy = "the bridge reads the slot and does not confirm what it reads: Redis takes nothing, or a large transaction is being decoded", "see gancho status and its log"
	}
	e.add(f)
}

// The time until the slot is lost, below which it is a problem or a warning.
const (
	soonLost  = time.Hour
	lostToday = 24 * time.Hour
)

// forecast says when the server gives the slot up, if nobody reads it from now on.
func (e *sourceExam) forecast(s *slotState) {
	f := cdc.Finding{ID: "slot.forecast", Severity: cdc.SeverityOK, Where: atSlot}
	switch {
	case s.status == "unreserved":
		f.Severity, f.Title = cdc.SeverityProblem, "the slot holds more WAL than max_slot_wal_keep_size, and is lost at the next checkpoint"
		f.Why = "changes after its position can then no longer be read"
		f.Statements, f.Remedy = []cdc.Statement{cdc.AlterSystem("max_slot_wal_keep_size", "-1")}, "and SELECT pg_reload_conf(); at once, if the disk has room; then let the bridge catch up"
	case s.safe == nil:
		e.skip("slot.forecast", atSlot, "max_slot_wal_keep_size bounds nothing")
		return
	default:
		left, known := e.wal.lasts(max(*s.safe, 0))
		if !known {
			e.skip("slot.forecast", atSlot, "the rate of WAL is not known")
			return
		}
		f.Title = fmt.Sprintf("at %s, %s until max_slot_wal_keep_size if the slot is not read from now on", e.wal, span(left))
		switch stalled := !s.active && !e.Visited || s.unconfirmed > e.LagWarning; {
		case left < soonLost && stalled && !e.wal.brief(): // of a moment it is a warning
			f.Severity = cdc.SeverityProblem
		case left < soonLost || left < lostToday && stalled:
			f.Severity = cdc.SeverityWarning
		case left < lostToday:
			f.Severity = cdc.SeverityNote
		}
		if f.Severity != cdc.SeverityOK {
			f.Why, f.Remedy = "then the slot is lost, and the changes that were not read", "raise max_slot_wal_keep_size, if the disk has room"
		}
	}
	e.add(f)
}

// maxXminAge is how many transactions back the slot may keep dead rows of the catalogue.
const maxXminAge = 50_000_000

// horizon looks at how far the slot holds vacuum of the catalogue back.
func (e *sourceExam) horizon(s *slotState) {
	f := cdc.Finding{ID: "slot.catalog_xmin", Severity: cdc.SeverityOK, Where: atSlot, Title: fmt.Sprintf("its catalog_xmin is %d transactions old", s.xminAge)}
	if s.xminAge > maxXminAge {
		f.Severity = cdc.SeverityWarning
		f.Why, f.Remedy = "vacuum removes no dead rows of the catalogue that are younger, in all databases, and the server comes nearer to a wraparound", "let the bridge run, or drop the slot"
	}
	e.add(f)
}

// failover says what a promotion of a standby leaves of the slot.
func (e *sourceExam) failover(s *slotState) {
	switch {
	case s.standbys == 0:
	case e.version < 170000:
		e.add(cdc.Finding{
			ID: "slot.failover", Severity: cdc.SeverityNote, Where: atSlot, Title: "a standby that is promoted has no such slot: PostgreSQL synchronises slots from 17 on",
			Why: "changes between the promotion and the new slot make no events", Remedy: "after a promotion start gancho run --create --accept-source, and let the receivers compare",
		})
	case !s.failover:
		e.add(cdc.Finding{
			ID: "slot.failover", Severity: cdc.SeverityNote, Where: atSlot, Title: "the slot is not synchronised to the standbys (failover is off)",
			Why: "a standby that is promoted has no such slot", Remedy: "create it with failover => true when it is created next: " + fmt.Sprintf("SELECT pg_create_logical_replication_slot(%s, 'pgoutput', failover => true);", quoted(e.Source.Slot)),
		})
	default:
		e.say(cdc.SeverityOK, "slot.failover", atSlot, "the slot is synchronised to standbys that ask for it (failover is on)")
	}
}

// spills looks at the transactions that did not fit into memory while they were decoded.
func (e *sourceExam) spills(s *slotState) {
	if s.spills == 0 {
		e.say(cdc.SeverityOK, "slot.spill", atSlot, "no transaction was too large for logical_decoding_work_mem")
		return
	}
	e.add(cdc.Finding{
		ID: "slot.spill", Severity: cdc.SeverityNote, Where: atSlot, Title: fmt.Sprintf("%d transactions were too large for logical_decoding_work_mem: %s went through files of the source", s.spills, Bytes(s.spilled)),
		Why: "decoding them takes longer, and space on the disk", Statements: []cdc.Statement{cdc.AlterSystem("logical_decoding_work_mem", "256MB")}, Remedy: "and SELECT pg_reload_conf();, if this is often and the server has the memory",
	})
}

const (
	// longTransaction is the age from which on a transaction with a transaction id is told.
	longTransaction = 10 * time.Minute
	// heldByOthers is the WAL that a transaction may hold back before that.
	heldByOthers = 64 << 20
	// fewTransactions are fewer than a server is busy with in the seconds between two
	// horizons that it writes to the WAL.
	fewTransactions = 1000
)

// holders finds the transactions without whose end the slot cannot give its WAL free:
// restart_lsn stays where the oldest one began, and catalog_xmin at the horizon of its
// first snapshot, which is its own id or one below. So that one counts as the reason whose
// age comes near to catalog_xmin's; one of a moment ago on a busy server does not. pg_locks shows everybody the processes
// that have a transaction id.
func (e *sourceExam) holders(ctx context.Context, tx pgx.Tx, s *slotState) error {
	rows, _ := tx.Query(ctx, `
		select pid::int8, gid, who, application, age, seconds, coalesce(query, '') from (
			select l.pid, ''::text as gid, coalesce(a.usename::text, '') as who, coalesce(a.application_name, '') as application, pg_catalog.max(pg_catalog.age(l.transactionid))::int8 as age,
				coalesce(extract(epoch from pg_catalog.clock_timestamp() - a.xact_start)::float8, -1) as seconds, a.query
			from pg_catalog.pg_locks l left join pg_catalog.pg_stat_activity a on a.pid = l.pid
			where l.locktype = 'transactionid' and l.mode = 'ExclusiveLock' and l.granted and l.pid is not null
			group by l.pid, a.usename, a.application_name, a.xact_start, a.query
			union all
			select 0, gid, owner::text, database::text, pg_catalog.age(transaction), extract(epoch from pg_catalog.clock_timestamp() - prepared)::float8, '' from pg_catalog.pg_prepared_xacts
		) t order by age desc limit 5`, unnamed)
	var h holder
	oldest, found := true, false
	_, err := pgx.ForEachRow(rows, []any{&h.pid, &h.gid, &h.role, &h.application, &h.age, &h.seconds, &h.query}, func() error {
		long := h.seconds >= longTransaction.Seconds()
		began := 2*h.age >= s.xminAge || s.xminAge-h.age < fewTransactions
		holds := oldest && began && (long || s.held-s.unconfirmed > heldByOthers)
		oldest = false
		if long || holds {
			found = true
			e.add(h.finding(holds, s, e.monitor))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read who holds the slot back: %w", err)
	}
	if !found {
		e.say(cdc.SeverityOK, "slot.held", atSlot, "no transaction holds the slot back")
	}
	return nil
}

// holder is a transaction that has written something and has not ended.
type holder struct {
	pid               int64  // 0: it is prepared, under the name gid
	gid               string // of a prepared transaction
	role, application string
	age               int64 // transactions that began since
	seconds           float64
	query             string
}

func (h *holder) finding(holds bool, s *slotState, monitor bool) cdc.Finding {
	who := "pid " + strconv.FormatInt(h.pid, 10)
	if h.pid == 0 {
		who = "prepared transaction " + quoted(h.gid)
	}
	title := "the transaction of " + who
	if h.role != "" {
		title += ", role " + h.role
	}
	if h.application != "" {
		title += ", " + h.application
	}
	if h.seconds >= 0 {
		title += ", has been open for " + span(time.Duration(h.seconds*float64(time.Second)))
	} else {
		title += ", is open (since when is hidden from this role)"
	}
	if holds {
		title += fmt.Sprintf(" and holds restart_lsn and catalog_xmin of the slot: %s of WAL", Bytes(s.held))
	}
	if text := wordsOf(h.query); monitor && text != "" {
		title += "; its last statement: " + text
	}
	f := cdc.Finding{
		ID: "slot.held", Severity: cdc.SeverityWarning, Where: atSlot, Title: title,
		Why: "the slot keeps all WAL since that transaction began, and vacuum keeps dead rows of the catalogue, until it ends", Remedy: "after asking who it belongs to",
		Statements: []cdc.Statement{{SQL: fmt.Sprintf("SELECT pg_terminate_backend(%d);", h.pid), Why: "it rolls the transaction back"}},
	}
	if h.pid == 0 {
		f.Statements = []cdc.Statement{{SQL: fmt.Sprintf("ROLLBACK PREPARED %s;", quoted(h.gid)), Who: cdc.Who{Role: h.role}, Why: "or COMMIT PREPARED, in its database " + h.application}}
	}
	return f
}

// maxWords is how much of a statement is shown, in bytes.
const maxWords = 120

// wordsOf is a statement without its literals and comments, which may have row data.
func wordsOf(sql string) string {
	tokens, _ := expr.Tokens(sql) // of a statement that was cut off: those before the end
	var b strings.Builder
	for i := range tokens {
		text := tokens[i].Text
		switch {
		case text == "":
			continue
		case tokens[i].IsWord():
		case tokens[i].IsName():
			text = cdc.QuoteIdentifier(text)
		case !tokens[i].IsParameter() && strings.ContainsAny(text, "0123456789'\"$"):
			text = "?"
		}
		if b.Len()+len(text) > maxWords {
			b.WriteString(" ...")
			break
		}
		if b.Len() > 0 && text != "," && text != "." && text != ")" && !strings.HasSuffix(b.String(), ".") && !strings.HasSuffix(b.String(), "(") {
			b.WriteByte(' ')
		}
		b.WriteString(text)
	}
	return b.String()
}

func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
