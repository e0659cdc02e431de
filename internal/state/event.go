package state

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const eventColumns = `committed, webhook_id, event, tenant, key, sequence, version, data, previous, unchanged`

// WriteEvents keeps events for resends. Those that are there already stay as
// they are, so writing twice is harmless.
func (s *Store) WriteEvents(ctx context.Context, events []KeptEvent) error {
	days := make([]time.Time, len(events))
	for i := range events {
		days[i] = events[i].Time
	}
	return s.copyIn(ctx, eventsTable, eventColumns, days, len(events), func(i int) []any {
		e, enc := &events[i], s.text.encode
		return []any{
			e.Time, enc(e.ID), enc(e.Type), enc(e.Tenant), enc(e.Key), enc(e.Sequence), enc(e.Version), body(e.Data), e.Previous, e.Unchanged,
		}
	})
}

// body is never null: an event without data has none in the queue either.
func body(data []byte) []byte {
	if data == nil {
		return []byte{}
	}
	return data
}

// CountEvents counts the kept events that a filter chooses.
func (s *Store) CountEvents(ctx context.Context, f Filter) (int64, error) {
	return s.count(ctx, eventsTable, &f)
}

func (s *Store) count(ctx context.Context, table string, f *Filter) (int64, error) {
	w, err := s.where(ctx, f, table)
	if err != nil {
		return 0, err
	}
	var n int64
	if err := s.pool.QueryRow(ctx, `select count(*) from `+table+w.sql(), w.args...).Scan(&n); err != nil {
		return 0, fmt.Errorf("count %s: %w", table, explain(err))
	}
	return n, nil
}

// scanEvent reads a row of eventColumns; the message is a replay.
func scanEvent(row pgx.CollectableRow) (KeptEvent, error) {
	var e KeptEvent
	err := row.Scan(&e.Time, &e.ID, &e.Type, &e.Tenant, &e.Key, &e.Sequence, &e.Version, &e.Data, &e.Previous, &e.Unchanged)
	e.Time, e.Replay = e.Time.UTC(), true
	decodeIn(&e.ID, &e.Type, &e.Tenant, &e.Key, &e.Sequence, &e.Version)
	return e, err
}
