package cdc

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// findSlot checks the replication slot, or notes that it is missing.
func (p *preparation) findSlot(ctx context.Context) error {
	var plugin, kind, database, status *string
	var temporary, twoPhase bool
	var confirmed *LSN
	err := p.conn.QueryRow(ctx, `
		select plugin::text, slot_type, database::text, temporary, two_phase, confirmed_flush_lsn, wal_status
		from pg_catalog.pg_replication_slots where slot_name = $1`, p.Slot).
		Scan(&plugin, &kind, &database, &temporary, &twoPhase, &confirmed, &status)
	if errors.Is(err, pgx.ErrNoRows) {
		p.newSlot = true
		return nil
	}
	if err != nil {
		return fmt.Errorf("read slot %q: %w", p.Slot, err)
	}
	switch {
	case text(kind) != "logical" || text(plugin) != "pgoutput" || temporary:
		p.setup.addf("slot %q is there, but is not a lasting logical slot of pgoutput; choose another name for source.slot", p.Slot)
	case twoPhase:
		p.setup.addf("slot %q has two_phase on, which sends transactions before they commit; choose another name for source.slot", p.Slot)
	case p.source.Identity.Database != "" && text(database) != p.source.Identity.Database:
		p.setup.addf("slot %q belongs to database %s, not to %s; choose another name for source.slot",
			p.Slot, QuoteIdentifier(text(database)), QuoteIdentifier(p.source.Identity.Database))
	case text(status) == "lost":
		p.setup.addf("%s", lostSlot(p.Slot))
	case confirmed != nil:
		p.source.ConfirmedFlush = *confirmed
	}
	return nil
}

func lostSlot(slot string) string {
	return fmt.Sprintf("slot %q has lost WAL that it needs (see max_slot_wal_keep_size): changes after its position are gone; run SELECT pg_drop_replication_slot(%s), make the slot anew, and send the rows of the time between with gancho backfill",
		slot, quoteLiteral(slot))
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// createSlot makes the slot after the publications: pgoutput looks publications
// up as they were at each change, so that a slot older than its publication
// cannot be read.
func (p *preparation) createSlot(ctx context.Context) error {
	statement := fmt.Sprintf("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", quoteLiteral(p.Slot))
	if !p.Create || len(p.setup.Problems) > 0 {
		p.setup.addf("slot %q does not exist", p.Slot)
		p.setup.Statements = append(p.setup.Statements, statement)
		return nil
	}
	p.Log.Info().Str("slot", p.Slot).Msg("creating the slot, which waits for transactions that are running")
	err := p.conn.QueryRow(ctx, `select lsn from pg_create_logical_replication_slot($1, 'pgoutput')`, p.Slot).Scan(&p.source.ConfirmedFlush)
	switch code(err) {
	case codeLimitExceeded:
		p.setup.addf("all replication slots are in use; drop one that is unused (see pg_replication_slots), or raise max_replication_slots and restart the server")
		return nil
	case codeInsufficientPrivilege:
		p.setup.addf("the role may not make a replication slot; run ALTER ROLE %s REPLICATION, or let a superuser run the SQL", roleOf(p.DSN))
		p.setup.Statements = append(p.setup.Statements, statement)
		return nil
	}
	if err != nil {
		return fmt.Errorf("create slot %q: %w", p.Slot, err)
	}
	p.source.SlotCreated = true
	return nil
}

// SlotStats is how far a slot lags behind its server.
type SlotStats struct {
	// Active: a process reads the slot; its server process is PID.
	Active bool
	PID    int
	// Current is the server's position, ConfirmedFlush and Restart the slot's.
	Current, ConfirmedFlush, Restart LSN
	// HeldBytes is the WAL that the server keeps for the slot.
	HeldBytes int64
	// UnconfirmedBytes is the WAL written since the confirmed position, of all
	// databases and tables.
	UnconfirmedBytes int64
	// WALStatus is reserved, extended, unreserved or lost.
	WALStatus string
	// SafeWALSize is how many bytes may still be written before the slot is in
	// danger of being lost; nil where max_slot_wal_keep_size sets no limit.
	SafeWALSize *int64
}

// ErrNoSlot is wrapped by [Lag] when the slot does not exist.
var ErrNoSlot = errors.New("no such slot")

// Lag reads the slot's statistics over an ordinary connection.
func Lag(ctx context.Context, conn *pgx.Conn, slot string) (SlotStats, error) {
	var s SlotStats
	var pid *int
	var confirmed, restart *LSN
	var status *string
	err := conn.QueryRow(ctx, `
		select active, active_pid, now.lsn, confirmed_flush_lsn, restart_lsn,
			greatest(pg_wal_lsn_diff(now.lsn, restart_lsn), 0)::int8, greatest(pg_wal_lsn_diff(now.lsn, confirmed_flush_lsn), 0)::int8,
			wal_status, safe_wal_size
		from pg_catalog.pg_replication_slots
		cross join (select case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end as lsn) now
		where slot_name = $1`, slot).
		Scan(&s.Active, &pid, &s.Current, &confirmed, &restart, &s.HeldBytes, &s.UnconfirmedBytes, &status, &s.SafeWALSize)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNoSlot
	}
	if err != nil {
		return SlotStats{}, fmt.Errorf("read lag of slot %q: %w", slot, err)
	}
	if pid != nil {
		s.PID = *pid
	}
	if confirmed != nil {
		s.ConfirmedFlush = *confirmed
	}
	if restart != nil {
		s.Restart = *restart
	}
	s.WALStatus = text(status)
	return s, nil
}
