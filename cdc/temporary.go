package cdc

import (
	"context"
	"fmt"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
)

// A temporary slot belongs to the connection that has created it, which alone can read it.
// The server drops it with the connection, also when the process is killed, so that it
// never holds WAL that nobody reads. With a lost connection the changes until the next
// slot are lost, too: Run ends, and does not pretend that it has seen everything.
// https://www.postgresql.org/docs/current/protocol-replication.html#PROTOCOL-REPLICATION-CREATE-REPLICATION-SLOT

// createTemporary creates the slot on the connection that is going to stream. The server
// waits for the transactions that are running; ending ctx ends the wait.
func (r *Reader) createTemporary(ctx context.Context, pg *pgconn.PgConn) error {
	r.options.Log.Info().Str("slot", r.options.Slot).Msg("creating a temporary slot, which waits for transactions that are running")
	_, err := pglogrepl.CreateReplicationSlot(ctx, pg, QuoteIdentifier(r.options.Slot), "pgoutput",
		pglogrepl.CreateReplicationSlotOptions{Temporary: true, Mode: pglogrepl.LogicalReplication, SnapshotAction: "NOEXPORT_SNAPSHOT"})
	if err != nil {
		return fmt.Errorf("create temporary slot %q: %w", r.options.Slot, err)
	}
	return nil
}

// explainTemporary says what to do about an error of a reader of a temporary slot.
func (r *Reader) explainTemporary(ctx context.Context, streamed bool, err error) error {
	switch SQLState(err) {
	case codeLimitExceeded:
		return fmt.Errorf("%w; all replication slots are in use: drop one that is unused (see pg_replication_slots), or raise max_replication_slots and restart the server", err)
	case codeTooManyConnections:
		return fmt.Errorf("%w; no replication connection is free: raise max_wal_senders, or end one that is unused (see pg_stat_replication)", err)
	}
	if streamed && !permanent(err) {
		return fmt.Errorf("the connection to the source was lost, and the temporary slot with it, so that later changes are not known: %w", err)
	}
	return r.explain(ctx, err)
}
