package state

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// TailAge is how long after its end an attempt may be stored to be found by a [Tail]: in the log, older ones may come after newer ones
// for as long.
const TailAge = 15 * time.Second

// tailRows are the most that a Tail returns at once: the newest.
const tailRows = 10_000

// Tail reads what is added to the delivery log. It is for one goroutine.
type Tail struct {
	store *Store
	seen  string // snapshot of what it has read
}

// Tail returns one that begins with what is stored after its first Next.
func (s *Store) Tail() *Tail { return &Tail{store: s} }

// Next returns the attempts, the newest first, that were stored since the last call; the first call's are none. None comes twice, and none
// is left out because its process stored it late: what is new is said by the transactions that wrote the rows, not by their times.
// What is stored TailAge after its end is left to those who read the log itself.
func (t *Tail) Next(ctx context.Context) (found []Attempt, err error) {
	const what = "follow the delivery log"
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var now string
	var after int64 // how many numbers lie between the snapshot and what age counts from
	err = pgx.BeginTxFunc(ctx, t.store.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, `select now::text, age((pg_snapshot_xmax(now)::text::bigint % 4294967296)::text::xid) from pg_current_snapshot() now`).Scan(&now, &after); err != nil || t.seen == "" {
			return err
		}
		_, next, err := snapshotBounds(now)
		if err != nil {
			return err
		}
		oldest, _, err := snapshotBounds(t.seen)
		if err != nil {
			return err
		}
		// Most rows are sorted out by the age alone, which costs next to nothing. Of the rest, xmin is the lower half of a transaction's
		// number, which is below the next one's.
		rows, _ := tx.Query(ctx, `select `+attemptColumns+` from gancho.attempts
			where time > $1 and case when age(xmin) > $2 then false
				else not pg_visible_in_snapshot(($3 - (($3 - xmin::text::bigint) % 4294967296 + 4294967296) % 4294967296)::text::xid8, $4::text::pg_snapshot) end
			order by time desc limit $5`, time.Now().Add(-TailAge), min(next-oldest+after, math.MaxInt32), next, t.seen, tailRows)
		found, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (Attempt, error) {
			a, err := scanAttempt(row)
			a.ID = AttemptID(&a)
			return a, err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, explain(err))
	}
	t.seen = now
	return found, nil
}

// snapshotBounds are the first two parts of a snapshot, which PostgreSQL writes as xmin:xmax:list: the oldest transaction that it may not see,
// and the next one.
func snapshotBounds(snapshot string) (oldest, next int64, err error) {
	low, rest, _ := strings.Cut(snapshot, ":")
	high, _, _ := strings.Cut(rest, ":")
	if oldest, err = strconv.ParseInt(low, 10, 64); err == nil {
		next, err = strconv.ParseInt(high, 10, 64)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("read the snapshot %q: %w", snapshot, err)
	}
	return oldest, next, nil
}
