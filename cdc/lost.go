package cdc

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pglogrepl"
)

// Reasons of a [LostSlotError], as pg_replication_slots.invalidation_reason has them from
// PostgreSQL 17 on, idle_timeout from 18 on. The server of 16 says conflict of a standby's slot
// for both of the primary's reasons, and one before that removes such a slot's WAL status only.
const (
	SlotMissing         = "missing" // no such slot
	SlotWALRemoved      = "wal_removed"
	SlotRowsRemoved     = "rows_removed"
	SlotWALLevelLowered = "wal_level_insufficient"
	SlotIdle            = "idle_timeout"
	SlotConflict        = "conflict"
)

// LostSlotError is a slot that can no longer be read: what was committed after its position
// makes no changes any more.
type LostSlotError struct {
	Slot string
	// Reason is one of the Slot constants, or another one that a newer server has.
	Reason string
	// Cause is what the server refuses with; nil: its catalogue says so.
	Cause error
}

// Why says in words why the slot is lost.
func (e *LostSlotError) Why() string {
	why := map[string]string{
		SlotMissing:         "it does not exist: somebody has dropped it, or the server was restored or replaced",
		SlotWALRemoved:      "the server has removed WAL that it needs (see max_slot_wal_keep_size)",
		SlotRowsRemoved:     "the primary has removed rows of its catalogue that it needs (see hot_standby_feedback)",
		SlotWALLevelLowered: "wal_level was lowered on the primary",
		SlotIdle:            "nobody has read it for longer than idle_replication_slot_timeout",
		SlotConflict:        "the primary has removed rows of its catalogue that it needs (see hot_standby_feedback), or has lowered wal_level",
	}[e.Reason]
	if why == "" {
		why = "the server has invalidated it (" + e.Reason + ")"
	}
	return why
}

// Error implements error.
func (e *LostSlotError) Error() string {
	cause := ""
	if e.Cause != nil {
		cause = " (" + e.Cause.Error() + ")"
	}
	return fmt.Sprintf("slot %q can no longer be read: %s%s; changes after its position are lost to the stream; run gancho recover, which records the gap, makes a new slot, and says how to close it",
		e.Slot, e.Why(), cause)
}

// Unwrap returns the server's refusal.
func (e *LostSlotError) Unwrap() error { return e.Cause }

// SyncedSlotError is a standby's copy of its primary's slot, which nobody can read before a promotion.
type SyncedSlotError struct{ Slot string }

// Error implements error.
func (e *SyncedSlotError) Error() string {
	return fmt.Sprintf("slot %q is this standby's copy of its primary's slot, and can be read after the promotion; let source.dsn lead to the primary", e.Slot)
}

// lost says why the slot can no longer be read; nil: it can.
func (s *slotState) lost() *LostSlotError {
	if s.synced || s.status != "lost" && s.invalidation == "" && !s.conflicting {
		return nil
	}
	reason := s.invalidation
	switch {
	case reason != "":
	case s.conflicting:
		reason = SlotConflict
	default:
		reason = SlotWALRemoved
	}
	return &LostSlotError{Slot: s.name, Reason: reason}
}

// Inspection is a source and its slot as they are, without anything being changed.
type Inspection struct {
	Identity Identity
	// History is where the server left its former timelines; "" on the first.
	History History
	Current LSN // the end of its WAL
	// Lost is why the slot can no longer be read; nil: it can. The rest is of a slot that exists.
	Lost      *LostSlotError
	Confirmed LSN
	Active    bool // a process reads it
	// Synced: it is a standby's copy of its primary's slot, which can be read after a promotion.
	Synced bool
}

// Inspect looks at the source and its slot. It needs one of max_wal_senders for that time.
func Inspect(ctx context.Context, o Options) (*Inspection, error) {
	conn, err := Connect(ctx, o.DSN)
	if err != nil {
		return nil, fmt.Errorf("connect to the source: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var i Inspection
	s, err := readSlotState(ctx, conn, o.Slot)
	switch {
	case errors.Is(err, ErrNoSlot):
		i.Lost = &LostSlotError{Slot: o.Slot, Reason: SlotMissing}
	case err != nil:
		return nil, err
	default:
		i.Lost, i.Confirmed, i.Active, i.Synced = s.lost(), s.confirmed, s.active, s.synced
	}
	replication, err := connectReplication(ctx, o.DSN, o.Encoding, false)
	if err != nil {
		return nil, fmt.Errorf("open a replication connection to the source: %w", err)
	}
	defer func() { _ = replication.Close(context.WithoutCancel(ctx)) }()
	system, err := pglogrepl.IdentifySystem(ctx, replication)
	if err != nil {
		return nil, fmt.Errorf("identify the source: %w", err)
	}
	i.Identity, i.Current = identityOf(system, o.Slot), system.XLogPos
	i.History, err = readHistory(ctx, replication, system.Timeline)
	return &i, err
}
