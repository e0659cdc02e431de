package state

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// daysAhead get their partitions before they begin, so that no write of the
	// log waits for one.
	daysAhead = 2
	// partitionLock is an advisory lock; its holder creates partitions:
	// "gancho-p" in ASCII.
	partitionLock = 0x67616e63686f2d70
	dayFormat     = "20060102"
	// minForget is how long people can see a job that has ended, whatever is kept.
	minForget = 7 * 24 * time.Hour
)

// partitionName is gancho.attempts_p20260131.
func partitionName(table string, day time.Time) string { return table + "_p" + day.Format(dayFormat) }

// ensureDays creates the missing partitions that rows of these times need: rows of
// any day can be written, also of one that Maintain has dropped.
func (s *Store) ensureDays(ctx context.Context, table string, times []time.Time) error {
	days := partitionsOf(table, times)
	if len(days) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	rows, _ := s.pool.Query(ctx, `select name from unnest($1::text[]) name where to_regclass(name) is null`, slices.Sorted(maps.Keys(days)))
	missing, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, name := range missing {
		err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			if err := lockPartitions(ctx, tx); err != nil {
				return err
			}
			return createPartition(ctx, tx, table, name, days[name])
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// keepDays is ensureDays within a transaction, until whose end none of the partitions is
// dropped. Nobody else creates any meanwhile.
func keepDays(ctx context.Context, tx pgx.Tx, table string, times []time.Time) error {
	err := lockPartitions(ctx, tx)
	if err == nil {
		_, err = tx.Exec(ctx, `lock table `+table+` in row exclusive mode`) // as an INSERT does: who drops a partition waits
	}
	days := partitionsOf(table, times)
	for _, name := range slices.Sorted(maps.Keys(days)) {
		if err != nil {
			return err
		}
		err = createPartition(ctx, tx, table, name, days[name])
	}
	return err
}

// partitionsOf are the days of the times, by the names of their partitions.
func partitionsOf(table string, times []time.Time) map[string]time.Time {
	days := map[string]time.Time{}
	for _, t := range times {
		day := t.UTC().Truncate(24 * time.Hour)
		days[partitionName(table, day)] = day
	}
	return days
}

// lockPartitions makes the transaction the only one that creates partitions.
func lockPartitions(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `select pg_advisory_xact_lock($1)`, int64(partitionLock))
	return err
}

// createPartition creates a table, if it does not exist, and attaches it: CREATE TABLE ...
// PARTITION OF would lock out all readers and writers of the log. lockPartitions comes before.
func createPartition(ctx context.Context, tx pgx.Tx, table, name string, day time.Time) error {
	// Not to_regclass: it may answer from a cache of before the lock.
	var exists bool
	err := tx.QueryRow(ctx, `select exists (select from pg_class where relnamespace = 'gancho'::regnamespace and 'gancho.' || relname = $1)`, name).Scan(&exists)
	if err != nil || exists {
		return err
	}
	const bound = "2006-01-02T15:04:05Z07:00"
	_, err = tx.Exec(ctx, fmt.Sprintf(`create table %[2]s (like %[1]s including all);
		alter table %[1]s attach partition %[2]s for values from ('%[3]s') to ('%[4]s')`,
		table, name, day.Format(bound), day.AddDate(0, 0, 1).Format(bound)))
	return err
}

// Maintain creates the partitions of the next days and drops those of days that
// ended longer ago than kept events and the log are kept (events by their commit,
// attempts by their own time; 0: nothing is kept). It deletes secrets and jobs
// that ended before the log's, a week ago at least. It may run in every process
// at any time.
func (s *Store) Maintain(ctx context.Context, keepEvents, keepLog time.Duration) error {
	now := time.Now()
	var ahead []time.Time
	for i := range daysAhead + 1 {
		ahead = append(ahead, now.AddDate(0, 0, i))
	}
	// The tables with a partition for each day, UTC.
	for table, keep := range map[string]time.Duration{attemptsTable: keepLog, eventsTable: keepEvents} {
		if err := s.ensureDays(ctx, table, ahead); err != nil {
			return fmt.Errorf("create partitions of %s: %w", table, explain(err))
		}
		if err := s.dropDays(ctx, table, now.Add(-keep)); err != nil {
			return fmt.Errorf("drop partitions of %s: %w", table, explain(err))
		}
	}
	return s.forget(ctx, now.Add(-max(keepLog, minForget)))
}

// dropDays drops the partitions of days that ended before a time.
func (s *Store) dropDays(ctx context.Context, table string, before time.Time) error {
	rows, _ := s.pool.Query(ctx, `select c.relname::text from pg_inherits i join pg_class c on c.oid = i.inhrelid
		where i.inhparent = to_regclass($1) order by 1`, table)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, name := range names {
		day, err := time.Parse(dayFormat, name[strings.LastIndex(name, "_p")+2:])
		if err != nil {
			continue // not our table: ours are named by their days
		}
		if day.AddDate(0, 0, 1).After(before) {
			continue
		}
		if err := s.dropDay(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// dropDay fails quickly while a long query reads the log: all writers would wait
// behind us. The next call tries again.
func (s *Store) dropDay(ctx context.Context, name string) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `set local lock_timeout = '2s'; drop table if exists gancho.`+pgx.Identifier{name}.Sanitize())
		return err
	})
}

// forget deletes old secrets and jobs. For secrets it checks first whether there
// are any: their trigger notifies every bridge, even when no row is deleted.
func (s *Store) forget(ctx context.Context, before time.Time) error {
	return s.write(ctx, "delete old secrets and jobs", func(tx pgx.Tx) error {
		var old bool
		if err := tx.QueryRow(ctx, `select exists (select from gancho.secrets where expires < $1)`, before).Scan(&old); err != nil {
			return err
		}
		if old {
			if _, err := tx.Exec(ctx, `delete from gancho.secrets where expires < $1`, before); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, `delete from gancho.jobs where finished < $1`, before)
		return err
	})
}
