package state

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
)

// Limits are how many of each a tenant may have; 0: any number.
type Limits struct {
	Tokens int
	// Jobs are those that have not ended.
	Jobs int
	// Room returns an error if there is no room for an endpoint more, beside the stored
	// ones, of which it gets the tenants by name. It keeps the map. Nil: there is.
	Room func(stored map[string][]string) error
}

// ErrLimit says that the tenant has as many as Limits allow, or the endpoint endpoint.MaxKeys.
var ErrLimit = errors.New("there are as many as there may be")

// Within returns the store with limits on what it adds; it shares the connections.
func (s *Store) Within(l Limits) *Store {
	out := *s
	out.limits = l
	return &out
}

// checkLimit is ErrLimit when the query counts as many as the tenant may have. Until the
// transaction ends, no other one adds anything for the tenant, so that none adds too many.
func (s *Store) checkLimit(ctx context.Context, tx pgx.Tx, tenant string, most int, count string) error {
	if tenant == "" || most == 0 {
		return nil
	}
	tenant = s.text.encode(tenant)
	if _, err := tx.Exec(ctx, `select pg_advisory_xact_lock(hashtextextended('gancho tenant ' || $1, 0))`, tenant); err != nil {
		return err
	}
	var n int
	if err := tx.QueryRow(ctx, count, tenant).Scan(&n); err != nil {
		return err
	}
	if n >= most {
		return ErrLimit
	}
	return nil
}

// checkRoom is the error of Limits.Room. Until the transaction ends, no other one that checks
// the room adds an endpoint. The lock is none of rows: whoever removes or changes an endpoint
// locks those in another order.
func (s *Store) checkRoom(ctx context.Context, tx pgx.Tx) error {
	if s.limits.Room == nil {
		return nil
	}
	if err := lockRoom(ctx, tx); err != nil {
		return err
	}
	stored, err := endpointTenants(ctx, tx)
	if err != nil {
		return err
	}
	return s.limits.Room(stored)
}

func lockRoom(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `select pg_advisory_xact_lock(hashtextextended('gancho endpoints', 0))`)
	return err
}
