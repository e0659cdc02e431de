package cdc

import (
	"errors"
	"fmt"
)

// ErrDSN is a connection string that cannot be parsed. The string holds a
// password, and the parser's own error may quote it: neither is shown.
var ErrDSN = errors.New("this is not a PostgreSQL connection string; write postgres://user:password@host:5432/database")

// ErrNoTable is wrapped by [LoadTable] when no relation has the name.
var ErrNoTable = errors.New("the table does not exist")

// ErrStaleTypes is what a [Handler]'s Change returns, or wraps, to get the
// change again after its relation's types were reloaded: the stream does not
// report an enum's new or renamed label.
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
	return fmt.Sprintf("decode message %q of transaction %s: %s; this is a bug in gancho or in what stands between it and the server; report it with the server's version",
		e.Message, e.LSN, e.Reason)
}

// IdentityChangedError is another server, or the same one on another timeline or
// restored to an earlier time, where the slot was read before. Positions of the
// two do not compare.
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
	return fmt.Sprintf("the source is another server: it was %s, now %s answers; accept the new one if that is intended, else correct source.dsn", e.Was, e.Is)
}
