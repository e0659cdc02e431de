package cdc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"gancho/internal/retry"
)

// A publication is looked up as it was at the change that is decoded. One that
// is younger than the slot's position is missing there: PostgreSQL 14 to 17
// then end the stream with an error, 18 warns and continues without it.
//
// For the publication of everything both mean that changes would be skipped,
// which ends Run. The one for inserts may be created later, with the first rule
// that needs it: changes from before that are read without it.
//
// Since PostgreSQL 15 the stream does not say where that is: transactions that the
// other publication has nothing of are not sent. So the reader searches for it.

// young is a publication that is left out for a while.
type young struct {
	known LSN // the stream with it can be read from here on
}

// errGrown: the stream has reached changes that know the young publication.
var errGrown = errors.New("the publication is known from here on")

// growCheck is how often the reader checks whether what it handed over is confirmed.
const growCheck = 20 * time.Millisecond

// missingPublication returns which of the source's publications the server's
// error or warning is about, or "".
func (r *Reader) missingPublication(err error) string {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || pg.Routine != "get_publication_oid" && pg.Routine != "LoadPublications" {
		return ""
	}
	// The message is in the server's language; the name in it is not. The name
	// of one publication is the other's beginning.
	if strings.Contains(pg.Message, r.options.insertPublication()) {
		return r.options.insertPublication()
	}
	return r.options.Publication
}

// leaveOut lets the next stream start without a publication that is missing at
// its position. It reports whether that helps.
func (r *Reader) leaveOut(ctx context.Context, cause error) (bool, error) {
	if r.young != nil || r.missingPublication(cause) != r.options.insertPublication() {
		return false, nil
	}
	name := r.options.insertPublication()
	var exists bool
	var end LSN
	err := r.withCatalog(ctx, func(q querier) error {
		rows, _ := q.Query(ctx, `select exists (select from pg_catalog.pg_publication where pubname = $1),
			case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_insert_lsn() end`, name)
		_, err := pgx.ForEachRow(rows, []any{&exists, &end}, func() error { return nil })
		return err
	})
	if err != nil {
		return false, fmt.Errorf("read publication %q: %w", name, err)
	}
	if !exists {
		return false, nil // it is not young
	}
	searching := fmt.Errorf("publication %s is younger than the changes to be read; searching for the first that know it, which reads the WAL between %s and %s, in minutes if that is gigabytes",
		QuoteIdentifier(name), r.Confirmed(), end)
	r.waiting.Store(&searching)
	r.options.Log.Warn().Str("publication", name).Stringer("lsn", r.Confirmed()).
		Msg("publication is younger than the changes to be read; searching for the first that know it")
	known, err := r.searchKnown(ctx, end-pageHeader)
	if err != nil {
		return false, fmt.Errorf("search for the changes that know publication %q: %w", name, err)
	}
	r.young = &young{known: known}
	r.options.Log.Warn().Str("publication", name).Stringer("lsn", r.Confirmed()).Stringer("until", known).
		Msg("publication is younger than the changes to be read; leaving it out until they have been read")
	return true, nil
}

// pageHeader is the most by which the place of the next record can be behind the
// end of the newest, which is longer than that.
const pageHeader = 40

// searchKnown returns the first position before end from which the stream with
// all publications can be read. It cannot from the confirmed one, and can from end,
// where the publication exists.
//
// A transaction that was running when the publication was created may not know it,
// although it commits later. What is found may then be its commit: it, and what was
// committed between the two, count as older.
func (r *Reader) searchKnown(ctx context.Context, end LSN) (LSN, error) {
	const alignment = 8 // of records
	const attempts = 10 // at a slot that the server has not released from the one before
	older, known, failures := r.Confirmed(), end, 0
	for older+alignment < known {
		middle := older + (known-older)/2
		ok, err := r.readable(ctx, middle, end)
		switch {
		case SQLState(err) == codeObjectInUse && failures < attempts:
			failures++
			if err := retry.Wait(ctx, reconnect().Delay(failures)); err != nil {
				return 0, err
			}
		case err != nil:
			return 0, err
		case ok:
			known = middle
		default:
			older = middle
		}
	}
	return known, nil
}

// readable reports whether the first changes from a position on can be read with
// all publications, or none come before end. It confirms nothing.
func (r *Reader) readable(ctx context.Context, from, end LSN) (bool, error) {
	pg, err := connectReplication(ctx, r.options.DSN, r.options.Encoding, false)
	if err != nil {
		return false, err
	}
	defer hangUp(ctx, pg)
	if err := standAside(ctx, pg); err != nil {
		return false, err
	}
	err = pglogrepl.StartReplication(ctx, pg, `"`+r.options.Slot+`"`, from, pglogrepl.StartReplicationOptions{PluginArgs: r.pluginArguments()})
	for err == nil {
		var message pgproto3.BackendMessage
		if message, err = receiveMessage(ctx, pg); err != nil {
			break
		}
		switch m := message.(type) {
		case *pgproto3.ErrorResponse:
			err = pgconn.ErrorResponseToPgError(m)
		case *pgproto3.CopyData:
			switch {
			case len(m.Data) > dataHeader && m.Data[0] == 'w' && m.Data[dataHeader] == 'R':
				return true, nil // a relation, before the first change of it
			case len(m.Data) != keepalive || m.Data[0] != 'k':
			case LSN(binary.BigEndian.Uint64(m.Data[1:])) >= end:
				return true, nil
			case m.Data[17] != 0:
				err = pglogrepl.SendStandbyStatusUpdate(ctx, pg, pglogrepl.StandbyStatusUpdate{WALWritePosition: r.Confirmed()})
			}
		}
	}
	if r.missingPublication(err) == r.options.insertPublication() {
		return false, nil
	}
	return false, err
}

// receiveMessage waits as long as a server that is alive may be silent.
func receiveMessage(ctx context.Context, pg *pgconn.PgConn) (pgproto3.BackendMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, noSenderTimeout)
	defer cancel()
	return pg.ReceiveMessage(ctx)
}

// hangUp closes a connection that streams, and waits until the slot is free.
func hangUp(ctx context.Context, pg *pgconn.PgConn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbyeTimeout)
	defer cancel()
	pg.Frontend().Send(&pgproto3.Terminate{})
	err := pg.Frontend().Flush()
	for err == nil {
		_, err = pg.ReceiveMessage(ctx)
	}
	_ = pg.Close(ctx)
}

// subscribed are the publications of the next stream.
func (r *Reader) subscribed() []string {
	return slices.DeleteFunc(slices.Clone(r.source.Publications), func(name string) bool {
		return r.young != nil && name == r.options.insertPublication()
	})
}

// grown reports whether a Begin message opens a transaction that knows the young
// publication.
func (s *session) grown(message []byte) bool {
	if s.r.young == nil || len(message) != 21 || message[0] != 'B' {
		return false
	}
	return decodeBegin(&cursor{rest: message[1:]}).Commit >= s.r.young.known
}

// grow ends the stream without the young publication, once everything before the
// publication is known is confirmed, and nothing beyond: the handler confirms it,
// because it may want to store positions first.
func (s *session) grow(h Handler) error {
	known := s.r.young.known
	if err := handled(h.Keepalive(known)); err != nil {
		return err
	}
	if err := s.awaitConfirmed(h, known); err != nil {
		return err
	}
	return errGrown
}

// shrink returns why the receiver ended. When it is a young publication, what came
// before is confirmed first: the next stream would lack that publication's part of it.
func (s *session) shrink(h Handler) error {
	d := s.r.decoder
	if s.r.missingPublication(s.failed) == s.r.options.insertPublication() && (!d.inTx || d.ordinal == 0) {
		if err := s.awaitConfirmed(h, 0); err != nil {
			return err
		}
	}
	return s.failed
}

// awaitConfirmed waits until all that was handed over is confirmed, and next, so
// that the next stream, with other publications, repeats none of it: with other tables
// in it a transaction's changes would be numbered differently.
func (s *session) awaitConfirmed(h Handler, next LSN) error {
	if holder, ok := h.(Holder); ok {
		holder.Release()
	}
	if err := handled(h.Flush()); err != nil {
		return err
	}
	tick := time.NewTicker(growCheck)
	defer tick.Stop()
	for s.r.Confirmed() < max(next, s.r.decoder.end) {
		select {
		case <-s.stop:
			return s.cause
		case <-tick.C:
		}
	}
	return nil
}
