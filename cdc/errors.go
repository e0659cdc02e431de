package cdc

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

// ErrNoTable is wrapped by [LoadTable] when no relation has the name.
var ErrNoTable = errors.New("no such table")

// ErrStaleTypes is what a [Handler]'s Change returns, or wraps, to have the
// change again with its relation's types read anew: an enum's new label, or a
// new name of one, comes without a word in the stream.
var ErrStaleTypes = errors.New("the types of the table's columns are out of date")

// DecodeError is a message of the stream that could not be understood. It
// holds no row data.
type DecodeError struct {
	Message byte // the message's first byte, 0 when it has none
	LSN     LSN  // of the transaction at hand, or 0
	Reason  string
}

// Error implements error.
func (e *DecodeError) Error() string {
	return fmt.Sprintf("decode message %q of transaction %s: %s; this is a defect of gancho or of what stands between it and the server: report it with the server's version",
		e.Message, e.LSN, e.Reason)
}

// IdentityChangedError says that another server, or the same one on another
// timeline or taken back in time, answers where the slot was read before.
// Positions of the two do not compare.
type IdentityChangedError struct {
	Was, Is Identity
	// Confirmed and Current are set when the identity is the same but the
	// server's WAL ends before what it had sent and we confirmed.
	Confirmed, Current LSN
}

// Error implements error.
func (e *IdentityChangedError) Error() string {
	if e.Was == e.Is {
		return fmt.Sprintf("the source went back in time: its WAL ends at %s, but %s was read and confirmed before (a restored backup?); accept it as a new source, and its changes get a new epoch",
			e.Current, e.Confirmed)
	}
	return fmt.Sprintf("the source is another one: it was %s, now %s answers; accept the new one if that is meant, else correct source.dsn", e.Was, e.Is)
}

// Error codes of PostgreSQL that decide what the reader does:
// https://www.postgresql.org/docs/current/errcodes-appendix.html
const (
	codeInsufficientPrivilege = "42501"
	codeUndefinedObject       = "42704"
	codeUndefinedTable        = "42P01"
	codeObjectInUse           = "55006"
	codeWrongState            = "55000"
	codeLimitExceeded         = "53400"
	codeTooManyConnections    = "53300"
	codeCannotConnectNow      = "57P03"
	codeUndefinedFile         = "58P01"
	codeDuplicateObject       = "42710"
)

// code returns the SQLSTATE of a server's error, or "".
func code(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}
