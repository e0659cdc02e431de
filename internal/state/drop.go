package state

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// DropQueue asks the bridge to drop the queue of an endpoint that was removed.
// ErrConflict: an endpoint of that name exists.
func (s *Store) DropQueue(ctx context.Context, actor, name string) error {
	return s.write(ctx, fmt.Sprintf("drop the queue of endpoint %q", name), func(tx pgx.Tx) error {
		// AddEndpoint changes the revision, too, and checks for drops only after
		// that: of the two, the later sees the earlier.
		if _, err := tx.Exec(ctx, `select from gancho.revision for update`); err != nil {
			return err
		}
		var exists bool
		if err := tx.QueryRow(ctx, `select exists (select from gancho.endpoints where name = $1)`, s.text.encode(name)).Scan(&exists); err != nil {
			return err
		}
		if exists {
			return ErrConflict
		}
		if _, err := tx.Exec(ctx, `insert into gancho.drops (name) values ($1) on conflict do nothing`, s.text.encode(name)); err != nil {
			return err
		}
		_, err := s.record(ctx, tx, Change{Actor: actor, Action: "queue.drop", Object: endpointObject(name)})
		return err
	})
}
