package state

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
)

// Limits are how many of each a tenant may have; 0: any number.
type Limits struct {
	// Endpoints are those that are stored for the tenant alone.
	Endpoints int
	Tokens    int
	// Jobs are those that have not ended.
	Jobs int
}

// ErrLimit: the tenant has as many as Limits allow, or the endpoint endpoint.MaxKeys.
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
