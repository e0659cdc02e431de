package cdc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// glanceTimeout bounds what a glance has the server do in one statement.
const glanceTimeout = 10 * time.Second

// Glance has Run ask the server, before its first stream, whether there is anything to stream, and stream only then: otherwise the handler gets
// a Reset, a Keepalive and a Flush, and Run waits until Ask is called or its context ends. A walsender calls the
// system for each record of the WAL, whatever database it is of, and saves the slot each time that it passes a list of running transactions; the
// functions of SQL do not: of a minute with 12,000 commits of another database 20 ms of the server's processor time instead of 50
// (PostgreSQL 15.18). Call it before Run.
func (r *Reader) Glance() { r.glance = true }

// Blind reports whether the server has refused a glance: a next one is of no use. Safe from any goroutine.
func (r *Reader) Blind() bool { return r.blind.Load() }

// Resting reports whether a glance has found nothing to stream. Safe from any goroutine.
func (r *Reader) Resting() bool { return r.resting.Load() }

// quietError says that there is nothing to stream up to end.
type quietError struct{ end LSN }

func (e *quietError) Error() string { return "nothing to stream up to " + e.end.String() }

// errAsked: there may be something to stream by now.
var errAsked = errors.New("asked how far the stream is")

// lookAhead returns a quietError when nothing up to end is to be sent; nil: the stream has to be read. Nothing is consumed: what is
// confirmed is what the handler has confirmed before.
func (r *Reader) lookAhead(ctx context.Context, pg *pgconn.PgConn, is Identity, end LSN) error {
	// What admit refuses while another process may have the slot, it is asked again of the stream's.
	admitted := func() bool { return r.admit == nil || r.admit(ctx, is) == nil }
	if !admitted() || r.young != nil || r.skip.Load() != 0 { // before anything is confirmed
		return nil
	}
	delete(pg.CustomData(), warned)
	results, err := pg.Exec(ctx, r.glanceSQL(end)).ReadAll()
	if _, answered := errors.AsType[*pgconn.PgError](err); answered && SQLState(err) != codeObjectInUse {
		r.options.Log.Debug().Err(err).Msg("the slot cannot be peeked at; it is streamed")
		r.blind.Store(SQLState(err) == codeInsufficientPrivilege)
		return nil
	}
	if err != nil {
		return fmt.Errorf("look whether the slot has anything to stream: %w", err)
	}
	replica, found := results[1], results[len(results)-1]
	// A replica says how much it has received, and peeks at what it has replayed. PostgreSQL 18 warns of a publication that is missing, and
	// skips its changes. And if nobody had the slot in between, one that was made anew stands beyond what was recorded.
	if string(replica.Rows[0][0]) == "t" || len(found.Rows) > 0 || pg.CustomData()[warned] != nil || !admitted() {
		return nil
	}
	return &quietError{end}
}

// glanceSQL confirms what the handler has confirmed, and peeks at what comes until end. It is sent as one message, and so is one transaction.
func (r *Reader) glanceSQL(end LSN) string {
	slot := quoteLiteral(r.options.Slot)
	var options []string
	for _, o := range r.pluginOptions() {
		options = append(options, quoteLiteral(o[0]), quoteLiteral(o[1]))
	}
	return fmt.Sprintf(`set local statement_timeout = %[1]d;
		select pg_catalog.pg_is_in_recovery();
		select pg_catalog.pg_replication_slot_advance(slot_name, '%[3]s') from pg_catalog.pg_replication_slots where slot_name = %[2]s and confirmed_flush_lsn < '%[3]s';
		select lsn from pg_catalog.pg_logical_slot_peek_binary_changes(%[2]s, '%[4]s', 1, %[5]s) limit 1`,
		glanceTimeout.Milliseconds(), slot, r.Confirmed(), end, strings.Join(options, ", "))
}

// rest hands over that there is nothing up to end, and waits until the stream is to begin all the same.
func (r *Reader) rest(ctx context.Context, h Handler, end LSN) error {
	r.waiting.Store(nil)
	r.resting.Store(true)
	defer r.resting.Store(false)
	for _, say := range []func() error{h.Reset, func() error { return h.Keepalive(end) }, h.Flush} {
		if err := handled(say()); err != nil {
			return err
		}
	}
	select {
	case <-r.ask: // that was the answer
	default:
	}
	if r.rewound.Swap(false) {
		return errRewind
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-r.ask:
	}
	if r.rewound.Swap(false) {
		return errRewind
	}
	return errAsked
}
