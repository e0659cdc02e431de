package state

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// free is the condition of dead letters that no job sends, nor may still be sending. A job
// that has ended keeps its name on them.
const free = `(job is null or not exists (select from gancho.jobs where jobs.id = job and (state in ('queued', 'running') or ` + letsGo + `)))`

// Expiring returns how many dead letters had their last attempt before a time, and the
// highest of their IDs. Those that a redrive sends do not count.
func (s *Store) Expiring(ctx context.Context, before time.Time) (last, n int64, err error) {
	type found struct{ Last, N int64 }
	f, err := collectOne(ctx, s, "count old dead letters", `select coalesce(max(id), 0), count(*) from gancho.dead_letters where last < $1 and `+free,
		[]any{before}, pgx.RowToStructByPos[found])
	return f.Last, f.N, err
}

// ExpireDead deletes the dead letters up to an ID whose last attempt was before a time, in
// transactions of some thousands, and writes to the audit log how many. It returns
// their number, with an error that of those before it.
func (s *Store) ExpireDead(ctx context.Context, last int64, before time.Time) (total int64, err error) {
	for n := int64(dropChunk); n == dropChunk; {
		err := s.write(ctx, "delete old dead letters", func(tx pgx.Tx) error {
			done, err := tx.Exec(ctx, fmt.Sprintf(`delete from gancho.dead_letters where id in (
				select id from gancho.dead_letters where id <= $1 and last < $2 and %s order by id limit %d)`, free, dropChunk), last, before)
			if n = done.RowsAffected(); err != nil || n == 0 {
				return err
			}
			return s.record(ctx, tx, &Change{Actor: "bridge", Action: "dead.expire", Object: "dead"}, facts{"deleted": n, "last_attempt_before": before.UTC()}, nil)
		})
		if err != nil {
			return total, err
		}
		total += n
	}
	return total, nil
}
