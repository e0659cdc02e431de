package state

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"gancho/cdc"
)

// copyIn writes n rows to a table by COPY, except those that exist. Because COPY
// itself cannot skip rows, it goes to a temporary table, which the session
// keeps. days are the times that decide about the rows' partitions; nil: the
// table has none.
func (s *Store) copyIn(ctx context.Context, name, columns string, days []time.Time, n int, row func(int) []any) error {
	if n == 0 {
		return nil
	}
	what := "write " + strings.TrimPrefix(name, "gancho.")
	for try := 1; ; try++ {
		if err := s.ensureDays(ctx, name, days); err != nil {
			return fmt.Errorf("%s: %w", what, explain(err))
		}
		err := s.write(ctx, what, func(tx pgx.Tx) error { return copyOnce(ctx, tx, name, columns, n, row) })
		// Maintain, in another process, may drop an old day between the two.
		if try == maxCopies || cdc.SQLState(err) != cdc.CodeCheckViolation {
			return err
		}
	}
}

const maxCopies = 3

func copyOnce(ctx context.Context, tx pgx.Tx, name, columns string, n int, row func(int) []any) error {
	stage := "gancho_" + strings.TrimPrefix(name, "gancho.")
	_, err := tx.Exec(ctx, fmt.Sprintf(`create temporary table if not exists %s on commit delete rows as select %s from %s with no data`, stage, columns, name))
	if err != nil {
		return err
	}
	_, err = tx.CopyFrom(ctx, pgx.Identifier{"pg_temp", stage}, strings.Split(columns, ", "),
		pgx.CopyFromSlice(n, func(i int) ([]any, error) { return row(i), nil }))
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, fmt.Sprintf(`insert into %[1]s (%[2]s) select %[2]s from pg_temp.%[3]s on conflict do nothing`, name, columns, stage))
	return err
}
