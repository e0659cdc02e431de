package state

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ErrKeys is for an endpoint that is to be stored or read without a key to encrypt it with.
var ErrKeys = errors.New("state.key is not set")

// explain sorts an error of the database into those that the caller acts on.
func explain(err error) error {
	var reply *pgconn.PgError
	switch {
	case err == nil, errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, pgx.ErrNoRows):
		return ErrNotFound
	case errors.As(err, &reply):
		switch {
		case passing(reply.Code):
			return fmt.Errorf("%w: %w", ErrUnreachable, err)
		case missing(reply.Code):
			return fmt.Errorf("%w: %w", ErrSchema, err)
		}
		return err
	}
	var connect *pgconn.ConnectError
	var network net.Error
	if errors.As(err, &connect) || errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, context.DeadlineExceeded) || closed(err) {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return err
}

// closed: pgx has no type for the error of a connection that another goroutine
// has found dead.
func closed(err error) bool { return strings.Contains(err.Error(), "conn closed") }

// passing reports whether a server's refusal may be gone at the next try:
// https://www.postgresql.org/docs/current/errcodes-appendix.html
func passing(code string) bool {
	switch code {
	case "25006", // read_only_sql_transaction: a standby, or a failover in progress
		"40001", "40P01", // serialization_failure, deadlock_detected
		"55P03": // lock_not_available
		return true
	}
	// Connection exceptions, insufficient resources, operator intervention: shutdown, start, timeouts.
	return strings.HasPrefix(code, "08") || strings.HasPrefix(code, "53") || strings.HasPrefix(code, "57")
}

// missing reports whether the schema is not what this program expects:
// undefined table, column, function or schema.
func missing(code string) bool {
	return code == "42P01" || code == "42703" || code == "42883" || code == "3F000"
}

// taken reports whether a unique value is there already.
func taken(err error) bool {
	var reply *pgconn.PgError
	return errors.As(err, &reply) && reply.Code == "23505"
}
