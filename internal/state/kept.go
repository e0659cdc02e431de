package state

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// KeptIDs calls yield with the webhook-ids of the kept events that a filter chooses, in the order of their
// commits, without holding them; it ends with yield's first error.
func (s *Store) KeptIDs(ctx context.Context, f Filter, yield func(webhookID string) error) error {
	const what = "read the ids of kept events"
	end, err := waitForTurn(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer end()
	w, err := s.where(ctx, &f, eventsTable)
	if err != nil {
		return err
	}
	rows, _ := s.pool.Query(ctx, `select webhook_id from `+eventsTable+w.sql()+` order by committed, webhook_id`, w.args...) // ForEachRow returns its error
	var id string
	var refused error
	_, err = pgx.ForEachRow(rows, []any{&id}, func() error {
		refused = yield(decode(id))
		return refused
	})
	if err != nil && refused == nil {
		return fmt.Errorf("%s: %w", what, explain(err))
	}
	return refused
}
