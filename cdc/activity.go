package cdc

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// ActivityWatch reads again and again, over one connection to any of a cluster's databases, what the
// cluster says of all of them, and of all slots. It is safe for concurrent use: the statements take turns.
type ActivityWatch struct{ reading }

// NewActivityWatch returns a watch of the cluster; nothing is opened yet.
func NewActivityWatch(dsn string) *ActivityWatch { return &ActivityWatch{newReading(dsn)} }

// Use has the cluster be asked at another DSN from now on, by its gauges, too. It waits for a statement in flight; the
// error is the context's.
func (w *ActivityWatch) Use(ctx context.Context, dsn string) error {
	select {
	case w.turn <- struct{}{}:
		defer func() { <-w.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if w.dsn == dsn {
		return nil
	}
	w.dsn = dsn
	if w.conn != nil {
		w.disconnect(ctx)
	}
	return nil
}

// Gauge returns a gauge of a slot of the cluster that has its connection together with the watch,
// which alone is to be closed.
func (w *ActivityWatch) Gauge(slot string) *SlotGauge { return &SlotGauge{&w.reading, slot} }

// Activity is how much was written to a cluster's databases.
type Activity struct {
	// Current is where the WAL ends that is on the server's disk; of a standby, that was replayed.
	Current LSN
	// Written counts, by the database, the rows that were written since the statistics were reset, those of the
	// catalogue included. Sessions report what they have written with a delay, of up to 10 seconds for one that
	// idles after its commit, and a crash of the server sets them back: they are a hint.
	// https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-DATABASE-VIEW
	Written map[string]int64
}

// Read reads how much was written until now, with one statement.
func (w *ActivityWatch) Read(ctx context.Context) (a Activity, err error) {
	err = w.read(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		a = Activity{Written: map[string]int64{}}
		rows, _ := conn.Query(ctx, `
			select case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_flush_lsn() end,
				datname::text, tup_inserted + tup_updated + tup_deleted
			from pg_catalog.pg_stat_database where datname is not null`)
		var name string
		var n int64
		_, err := pgx.ForEachRow(rows, []any{&a.Current, &name, &n}, func() error {
			a.Written[name] = n
			return nil
		})
		return err
	})
	if err != nil {
		return Activity{}, fmt.Errorf("read what was written to the databases: %w", err)
	}
	return a, nil
}

// HeldWAL returns how much WAL, in bytes, the server keeps for each of its logical slots, by the
// slots' names.
func (w *ActivityWatch) HeldWAL(ctx context.Context) (held map[string]int64, err error) {
	err = w.read(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		held = map[string]int64{}
		rows, _ := conn.Query(ctx, `
			select slot_name::text, greatest(pg_wal_lsn_diff(now.lsn, restart_lsn), 0)::int8
			from pg_catalog.pg_replication_slots
			cross join (select case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end as lsn) now
			where slot_type = 'logical' and restart_lsn is not null`)
		var slot string
		var n int64
		_, err := pgx.ForEachRow(rows, []any{&slot, &n}, func() error {
			held[slot] = n
			return nil
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read how much WAL the slots hold: %w", err)
	}
	return held, nil
}
