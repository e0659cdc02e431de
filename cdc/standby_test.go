package cdc_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/cdc"
)

// TestStandby: from PostgreSQL 16 on a standby is read with a slot of its own, and on after its promotion. Its publications are
// the primary's, and are made there. Before, and for the copy of a primary's slot, an error says so.
func TestStandby(t *testing.T) {
	t.Parallel()
	primary := server(t, nil)
	version, err := primary.Version()
	if err != nil {
		t.Fatal(err)
	}
	standby, err := primary.StartStandby(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(standby.Close)
	single := primary.Database(t, "", oneTable)
	database := single[strings.LastIndex(single, "/")+1 : strings.LastIndex(single, "?")]
	eventually(t, "the standby to have the table", func() bool { return standby.Exec(t.Context(), database, "select from t") == nil })
	o := optionsFor(single)
	o.DSN = standby.DSN(database)
	_, err = cdc.Prepare(t.Context(), o, allOps("t"))
	var setup *cdc.SetupError
	if !errors.As(err, &setup) || !strings.Contains(err.Error(), "standby") || !strings.Contains(err.Error(), "CREATE PUBLICATION") {
		t.Fatalf("without publications: %v", err)
	}
	if version < 16 {
		return
	}
	conn := dial(t, primary.DSN(database))
	onPrimary := o
	onPrimary.DSN = single
	prepare(t, onPrimary, allOps("t"))
	do(t, conn, "select pg_drop_replication_slot('"+o.Slot+"')")
	// The slot begins at a record that only the primary writes.
	ctx, cancel := context.WithCancel(t.Context())
	snapshots := make(chan struct{})
	go func() {
		defer close(snapshots)
		eventually(t, "the slot to be created", func() bool {
			_ = primary.Exec(context.WithoutCancel(ctx), database, "select pg_log_standby_snapshot()")
			return ctx.Err() != nil
		})
	}()
	var source *cdc.Source
	eventually(t, "the publication on the standby", func() bool {
		source, err = cdc.Prepare(t.Context(), o, allOps("t"))
		return err == nil
	})
	cancel()
	<-snapshots
	if !source.SlotCreated || !source.Settings.Standby || source.Identity.Timeline != 1 {
		t.Errorf("prepared %+v", source)
	}
	reader, rec := cdc.NewReader(o, source), onlooker()
	rec.reader, rec.confirm = reader, true
	ended := make(chan error, 1)
	reading, stop := context.WithCancel(t.Context())
	defer stop()
	go func() { ended <- reader.Run(reading, rec) }()
	await(t, rec.resets, "the stream to start")
	do(t, conn, "insert into t values (1)")
	first := await(t, rec.transactions, "the change")
	gauge := cdc.NewSlotGauge(o.DSN, o.Slot)
	defer gauge.Close(t.Context())
	eventually(t, "the position to be confirmed", func() bool {
		slot, err := gauge.Measure(t.Context())
		return err == nil && slot.ConfirmedFlush >= first.End && slot.Current >= slot.ConfirmedFlush
	})

	eventually(t, "the primary's position", func() bool { // beyond what it had committed
		mark, err := gauge.Mark(t.Context())
		return err == nil && mark.LSN >= first.End && !mark.At.IsZero()
	})

	stop() // a stream that is open goes on into the new timeline, without a word
	if err := await(t, ended, "the reader to end"); err != nil {
		t.Fatal(err)
	}
	// What the standby has received and not replayed is not taken for nothing.
	replaying := dial(t, o.DSN)
	do(t, replaying, "select pg_wal_replay_pause()")
	eventually(t, "the replay to be paused", func() bool { return value[string](t, replaying, "select pg_get_wal_replay_pause_state()") == "paused" })
	do(t, conn, "insert into t values (3)")
	written := value[cdc.LSN](t, conn, "select pg_current_wal_flush_lsn()")
	eventually(t, "the WAL to be received", func() bool {
		return value[bool](t, replaying, "select pg_last_wal_receive_lsn() >= $1 and pg_last_wal_replay_lsn() < $1", written)
	})
	looks := glance(t, o, source, first.End)
	if looks.reader.Resting() {
		t.Error("a reader of a standby rests")
	}
	do(t, replaying, "select pg_wal_replay_resume()")
	if diff := cmp.Diff(insertions(3, 3), looks.changes(1)); diff != "" {
		t.Errorf("changes after the replay (-want +got):\n%s", diff)
	}
	if err := looks.end(); err != nil {
		t.Fatal(err)
	}

	primary.Kill()
	if err := standby.Promote(); err != nil {
		t.Fatal(err)
	}
	do(t, dial(t, o.DSN), "insert into t values (2)")
	again := prepare(t, o, allOps("t"))
	left, ok := again.History.Left(1, "")
	if !ok || again.SlotCreated || again.ConfirmedFlush > left || first.End > left {
		t.Fatalf("history %q, slot at %s, read up to %s", again.History, again.ConfirmedFlush, first.End)
	}
	// The former timeline's WAL is looked for where it is.
	if found, err := cdc.FindFootprint(t.Context(), o, first.Footprint()); !found || err != nil {
		t.Errorf("footprint of before: %v, %v", found, err)
	}
	s := start(t, o, allOps("t"))
	if tx := s.next(); len(tx.Changes) != 1 || tx.Commit < left {
		t.Errorf("read %v", tx)
	}
}

// TestHistory: which server continues which.
func TestHistory(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		history, before cdc.History
		timeline        int32
		left            cdc.LSN // 0: it does not
	}{
		{"1@0/3000", "", 1, 0x3000},
		{"1@0/3000 2@1/5000", "", 1, 0x3000},
		{"1@0/3000 2@1/5000", "1@0/3000", 2, 0x1_0000_5000},
		{"1@0/3000 4@0/5000", "1@0/3000", 4, 0x5000},
		{"1@0/3000 2@0/5000", "1@0/2000", 2, 0}, // another timeline 2
		{"1@0/3000 2@0/5000", "1@0/300", 2, 0},
		{"1@0/3000 2@0/5000", "", 2, 0}, // which one is not known
		{"1@0/3000 2@0/5000", "1@0/3000", 3, 0},
		{"1@0/3000", "1@0/3000", 2, 0},
		{"", "", 1, 0},
		{"1@rubbish", "", 1, 0},
	} {
		if left, ok := c.history.Left(c.timeline, c.before); left != c.left || ok != (c.left != 0) {
			t.Errorf("%q continues timeline %d of %q: %s, %v, want %s", c.history, c.timeline, c.before, left, ok, c.left)
		}
	}
}
