package state

import (
	"context"

	"github.com/jackc/pgx/v5"

	"gancho/delivery/queue"
)

// RememberSource stores as whose the queue was claimed, should Redis lose that.
func (s *Store) RememberSource(ctx context.Context, c queue.Claimed) error {
	return s.write(ctx, "remember the source", func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `insert into gancho.sources (slot, system, database, timeline, epoch) values ($1, $2, $3, $4, $5)
			on conflict (slot) do update set system = excluded.system, database = excluded.database, timeline = excluded.timeline, epoch = excluded.epoch`,
			s.text.encode(c.Slot), c.SystemID, s.text.encode(c.Database), c.Timeline, int32(c.Epoch))
		return err
	})
}

// Source returns as whose the queue was claimed last through a slot; nil: it never was.
func (s *Store) Source(ctx context.Context, slot string) (*queue.Claimed, error) {
	found, err := collect(ctx, s, "read the source", `select system, database, timeline, epoch from gancho.sources where slot = $1`,
		[]any{s.text.encode(slot)}, func(row pgx.CollectableRow) (queue.Claimed, error) {
			c := queue.Claimed{Source: queue.Source{Slot: slot}}
			var epoch int32
			err := row.Scan(&c.SystemID, &c.Database, &c.Timeline, &epoch)
			c.Epoch = uint16(epoch)
			decodeIn(&c.Database)
			return c, err
		})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return &found[0], nil
}
