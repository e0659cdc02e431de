package cdc

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
)

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
	CodeCheckViolation  = "23514" // also a row for which no partition exists

	codeInsufficientPrivilege = "42501"
	codeUndefinedObject       = "42704"
	codeUndefinedSchema       = "3F000"
	codeObjectInUse           = "55006"
	codeWrongState            = "55000"
	codeLockNotAvailable      = "55P03"
	codeReadOnlyTransaction   = "25006"
	codeLimitExceeded         = "53400"
	codeTooManyConnections    = "53300"
	codeCannotConnectNow      = "57P03"
	codeQueryCanceled         = "57014"
	codeUndefinedFile         = "58P01" // the WAL that a slot needs
)

// SQLState returns the code of a server's error, or "".
func SQLState(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}

// FaultOf returns what the error means. The end of the caller's context is
// FaultTimeout for a deadline and FaultOther for a cancellation.
func FaultOf(err error) Fault {
	if code := SQLState(err); code != "" {
		return faultOfCode(code)
	}
	if errors.Is(err, context.Canceled) {
		return FaultOther
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return FaultPermanent
	}
	network, isNetwork := errors.AsType[net.Error](err)
	_, isConnect := errors.AsType[*pgconn.ConnectError](err)
	switch {
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
	case codeReadOnlyTransaction, codeLockNotAvailable, codeObjectInUse:
		return FaultTransient
	case codeQueryCanceled:
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
