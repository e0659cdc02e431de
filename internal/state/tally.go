package state

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"gancho/delivery/queue"
)

// Fates returns what became of the events that an endpoint was given in intervals of queue.TallyInterval
// from one to before another, as far as they had overflowed; the rest is counted in the queue.
func (o *Overflow) Fates(ctx context.Context, endpoint string, from, to int64) (map[queue.EventKey]int64, error) {
	out := map[queue.EventKey]int64{}
	_, err := collect(ctx, o.store, "read what was counted of overflowed events",
		`select "interval", epoch, rule, fate, n from gancho.overflow_tallies where endpoint = $1 and "interval" >= $2 and "interval" < $3`,
		[]any{o.row(endpoint), from, to}, func(row pgx.CollectableRow) (struct{}, error) {
			var key queue.EventKey
			var n int64
			err := row.Scan(&key.Interval, &key.Epoch, &key.Rule, &key.Fate, &n)
			out[key] = n
			return struct{}{}, err
		})
	return out, err
}

// Waiting counts the overflowed events of an endpoint that wait.
func (o *Overflow) Waiting(ctx context.Context, endpoint string) (map[queue.RuleKey]int64, error) {
	out := map[queue.RuleKey]int64{}
	_, err := collect(ctx, o.store, "count overflowed events",
		`select `+tallyOfPosition+`, count(*) from gancho.overflow where endpoint = $1 group by 1, 2, 3`,
		[]any{o.row(endpoint)}, func(row pgx.CollectableRow) (struct{}, error) {
			var key queue.RuleKey
			var n int64
			err := row.Scan(&key.Interval, &key.Epoch, &key.Rule, &n)
			out[key] = n
			return struct{}{}, err
		})
	return out, err
}

// ExpireTallies deletes counts of overflowed events whose intervals began before a time.
func (s *Store) ExpireTallies(ctx context.Context, before time.Time) error {
	return s.write(ctx, "delete old counts", func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `delete from gancho.overflow_tallies where "interval" < $1`, before.Unix()/int64(queue.TallyInterval/time.Second))
		return err
	})
}
