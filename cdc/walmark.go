package cdc

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Mark is a position that is beyond every commit of the source whose time is a while, such as a minute, before At.
type Mark struct {
	LSN LSN
	At  time.Time // by the source's clock; zero: the server does not know, as a standby that has heard nothing of its primary
}

// Mark reads one. Of a standby it is what its primary had written when the standby heard of it last, or what it has
// replayed up to, where it has no WAL receiver or the role may not see it.
// https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-WAL-RECEIVER-VIEW
func (g *SlotGauge) Mark(ctx context.Context) (m Mark, err error) {
	err = g.read(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		var at *time.Time
		err := conn.QueryRow(ctx, `
			select case when not pg_is_in_recovery() then pg_current_wal_lsn() else coalesce(r.latest_end_lsn, pg_last_wal_replay_lsn()) end,
				case when not pg_is_in_recovery() then clock_timestamp() when r.latest_end_lsn is not null then r.latest_end_time
					else pg_last_xact_replay_timestamp() end
			from (values (1)) one left join pg_catalog.pg_stat_wal_receiver r on true`).Scan(&m.LSN, &at)
		if at != nil {
			m.At = *at
		}
		return err
	})
	if err != nil {
		return Mark{}, fmt.Errorf("read the source's position: %w", err)
	}
	return m, nil
}
