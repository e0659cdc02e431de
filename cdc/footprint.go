package cdc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// A server that was restored to an earlier state, and has written as much WAL again since,
// has the same identity as before and stands at a later position. What is different is the
// WAL itself: where a transaction that was read had its commit record, with its time to the
// microsecond, there is something else now. Whoever may replicate may read the WAL's bytes, so
// that nothing has to be written into the source to recognise it.
// https://www.postgresql.org/docs/current/protocol-replication.html

// Footprint is where the WAL has a transaction's commit, and when that was.
type Footprint struct {
	Commit, End LSN // as in [Transaction]
	Time        time.Time
}

// Footprint is the transaction's; its End is known at the commit.
func (t *Transaction) Footprint() Footprint {
	return Footprint{Commit: t.Commit, End: t.End, Time: t.Time}
}

// ErrUnverified is wrapped by [FindFootprint] when the server does not show its WAL, or no
// longer has it. It says nothing about what the WAL had.
var ErrUnverified = errors.New("the source's WAL cannot be compared with what was read")

const (
	// maxCommitRecord bounds how much of a commit record is read, in bytes: the time is among
	// the first, or, of a transaction that another server has sent, the last.
	maxCommitRecord = 8 << 20
	// walTimeout bounds the whole look at the WAL.
	walTimeout = 15 * time.Second
	// shortPageHeader and longPageHeader are the sizes of what each page of WAL begins with, in
	// bytes; the long one is the first of a segment.
	shortPageHeader, longPageHeader = 24, 40
)

// FindFootprint reports whether the server's WAL has the transaction where it was read. It takes
// one more of max_wal_senders for that time.
func FindFootprint(ctx context.Context, o Options, f Footprint) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, walTimeout)
	defer cancel()
	found, err := findFootprint(ctx, o, f)
	if err != nil && !unverified(err) {
		return false, fmt.Errorf("read the WAL at %s: %w", f.Commit, err)
	}
	if err != nil {
		return false, fmt.Errorf("read the WAL at %s: %w: %w", f.Commit, ErrUnverified, err)
	}
	return found, nil
}

// unverified reports whether the server answers, and does not show the WAL.
func unverified(err error) bool {
	_, synchronous := errors.AsType[*SynchronousError](err)
	fault := FaultOf(err)
	return synchronous || SQLState(err) == codeTooManyConnections || fault != FaultOther && !fault.Passing()
}

func findFootprint(ctx context.Context, o Options, f Footprint) (bool, error) {
	conn, err := connectReplication(ctx, o.DSN, o.Encoding, false)
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if err := standAside(ctx, conn); err != nil {
		return false, err
	}
	page, segment, err := walSizes(ctx, conn)
	if err != nil {
		return false, err
	}
	timeline, err := timelineOf(ctx, conn, f.Commit)
	if err != nil {
		return false, err
	}
	// Without a slot, which pglogrepl's own function needs.
	conn.Frontend().SendQuery(&pgproto3.Query{String: fmt.Sprintf("START_REPLICATION PHYSICAL %s TIMELINE %d", f.Commit, timeline)})
	if err := conn.Frontend().Flush(); err != nil {
		return false, err
	}
	size := min(int64(f.End-f.Commit), maxCommitRecord)
	wal, err := receiveWAL(ctx, conn, f.Commit, int(size))
	if err != nil {
		return false, err
	}
	record := withoutPages(wal, uint64(f.Commit), page, segment)
	micros := uint64(f.Time.Sub(timestamp(0)).Microseconds())
	return bytes.Contains(record, binary.LittleEndian.AppendUint64(nil, micros)) ||
		bytes.Contains(record, binary.BigEndian.AppendUint64(nil, micros)), nil
}

// timelineOf is the timeline on which the server has the WAL of a position: after a promotion the files of
// what was written before have the number of the former one.
func timelineOf(ctx context.Context, conn *pgconn.PgConn, at LSN) (int32, error) {
	system, err := pglogrepl.IdentifySystem(ctx, conn)
	if err != nil {
		return 0, fmt.Errorf("identify the source: %w", err)
	}
	history, err := readHistory(ctx, conn, system.Timeline)
	return history.at(at, system.Timeline), err
}

// walSizes are the sizes of the WAL's pages and segments, in bytes.
func walSizes(ctx context.Context, conn *pgconn.PgConn) (page, segment uint64, err error) {
	rows, err := ask(ctx, conn, `select (select setting from pg_catalog.pg_settings where name = 'wal_block_size'),
		(select setting from pg_catalog.pg_settings where name = 'wal_segment_size')`)
	if err != nil {
		return 0, 0, fmt.Errorf("read the sizes of the WAL: %w", err)
	}
	page, err1 := strconv.ParseUint(rows[0][0], 10, 64)
	segment, err2 := strconv.ParseUint(rows[0][1], 10, 64) // 11 and newer: in bytes
	if err := errors.Join(err1, err2); err != nil || page == 0 || segment == 0 {
		return 0, 0, fmt.Errorf("read the sizes of the WAL: %q and %q: %w", rows[0][0], rows[0][1], err)
	}
	return page, segment, nil
}

// receiveWAL reads so many bytes of WAL that the server sends from a position on.
func receiveWAL(ctx context.Context, conn *pgconn.PgConn, from LSN, size int) ([]byte, error) {
	wal := make([]byte, 0, size)
	for len(wal) < size {
		message, err := conn.ReceiveMessage(ctx)
		if err != nil {
			return nil, err
		}
		switch m := message.(type) {
		case *pgproto3.ErrorResponse:
			return nil, pgconn.ErrorResponseToPgError(m)
		case *pgproto3.CopyData:
			if len(m.Data) == 0 || m.Data[0] != pglogrepl.XLogDataByteID {
				continue
			}
			sent, err := pglogrepl.ParseXLogData(m.Data[1:])
			if err != nil {
				return nil, err
			}
			if sent.WALStart != from+LSN(len(wal)) {
				return nil, fmt.Errorf("the server sends WAL of %s, not of %s", sent.WALStart, from+LSN(len(wal)))
			}
			wal = append(wal, sent.WALData[:min(len(sent.WALData), size-len(wal))]...)
		case *pgproto3.CopyDone: // the end of a timeline
			return wal, nil
		}
	}
	return wal, nil
}

// withoutPages leaves out of WAL, which begins at a position, what pages begin with: a record
// goes on behind that.
func withoutPages(wal []byte, from, page, segment uint64) []byte {
	record := make([]byte, 0, len(wal))
	for at := from; len(wal) > 0; {
		if at%page == 0 {
			header := uint64(shortPageHeader)
			if at%segment == 0 {
				header = longPageHeader
			}
			header = min(header, uint64(len(wal)))
			wal, at = wal[header:], at+header
		}
		n := min(page-at%page, uint64(len(wal)))
		record = append(record, wal[:n]...)
		wal, at = wal[n:], at+n
	}
	return record
}
