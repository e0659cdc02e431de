package state

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Turn waits until a statement that may read very many rows may be carried out; end is to
// be called when it has been.
type Turn func(ctx context.Context) (end func(), err error)

// turnKey is the key of the Turn in a context.
type turnKey struct{}

// WithTurns returns a context in which each statement that may read very many rows waits
// for a turn of its own: others run between the statements of one request. In other
// contexts nothing waits.
func WithTurns(ctx context.Context, turn Turn) context.Context {
	return context.WithValue(ctx, turnKey{}, turn)
}

func waitForTurn(ctx context.Context) (end func(), err error) {
	turn, ok := ctx.Value(turnKey{}).(Turn)
	if !ok {
		return func() {}, nil
	}
	return turn(ctx)
}

// collectMany is collect of a query that may read very many rows.
func collectMany[T any](ctx context.Context, s *Store, what, sql string, args []any, scan pgx.RowToFunc[T]) ([]T, error) {
	end, err := waitForTurn(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	defer end()
	return collect(ctx, s, what, sql, args, scan)
}

// count returns the number that a query which may read very many rows selects.
func (s *Store) count(ctx context.Context, what, sql string, args []any) (int64, error) {
	n, err := collectMany(ctx, s, what, sql, args, pgx.RowTo[int64])
	if err != nil {
		return 0, err
	}
	return n[0], nil
}

// writeMany is write of a transaction that may read very many rows: it has no connection
// while it waits.
func (s *Store) writeMany(ctx context.Context, what string, f func(pgx.Tx) error) error {
	end, err := waitForTurn(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer end()
	return s.write(ctx, what, f)
}
