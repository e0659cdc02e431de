package bridge_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"gancho/cdc"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/internal/bridge"
	"gancho/internal/state"
	"gancho/internal/testservers"
)

// readsLab is capture's part of a backfill of a table.
type readsLab struct {
	*testing.T
	bridge.Reads
	rel *cdc.Relation
	log bytes.Buffer
	xid uint32 // of the last transaction
}

func newReadsLab(t *testing.T) *readsLab {
	t.Helper()
	server, err := testservers.StartRedis(testservers.RedisOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	q, err := queue.Open(t.Context(), queue.Options{
		URL: server.URL(), Endpoints: []*endpoint.Endpoint{{Name: "crm", URL: "https://crm.example.com"}}, Logger: zerolog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	if _, err := q.Claim(t.Context(), queue.Source{SystemID: "1", Database: "d", Slot: "gancho", Timeline: 1, SlotCreated: true}, false); err != nil {
		t.Fatal(err)
	}
	keys, err := state.ParseKeys(base64.StdEncoding.EncodeToString(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	rules, rel := verdictLab(t)
	lab := &readsLab{T: t, rel: rel, xid: 100}
	lab.Reads = bridge.NewReads(q, keys, pg.Database(t, ""), rules, zerolog.New(&lab.log))
	return lab
}

// next is the next transaction.
func (l *readsLab) next(changes []*cdc.Change, messages ...cdc.Message) {
	l.Helper()
	l.xid++
	at := cdc.LSN(l.xid) * 100
	if err := l.Transaction(l.Context(), &cdc.Transaction{XID: l.xid, Commit: at, End: at + 10}, changes, messages...); err != nil {
		l.Fatal(err)
	}
}

// sealed is a message.
func (l *readsLab) sealed(h bridge.ReadHeader, rows []byte) cdc.Message {
	l.Helper()
	if h.Snapshot == "" {
		h.Snapshot = "101:101:"
	}
	m, err := l.Seal(h, rows)
	if err != nil {
		l.Fatal(err)
	}
	return m
}

// seen checks the newest accepted message, and that there is a fault that says so; empty: none.
func (l *readsLab) seen(claim, seq int64, fault string) {
	l.Helper()
	c, s, err := l.Seen()
	if c != claim || s != seq {
		l.Errorf("message %d of claim %d was accepted last, want %d of %d", s, c, seq, claim)
	}
	if fault == "" && err != nil || fault != "" && (err == nil || !strings.Contains(err.Error(), fault)) {
		l.Errorf("fault %v, want %q", err, fault)
	}
}

// TestForeignMessages: what another login writes under our prefix, or copies, is passed over, and said once in a while.
func TestForeignMessages(t *testing.T) {
	t.Parallel()
	l := newReadsLab(t)
	l.Open(l.rel.OID)
	l.next(nil, cdc.Message{Prefix: "gancho.rows.gancho", Content: []byte("x")}, cdc.Message{Prefix: "gancho.rows.gancho"})
	l.seen(0, 0, "")
	l.next(nil, l.sealed(bridge.ReadHeader{Job: 1, Claim: 1, Seq: 1}, nil))
	l.seen(1, 1, "")
	l.next(nil, l.sealed(bridge.ReadHeader{Job: 1, Claim: 1, Seq: 2, XID: "99"}, nil))
	l.seen(1, 1, "")
	l.next(nil, l.sealed(bridge.ReadHeader{Job: 1, Claim: 1, Seq: 3}, nil))
	l.seen(1, 3, "")
	if n := strings.Count(l.log.String(), "pg_logical_emit_message"); n != 1 || strings.Contains(l.log.String(), "backup") {
		t.Errorf("%d lines about messages of others, want 1 in 30 s:\n%s", n, l.log.String())
	}
}

// TestRefusedRounds: behind a message with a fault only those of its claim and round are refused.
func TestRefusedRounds(t *testing.T) {
	t.Parallel()
	l := newReadsLab(t)
	l.Open(l.rel.OID)
	l.next(nil, l.sealed(bridge.ReadHeader{Job: 1, Claim: 4, Seq: 1}, nil))
	l.next(nil, l.sealed(bridge.ReadHeader{Job: 1, Claim: 4, Seq: 2, Snapshot: "?"}, nil))
	l.seen(4, 1, "snapshot")
	l.next(nil, l.sealed(bridge.ReadHeader{Job: 1, Claim: 4, Seq: 3}, nil))
	l.seen(4, 1, "snapshot")
	l.next(nil, l.sealed(bridge.ReadHeader{Job: 1, Claim: 4, Seq: 4, Round: 1}, nil))
	l.seen(4, 4, "snapshot")
	l.next(nil, l.sealed(bridge.ReadHeader{Job: 2, Claim: 1, Seq: 1}, nil))
	l.seen(1, 1, "snapshot")
}

// TestFirstSnapshot: the first snapshot of a backfill has to see what was streamed before it was opened, also when the
// stream has started again meanwhile.
func TestFirstSnapshot(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		again func(l *readsLab, open func())
	}{
		{"without a new start", func(_ *readsLab, open func()) { open() }},
		{"opened before the new start", func(l *readsLab, open func()) { open(); l.Reset(nil) }},
		{"opened in the stream before the new start", func(l *readsLab, open func()) { open(); l.next(nil); l.Reset(nil) }},
		{"opened after the new start", func(l *readsLab, open func()) { l.Reset(nil); open() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newReadsLab(t)
			l.next(nil) // 101 waits for a synchronous standby: queries do not see it
			c.again(l, func() { l.Open(l.rel.OID) })
			l.next(nil, l.sealed(bridge.ReadHeader{Job: 1, Claim: 1, Seq: 1, Snapshot: "101:110:101"}, nil))
			if l.Took() {
				t.Error("a snapshot was accepted that does not see an earlier transaction")
			}
			l.next(nil, l.sealed(bridge.ReadHeader{Job: 1, Claim: 1, Seq: 2, Snapshot: "110:110:"}, nil))
			if !l.Took() {
				t.Error("a snapshot was refused that sees all earlier transactions")
			}
		})
	}
}

// TestChunkWithFault: no row of a chunk has events when one of them has a fault, because all are read again.
func TestChunkWithFault(t *testing.T) {
	t.Parallel()
	l := newReadsLab(t)
	l.Open(l.rel.OID)
	l.next(nil, l.sealed(bridge.ReadHeader{Job: 1, Claim: 1, Seq: 1}, nil))
	l.next([]*cdc.Change{update(l.rel, 1, "3", "7", "A", "L")})
	row := []byte("t\x00\x00\x00\x011t\x00\x00\x00\x017nnn")
	chunk := func(seq int64, table *cdc.Relation, rows ...[]byte) {
		t.Helper()
		h := bridge.ReadHeader{Job: 1, Claim: 1, Seq: seq, Round: seq, XID: "103", Key: []string{"id"}}
		if seq == 3 {
			h.XID = "104"
		} else if seq == 4 {
			h.XID = "105"
		}
		l.next(nil, l.sealed(h, append(cdc.AppendTable(nil, table), bytes.Join(rows, nil)...)))
	}
	chunk(2, l.rel, row, []byte("mnnnn"))
	l.seen(1, 1, "without their replica identity")
	if n := l.Staged(); n != 0 {
		t.Errorf("%d events of the chunk are on their way", n)
	}
	chunk(3, l.rel, row)
	l.seen(1, 3, "without their replica identity")
	if n := l.Staged(); n != 1 {
		t.Errorf("%d events of a chunk of one row, want 1", n)
	}
	other := *l.rel
	other.OID++
	chunk(4, &other, row)
	l.seen(1, 3, "have changed since the backfill was opened")
	if n := l.Staged(); n != 1 {
		t.Errorf("rows of a table whose changes are not kept have events")
	}
}

// TestChunkIsRepeated: a chunk is not confirmed before the next message, which its job writes when it has stored that the
// chunk was taken: so the stream repeats it to a process that has to know.
func TestChunkIsRepeated(t *testing.T) {
	t.Parallel()
	l := newReadsLab(t)
	l.Open(l.rel.OID)
	end := func() cdc.LSN { return cdc.LSN(l.xid)*100 + 10 }
	mark := func(seq int64) {
		t.Helper()
		l.next(nil, l.sealed(bridge.ReadHeader{Job: 1, Claim: 1, Seq: seq, Snapshot: "110:110:"}, nil))
		if got := l.UpTo(end()); got != end() {
			t.Errorf("behind message %d up to %s may be confirmed, want %s", seq, got, end())
		}
	}
	mark(1)
	rows := append(cdc.AppendTable(nil, l.rel), "t\x00\x00\x00\x011t\x00\x00\x00\x017nnn"...)
	l.next(nil, l.sealed(bridge.ReadHeader{Job: 1, Claim: 1, Seq: 2, Snapshot: "110:110:", XID: "102", Key: []string{"id"}}, rows))
	l.seen(1, 2, "")
	if got := l.UpTo(end()); got != 0 {
		t.Errorf("up to %s may be confirmed, which has the chunk", got)
	}
	mark(3)
}

// TestFaultIsPast: the stream repeats messages with a fault when it starts again; their rows are read again only once.
func TestFaultIsPast(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		h    bridge.ReadHeader
		want bool
	}{
		{"of another job", bridge.ReadHeader{Job: 6, Round: 9}, true},
		{"of this round", bridge.ReadHeader{Job: 7, Round: 2}, false},
		{"of a round before", bridge.ReadHeader{Job: 7, Round: 1}, true},
		{"of an earlier claim, of which nobody has learned", bridge.ReadHeader{Job: 7, Claim: 3, Round: 2}, false},
		{"of an earlier claim, again", bridge.ReadHeader{Job: 7, Claim: 3, Round: 1}, true},
		{"that cannot be read", bridge.ReadHeader{}, false},
	} {
		if got := bridge.FaultIsPast(7, 2, c.h); got != c.want {
			t.Errorf("a fault %s is past: %v, want %v", c.name, got, c.want)
		}
	}
}

// TestReleaseAfterReset: the stream begins anew while a backfill is being closed. The tables that are on record are used
// and positions held once more, until what is to be closed has come again.
func TestReleaseAfterReset(t *testing.T) {
	t.Parallel()
	r, record := bridge.NewIdleReads(), []uint32{42}
	for round := range 2 {
		r.Reset(record)
		r.Reached(50)
		if r.Release(100) || r.UpTo(50) != 0 {
			t.Fatalf("round %d: closed before the stream has all of the backfill", round)
		}
		r.Reached(100)
		if r.UpTo(100) != 0 {
			t.Fatalf("round %d: a position is confirmed while the backfill is open", round)
		}
		if !r.Release(100) {
			t.Fatalf("round %d: not closed although the stream has all of the backfill", round)
		}
		if r.Release(100) {
			t.Fatalf("round %d: closed twice", round)
		}
		r.Reached(101)
		if got := r.UpTo(101); got != 101 {
			t.Fatalf("round %d: the position that may be confirmed is %v, want 0/65", round, got)
		}
	}
}

// TestStateAwayFromBackfill: an open backfill does not wait for the state database for ever, as nobody confirms
// positions meanwhile.
func TestStateAwayFromBackfill(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began, tries := time.Now(), 0
		left, err := bridge.Stored(t.Context(), func(context.Context) error {
			tries++
			return fmt.Errorf("store: %w", state.ErrUnreachable)
		})
		if !left || time.Since(began) != time.Minute || tries < 5 {
			t.Errorf("after %v and %d tries: left %v, %v", time.Since(began), tries, left, err)
		}
		left, err = bridge.Stored(t.Context(), func(context.Context) error { return state.ErrConflict })
		if left || !errors.Is(err, state.ErrConflict) {
			t.Errorf("of a job that was taken: left %v, %v", left, err)
		}
		ending, stop := context.WithCancel(t.Context())
		stop()
		left, err = bridge.Stored(ending, func(context.Context) error { return state.ErrUnreachable })
		if left || !errors.Is(err, context.Canceled) {
			t.Errorf("at the end: left %v, %v", left, err)
		}
	})
}
