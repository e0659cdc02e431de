package cdc_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/cdc"
)

// glance runs a reader that looks first, from where a slot stands or was confirmed.
func glance(t *testing.T, o cdc.Options, source *cdc.Source, confirmed cdc.LSN) *stream {
	t.Helper()
	rec := newRecorder()
	rec.glances = confirmed
	return run(t, o, source, rec)
}

// TestGlance: where nothing is to be sent, nothing is streamed, and the position is handed over as if it had been; it is confirmed
// to the server by the next glance.
func TestGlance(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", oneTable, "create table outside (v text)")
	other := dial(t, pg.Database(t, "", "create table outside (v text)"))
	o := optionsFor(dsn)
	source := prepare(t, o, allOps("t"))
	conn := dial(t, dsn)
	confirmed := source.ConfirmedFlush
	for round := range 3 {
		for _, busy := range []string{"insert into outside select repeat('x', 1000) from generate_series(1, 1000)", "insert into outside values ('x')"} {
			do(t, other, busy)
			if value[int](t, conn, "select current_setting('server_version_num')::int") >= 150000 { // 14 sends transactions without changes of ours
				do(t, conn, busy)
			}
		}
		now := value[cdc.LSN](t, conn, "select pg_current_wal_lsn()")
		s := glance(t, o, source, confirmed)
		at := await(t, s.keepalives, "a position")
		if at < now || !s.reader.Resting() || !s.reader.Streaming() || s.reader.Waiting() != nil {
			t.Errorf("round %d: position %s, not before %s; resting %t, streaming %t, waiting for %v", round, at, now, s.reader.Resting(), s.reader.Streaming(), s.reader.Waiting())
		}
		slot, err := cdc.ReadSlot(t.Context(), conn, o.Slot)
		if err != nil {
			t.Fatal(err)
		}
		if slot.Active || slot.ConfirmedFlush != confirmed {
			t.Errorf("round %d: slot %+v, to stand at %s", round, slot, confirmed)
		}
		if err := s.end(); err != nil {
			t.Fatal(err)
		}
		confirmed = at
	}
	insertEach(t, conn, 1, 2)
	s := glance(t, o, source, confirmed)
	if diff := cmp.Diff(insertions(1, 2), s.changes(2)); diff != "" {
		t.Errorf("changes after the glances (-want +got):\n%s", diff)
	}
}

// TestAskBeforeGlance: who asks before the glance has its answer, and no stream.
func TestAskBeforeGlance(t *testing.T) {
	t.Parallel()
	o := optionsFor(pg.Database(t, "", oneTable))
	source := prepare(t, o, allOps("t"))
	rec := newRecorder()
	rec.glances, rec.asks = source.ConfirmedFlush, true
	s := run(t, o, source, rec)
	await(t, s.keepalives, "a position")
	for range 10 {
		if !s.reader.Resting() {
			t.Fatal("it streams")
		}
		if slot, err := cdc.ReadSlot(t.Context(), dial(t, o.DSN), o.Slot); err != nil || slot.Active {
			t.Fatal(slot, err)
		}
	}
}

// TestGlanceThenAsk: what is written while the reader rests is streamed once it is asked.
func TestGlanceThenAsk(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", oneTable)
	o := optionsFor(dsn)
	source := prepare(t, o, allOps("t"))
	conn := dial(t, dsn)
	open := dial(t, dsn)
	do(t, open, "begin; insert into t values (1)") // begun before the glance, committed after it
	s := glance(t, o, source, source.ConfirmedFlush)
	if await(t, s.keepalives, "a position"); !s.reader.Resting() {
		t.Fatal("an open transaction is to be streamed")
	}
	do(t, open, "commit")
	insertEach(t, conn, 2, 3)
	s.reader.Ask()
	if diff := cmp.Diff(insertions(1, 3), s.changes(3)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	if s.reader.Resting() {
		t.Error("it rests while it streams")
	}
}

// TestGlanceFinds: everything that would be sent has the stream begin, and nothing of it is consumed by the look.
func TestGlanceFinds(t *testing.T) {
	t.Parallel()
	for name, statement := range map[string]string{
		"insert": "insert into t values (1)", "truncate": "truncate t",
		"message": "select pg_logical_emit_message(true, 'gancho.test', 'x')", "large": "insert into t select i, repeat('x', 100) from generate_series(1, 20000) i",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := pg.Database(t, "", oneTable)
			o := optionsFor(dsn)
			source := prepare(t, o, allOps("t"))
			conn := dial(t, dsn)
			do(t, conn, statement, "insert into t values (-1)")
			s := glance(t, o, source, source.ConfirmedFlush)
			var got committed
			for i := 0; len(got.Changes) != 1 || got.Changes[0] != "insert public.t new(id=-1 v=<null>)"; i++ {
				if got = s.next(); i == 0 && name != "message" && len(got.Changes) == 1 && got.Changes[0] == "insert public.t new(id=-1 v=<null>)" {
					t.Error("the first transaction was left out")
				}
			}
			if s.reader.Resting() {
				t.Error("it rests")
			}
		})
	}
}

// TestGlanceOfAnotherSlot: a slot that was made anew between two visits is not taken for the one that was read, even if it has nothing; the stream says so, which
// has the slot.
func TestGlanceOfAnotherSlot(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", oneTable)
	o := optionsFor(dsn)
	source := prepare(t, o, allOps("t"))
	conn := dial(t, dsn)
	do(t, conn, "insert into t values (1)", fmt.Sprintf("select pg_drop_replication_slot('%s'), pg_create_logical_replication_slot('%[1]s', 'pgoutput')", o.Slot))
	reader := cdc.NewReader(o, source)
	reader.Confirm(source.ConfirmedFlush)
	reader.Glance()
	asked := 0
	reader.Admit(func(ctx context.Context, _ cdc.Identity) error {
		asked++
		slot, err := cdc.ReadSlot(ctx, conn, o.Slot)
		if err == nil && slot.ConfirmedFlush > source.ConfirmedFlush {
			err = cdc.Permanent(fmt.Errorf("another slot"))
		}
		return err
	})
	if err := reader.Run(t.Context(), onlooker()); err == nil || err.Error() != "another slot" || asked != 2 {
		t.Errorf("after %d questions: %v", asked, err)
	}
}

// TestRewindOfGlance: a reader that rests streams from the confirmed position when it is rewound.
func TestRewindOfGlance(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", oneTable)
	o := optionsFor(dsn)
	source := prepare(t, o, allOps("t"))
	s := glance(t, o, source, source.ConfirmedFlush)
	await(t, s.keepalives, "a position")
	s.reader.Rewind()
	await(t, s.resets, "the stream to start")
	insertEach(t, dial(t, dsn), 1, 1)
	if diff := cmp.Diff(insertions(1, 1), s.changes(1)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

// TestGlanceOfYoungPublication: changes that PostgreSQL 18 skips with a warning, because their publication did not exist, are not taken for nothing.
func TestGlanceOfYoungPublication(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", oneTable, "create publication gancho for table t")
	o := optionsFor(dsn)
	source := prepare(t, o, allOps("t"))
	do(t, dial(t, dsn), "drop publication gancho", "insert into t values (1)", "create publication gancho for table t")
	reader := cdc.NewReader(o, source)
	reader.Confirm(source.ConfirmedFlush)
	reader.Glance()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := reader.Run(ctx, onlooker()); err == nil || !strings.Contains(err.Error(), "publication gancho did not exist when the next changes were made") {
		t.Error(err)
	}
}

// TestGlanceRefused: a role that may stream and not peek streams.
func TestGlanceRefused(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", oneTable)
	o := optionsFor(dsn)
	source := prepare(t, o, allOps("t"))
	o.DSN = roleDSN(t, dsn, "glance_"+source.Identity.Database, "replication")
	do(t, dial(t, dsn), "revoke execute on function pg_logical_slot_peek_binary_changes from public", "insert into t values (1)")
	s := glance(t, o, source, source.ConfirmedFlush)
	if diff := cmp.Diff(insertions(1, 1), s.changes(1)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	if !s.reader.Blind() {
		t.Error("the refusal is not known")
	}
}
