package cdc

import (
	"context"
	"fmt"
)

// Advance confirms a position to the server after the reader has ended: what
// became durable only during shutdown. Without it the next start would read that
// again, perhaps with rules that do not fit the tables as they were then. lsn is
// a [Transaction]'s End or a Keepalive's.
func Advance(ctx context.Context, o Options, lsn LSN) error {
	conn, err := Connect(ctx, o.DSN)
	if err != nil {
		return fmt.Errorf("advance slot %q: %w", o.Slot, err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	// A slot never goes back, and the function refuses to take it there.
	_, err = conn.Exec(ctx, `
		select pg_replication_slot_advance(slot_name, $2::pg_lsn) from pg_catalog.pg_replication_slots
		where slot_name = $1 and confirmed_flush_lsn < $2::pg_lsn`, o.Slot, lsn.String())
	if err != nil {
		return fmt.Errorf("advance slot %q: %w", o.Slot, err)
	}
	return nil
}
