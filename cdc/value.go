package cdc

import (
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
)

// LSN is a position in PostgreSQL's write-ahead log, in bytes.
type LSN = pglogrepl.LSN

// ParseLSN reads a position as PostgreSQL prints it, such as 0/3212DE1.
func ParseLSN(text string) (LSN, error) {
	lsn, err := pglogrepl.ParseLSN(text)
	if err != nil || lsn.String() != strings.ToUpper(text) {
		return 0, fmt.Errorf("%q is no position in the WAL; write it as PostgreSQL does, such as 0/3212DE1", text)
	}
	return lsn, nil
}

// Position identifies one row change forever: the LSN in the Begin message of
// its transaction (FinalLSN, the position of the commit record) and the
// change's number within the transaction, counted from 0 over all row changes
// before any rule or filter. The LSN of a single change is neither unique nor
// monotonic and is never used.
type Position struct {
	Commit  LSN
	Ordinal uint64
}

// Op is what happened to a row.
type Op uint8

// The operations of the stream. A TRUNCATE is one change per table, without rows.
const (
	Insert Op = iota + 1
	Update
	Delete
	Truncate
	// Read is a row that was there already, as [Reader.DecodeRows] has it: no operation of the
	// application's, as those that follow.
	Read
	// Timer is a row that was read when a timer was due.
	Timer
	// Schedule is a row of a query that ran at its time.
	Schedule
)

// Streamed reports whether the stream has the operation: a statement of the application's made it.
func (o Op) Streamed() bool { return o < Read }

// String returns the operation as the rule files spell it.
func (o Op) String() string {
	if o < Insert || o > Schedule {
		return "unknown"
	}
	return [...]string{Insert: "insert", Update: "update", Delete: "delete", Truncate: "truncate", Read: "read", Timer: "timer", Schedule: "schedule"}[o]
}

// State is what the stream says about one column of a row.
type State uint8

const (
	// Missing: the column was not sent, because it is outside the replica
	// identity. Its value is unknown, which is not null.
	Missing State = iota
	// Null is SQL's null.
	Null
	// Present: Datum.Text holds the value.
	Present
	// Unchanged: an out-of-line (TOAST) value that the update did not touch
	// and that the server did not send. Its value is unknown, which is not null.
	Unchanged
	// Invalid: Datum.Text holds bytes that are no text in Options.Encoding.
	Invalid
)

// Datum is one column's value in PostgreSQL's text form. Text is exact: the
// session fixes datestyle, intervalstyle, extra_float_digits, timezone (UTC),
// bytea_output and client_encoding (UTF8; or Options.Encoding converts). Text aliases the reader's buffer
// and is valid only until the handler returns.
type Datum struct {
	State State
	Text  []byte
}

// Known reports whether the value is known: present or null.
func (d Datum) Known() bool { return d.State == Present || d.State == Null }

// Sent reports whether the server sent the value, be it text or not.
func (d Datum) Sent() bool { return d.Known() || d.State == Invalid }

// Transaction is one committed transaction of the source.
type Transaction struct {
	// Commit is the LSN in the Begin message (FinalLSN): the identity of the transaction.
	Commit LSN
	// End is the LSN after the commit record, what is confirmed to the server.
	// It is known only at the commit.
	End LSN
	// Time is the commit timestamp, in UTC, microsecond precision.
	Time time.Time
	XID  uint32
}

// Change is one row change. It and everything it refers to, except Relation,
// belong to the reader and are valid only until the handler returns.
type Change struct {
	Position
	Tx       *Transaction
	Op       Op
	Relation *Relation
	// New has one datum per column of Relation after an insert or update,
	// else it is nil. Under REPLICA IDENTITY FULL an unchanged TOAST value
	// has already been filled in from the old row.
	New []Datum
	// Old has one datum per column of Relation when the server sent the old
	// row (or its identity columns, the rest Missing), else it is nil.
	Old []Datum
}

// Handler receives what the reader reads. Its methods are called from one
// goroutine, in the order of the stream, and may block: the reader then stops
// reading and keeps the connection alive. An error of any method ends
// [Reader.Run] with it.
type Handler interface {
	// Begin opens a transaction. The pointer stays the same until its Commit;
	// End is not set yet.
	Begin(*Transaction) error
	// Change is one row change of the open transaction. When it returns
	// [ErrStaleTypes], its relation's types are read from the catalogue and
	// Change is called again for the same change.
	Change(*Change) error
	// Commit closes the transaction. Once all it led to is durable, its End may
	// be confirmed.
	Commit(*Transaction) error
	// Keepalive says that everything that commits before lsn has been handed
	// over. With nothing in flight lsn may be confirmed, which lets an idle
	// database hold no WAL. Never called within a transaction.
	Keepalive(lsn LSN) error
	// Flush says that nothing more can be read right now: send what was held back
	// for a larger batch. Within a transaction it is called only before a Reset, which
	// waits until the transactions before it are confirmed.
	Flush() error
	// Reset says that the stream starts (again) from the confirmed position:
	// discard an open transaction; changes that came before may be replayed.
	Reset() error
}

// Message is what pg_logical_emit_message wrote. Content is valid only until the handler returns.
type Message struct {
	Prefix  string
	Content []byte
}

// MessageHandler is a Handler that takes the messages of transactions, each between their Begin
// and Commit. Those that belong to no transaction are passed over.
type MessageHandler interface {
	Message(*Transaction, Message) error
}

// Holder is a Handler that may keep back what it could report as done. Release has it report all
// of that: the stream is about to start again, and waits until it is confirmed.
type Holder interface{ Release() }
