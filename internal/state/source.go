package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"github.com/jackc/pgx/v5"

	"gancho/delivery/queue"
)

// ruleNumbers are the rules' numbers by their epoch: a bridge of an older version may raise
// the epoch, and leaves the numbers as they are.
type ruleNumbers map[uint16]map[string]int

// RememberSource stores as whose the queue was claimed, should Redis lose that. What is
// stored of a later epoch stays, and so do the numbers of this one: another process may
// have claimed it since, and have numbered more rules.
func (s *Store) RememberSource(ctx context.Context, c queue.Claimed) error {
	return s.write(ctx, "remember the source", func(tx pgx.Tx) error {
		var text string
		err := tx.QueryRow(ctx, `select numbers::text from gancho.sources where slot = $1 for update`, s.text.encode(c.Slot)).Scan(&text)
		known := ruleNumbers{}
		switch {
		case errors.Is(err, pgx.ErrNoRows):
		case err != nil:
			return err
		default:
			if err := json.Unmarshal([]byte(text), &known); err != nil {
				return fmt.Errorf("read the rules' numbers: %w", err)
			}
		}
		all := map[string]int{}
		maps.Copy(all, known[c.Epoch])
		maps.Copy(all, c.Numbers)
		numbers, err := json.Marshal(ruleNumbers{c.Epoch: all})
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `insert into gancho.sources (slot, system, database, timeline, epoch, numbers) values ($1, $2, $3, $4, $5, $6::text::json)
			on conflict (slot) do update set system = excluded.system, database = excluded.database, timeline = excluded.timeline, epoch = excluded.epoch,
				numbers = excluded.numbers where sources.epoch <= excluded.epoch`,
			s.text.encode(c.Slot), c.SystemID, s.text.encode(c.Database), c.Timeline, int32(c.Epoch), string(asciiJSON(numbers)))
		return err
	})
}

// Source returns as whose the queue was claimed last through a slot; nil: it never was.
func (s *Store) Source(ctx context.Context, slot string) (*queue.Claimed, error) {
	found, err := collect(ctx, s, "read the source", `select system, database, timeline, epoch, numbers::text from gancho.sources where slot = $1`,
		[]any{s.text.encode(slot)}, func(row pgx.CollectableRow) (queue.Claimed, error) {
			c := queue.Claimed{Source: queue.Source{Slot: slot}}
			var epoch int32
			var text string
			if err := row.Scan(&c.SystemID, &c.Database, &c.Timeline, &epoch, &text); err != nil {
				return c, err
			}
			c.Epoch = uint16(epoch)
			decodeIn(&c.Database)
			var numbers ruleNumbers
			if err := json.Unmarshal([]byte(text), &numbers); err != nil {
				return c, fmt.Errorf("read the rules' numbers: %w", err)
			}
			c.Numbers = numbers[c.Epoch]
			return c, nil
		})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return &found[0], nil
}
