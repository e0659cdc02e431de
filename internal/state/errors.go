package state

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"gancho/cdc"
)

// Errors that the caller acts on.
var (
	// ErrNotFound: the row does not exist, or belongs to another tenant.
	ErrNotFound = errors.New("not found")
	// ErrConflict: the name is taken, or the row has changed since it was read.
	ErrConflict = errors.New("it was changed or taken meanwhile")
	// ErrSchema: the schema gancho is missing or older than this program.
	ErrSchema = errors.New("the schema gancho is missing or out of date; run gancho migrate")
	// ErrUnreachable: the database does not answer, or not now. Try again.
	ErrUnreachable = errors.New("the state database is unreachable")
	// ErrKeys: an endpoint is to be stored or read, and there is no key to encrypt it with.
	ErrKeys = errors.New("state.key is not set")
)

// explain wraps an error of the database in the one that the caller acts on.
func explain(err error) error {
	switch fault := cdc.FaultOf(err); {
	case err == nil, errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, pgx.ErrNoRows):
		return ErrNotFound
	case fault.Passing():
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	case fault == cdc.FaultSchema:
		return fmt.Errorf("%w: %w", ErrSchema, err)
	}
	return err
}

// isTaken reports whether a unique value exists already.
func isTaken(err error) bool { return cdc.SQLState(err) == cdc.CodeUniqueViolation }
