package cdc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// ErrDSN is a connection string that cannot be parsed. The string holds a
// password, and the parser's own error may quote it: neither is shown.
var ErrDSN = errors.New("this is not a PostgreSQL connection string; write postgres://user:password@host:5432/database")

// ErrNoTable is wrapped by [LoadTable] when no relation has the name.
var ErrNoTable = errors.New("the table does not exist")

// ErrStaleTypes is what a [Handler]'s Change returns, or wraps, to get the
// change again after its relation's types were reloaded: the stream does not
// report an enum's new or renamed label, nor a composite type's fields.
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

// Fault is what an error of PostgreSQL, or of the connection to it, means for
// whoever asked. It is the one place that knows SQLSTATE codes; their list is
// https://www.postgresql.org/docs/current/errcodes-appendix.html.
type Fault uint8

const (
	// FaultOther is no error, or one that neither the server nor the network reports.
	FaultOther Fault = iota
	// FaultUnreachable: the network failed, or the server starts, stops or has no
	// resources left (classes 08, 53, 57). Whether a statement ran is unknown.
	FaultUnreachable
	// FaultTransient: the statement was undone, or refused, in favor of another
	// session (deadlock, serialization, lock, object in use), or by a standby that
	// is not promoted yet.
	FaultTransient
	// FaultTimeout: statement_timeout, a cancel request, or the caller's deadline
	// ended the statement.
	FaultTimeout
	// FaultDenied: the role lacks a privilege. Someone may grant it.
	FaultDenied
	// FaultSchema: the statement does not fit the schema (class 42 and a missing
	// schema): a table, column, type or function does not exist or has changed.
	FaultSchema
	// FaultValue: the values are refused, and will be again (classes 21, 22, 23,
	// and P0, an error that a function raises).
	FaultValue
	// FaultPermanent is any other refusal of the server. It lasts until someone
	// changes something: a password, a setting, a certificate, the slot.
	FaultPermanent
)

// Passing reports whether waiting may be all that is needed: the same attempt
// may succeed later although nobody changes anything.
func (f Fault) Passing() bool {
	return f == FaultUnreachable || f == FaultTransient || f == FaultTimeout
}

// Codes of single errors that callers tell apart within a Fault.
const (
	CodeUniqueViolation = "23505"
	CodeUndefinedTable  = "42P01"
	// CodeUndefinedObject is also a type, CodeUndefinedFunction an operator.
	CodeUndefinedObject   = "42704"
	CodeUndefinedColumn   = "42703"
	CodeSyntaxError       = "42601"
	CodeGrouping          = "42803"
	CodeUnsupported       = "0A000"
	CodeUndefinedFunction = "42883"
	CodeNotNullViolation  = "23502"
	CodeCheckViolation    = "23514" // also a row for which no partition exists
	// CodeReadOnly is a standby's, or a role's that may only read: it passes with a
	// failover, or never.
	CodeReadOnly = "25006"
	// CodeQueryCanceled: the statement took longer than statement_timeout, or somebody
	// has canceled it.
	CodeQueryCanceled = "57014"

	codeProtocolViolation     = "08P01"
	codeInsufficientPrivilege = "42501"
	codeUndefinedSchema       = "3F000"
	codeObjectInUse           = "55006"
	codeWrongState            = "55000"
	CodeLockNotAvailable      = "55P03"
	codeLimitExceeded         = "53400"
	codeTooManyConnections    = "53300"
	codeCannotConnectNow      = "57P03"
	codeUndefinedFile         = "58P01" // the WAL that a slot needs
	codeNotInRepertoire       = "22021" // bytes that are no text in the encoding
	codeUntranslatable        = "22P05" // a character that UTF-8 has no equivalent of
	codeLimit                 = "54000" // a message of more than 1 GB, as the next
	codeInternal              = "XX000"
)

// SQLState returns the code of a server's error, or "".
func SQLState(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}

// serverMessage is what the server says about an error: its message, the detail and the
// hint.
func serverMessage(err error) string {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return err.Error()
	}
	text := pg.Message
	for _, more := range []string{pg.Detail, pg.Hint} {
		if more != "" {
			text += " (" + strings.TrimSuffix(more, ".") + ")"
		}
	}
	return text
}

// FaultOf returns what the error means. The end of the caller's context is
// FaultTimeout for a deadline and FaultOther for a cancellation.
func FaultOf(err error) Fault {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code != "" {
		// A pooler has one code for all, which stands for a passing fault as a rule.
		if pg.Code == codeProtocolViolation && strings.HasPrefix(pg.Message, "unsupported startup parameter") {
			return FaultPermanent
		}
		return faultOfCode(pg.Code)
	}
	if errors.Is(err, context.Canceled) {
		return FaultOther
	}
	_, certificate := errors.AsType[*tls.CertificateVerificationError](err)
	_, setting := errors.AsType[*SettingError](err)
	if certificate || setting || errors.Is(err, ErrDSN) {
		return FaultPermanent
	}
	if _, running := errors.AsType[*RunningError](err); running {
		return FaultTransient
	}
	network, isNetwork := errors.AsType[net.Error](err)
	_, isConnect := errors.AsType[*pgconn.ConnectError](err)
	switch {
	case isConnect && strings.Contains(err.Error(), "server refused TLS connection"): // pgconn's, without a type
		return FaultPermanent
	case isConnect:
		return FaultUnreachable
	case isNetwork && network.Timeout():
		return FaultTimeout
	case isNetwork, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.Is(err, pgconn.ErrConnClosed):
		return FaultUnreachable
	}
	return FaultOther
}

func faultOfCode(code string) Fault {
	switch code {
	case CodeLockNotAvailable, codeObjectInUse:
		return FaultTransient
	case CodeQueryCanceled:
		return FaultTimeout
	case codeInsufficientPrivilege:
		return FaultDenied
	case codeUndefinedSchema:
		return FaultSchema
	}
	if len(code) != 5 {
		return FaultPermanent
	}
	switch code[:2] {
	case "08", "53", "57":
		return FaultUnreachable
	case "40":
		return FaultTransient
	case "42":
		return FaultSchema
	case "21", "22", "23", "P0":
		return FaultValue
	}
	return FaultPermanent
}
