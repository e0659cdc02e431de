package mapping

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"gancho/cdc"
	"gancho/internal/retry"
)

// Visible waits until queries see the transaction. The stream is ahead of that:
// a transaction leaves the server's list of running ones only after its commit
// is in the WAL, and with synchronous replication after a standby has it.
func (s *Source) Visible(ctx context.Context, tx *cdc.Transaction) error {
	if err := s.connect(ctx); err != nil {
		return fmt.Errorf("wait for transaction %d: %w", tx.XID, err)
	}
	if s.seen.has(tx) {
		return nil
	}
	s.queries++
	began, logged := time.Now(), false
	for wait := visibleWaitMin; ; wait = min(2*wait, visibleWaitMax) {
		if err := s.refresh(ctx); err != nil {
			return fmt.Errorf("wait for transaction %d: %w", tx.XID, err)
		}
		if s.seen.has(tx) {
			return nil
		}
		if !logged && time.Since(began) > logEvery/6 {
			logged = true
			waits := fmt.Errorf("transaction %d is not visible to queries yet", tx.XID)
			s.waiting.Store(&waits)
			s.log.Warn().Uint32("xid", tx.XID).Stringer("lsn", tx.Commit).Bool("replica", s.standby).
				Msg("a transaction of the stream is not visible to queries yet; lookups wait for it, and the events with them")
		}
		if err := s.pause(ctx, wait); err != nil {
			return err
		}
	}
}

// pause waits between two attempts; its error is the context's.
func (s *Source) pause(ctx context.Context, d time.Duration) error {
	if s.paused != nil {
		s.paused()
	}
	return retry.Wait(ctx, d)
}

// refresh reads what queries see now into s.seen.
func (s *Source) refresh(ctx context.Context) error {
	replayed, text, err := s.readPair(ctx, `select case when pg_is_in_recovery() then pg_last_wal_replay_lsn()::text end,
		case when not pg_is_in_recovery() then pg_current_snapshot()::text end`)
	switch {
	case err != nil:
		return err
	case text == "" && replayed == "": // a replica that has not replayed anything
		return nil
	case text == "":
		return s.seen.replayed.Scan(replayed)
	}
	s.standby = false // it may have been promoted
	s.seen, err = parseSnapshot(text)
	return err
}

// snapshot is what a connection sees: on a primary a pg_snapshot, on a standby
// how far it has replayed the WAL, because a snapshot there does not list the
// running transactions.
// https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-SNAPSHOT
type snapshot struct {
	xmin, xmax uint64
	running    map[uint64]bool
	replayed   cdc.LSN
}

// has reports whether queries see the transaction.
func (s *snapshot) has(tx *cdc.Transaction) bool {
	if s.replayed != 0 {
		// The position is the end of what was replayed, tx.Commit the beginning of
		// the commit record.
		return s.replayed > tx.Commit
	}
	if s.xmax == 0 {
		return false
	}
	// The stream has the low 32 bits, and the transaction is less than 2^31
	// transactions away: it may be newer than xmax, which follows the newest one
	// that has ended.
	xid := s.full(tx.XID)
	return xid < s.xmin || xid < s.xmax && !s.running[xid]
}

// full is the id of 64 bits of a transaction that the stream has.
func (s *snapshot) full(xid uint32) uint64 {
	return s.xmax + uint64(int64(int32(xid-uint32(s.xmax)))) // the wrap around is meant
}

// hasAll reports whether queries on a primary see the transactions with all the ids from one to another one.
func (s *snapshot) hasAll(first, last uint32) bool {
	if s.xmax == 0 || s.full(last) >= s.xmax {
		return false
	}
	if first == last {
		return !s.running[s.full(last)]
	}
	for xid := range s.running {
		if s.full(first) <= xid && xid <= s.full(last) {
			return false
		}
	}
	return true
}

// parseSnapshot reads xmin:xmax:xid,xid.
func parseSnapshot(text string) (snapshot, error) {
	s := snapshot{running: map[uint64]bool{}}
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return s, fmt.Errorf("read snapshot %q: it has %d parts", text, len(parts))
	}
	var failed error
	number := func(text string) uint64 {
		n, err := strconv.ParseUint(text, 10, 64)
		failed = errors.Join(failed, err)
		return n
	}
	s.xmin, s.xmax = number(parts[0]), number(parts[1])
	for xid := range strings.SplitSeq(parts[2], ",") {
		if xid != "" {
			s.running[number(xid)] = true
		}
	}
	if failed != nil {
		return s, fmt.Errorf("read snapshot %q: %w", text, failed)
	}
	return s, nil
}
