package cdc_test

import (
	"errors"
	"strings"
	"testing"

	"gancho/cdc"
	"gancho/internal/testservers"
)

// TestPromotion: a DSN with both hosts leads to the primary before and after a promotion, in ordinary
// and in replication sessions. From 17 on, the slot is there where the standby synchronizes slots, at
// a position that the first primary had confirmed.
func TestPromotion(t *testing.T) {
	t.Parallel()
	primary := server(t, nil)
	version, err := primary.Version()
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{}
	if version >= 17 {
		settings["sync_replication_slots"] = "on"
	}
	standby, err := primary.StartStandby(settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(standby.Close)
	single := primary.Database(t, "", oneTable)
	database := single[strings.LastIndex(single, "/")+1 : strings.LastIndex(single, "?")]
	o := optionsFor(single)
	o.DSN = testservers.HostsDSN(database, standby, primary) // the standby is asked first, and passed over
	eventually(t, "the standby to have the table", func() bool { return standby.Exec(t.Context(), database, "select from t") == nil })
	before := prepare(t, o, allOps("t"))
	if before.Identity.Timeline != 1 || !before.SlotCreated {
		t.Fatalf("before: %+v", before)
	}
	read := ""
	if version >= 17 {
		// A standby takes a slot over once it has moved on.
		conn, writer := dial(t, standby.DSN(database)), dial(t, primary.DSN(database))
		eventually(t, "the standby to have the slot", func() bool {
			do(t, writer, "insert into t select coalesce(max(id), 0) + 1 from t", "select pg_log_standby_snapshot()",
				"select pg_replication_slot_advance('"+o.Slot+"', pg_current_wal_lsn())")
			read = value[string](t, writer, "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = $1", o.Slot)
			return value[bool](t, conn, "select coalesce(bool_or(synced and not temporary), false) from pg_replication_slots where slot_name = $1", o.Slot)
		})
	} else {
		flushed := dial(t, primary.DSN(database))
		at := value[string](t, flushed, "select pg_current_wal_lsn()::text")
		conn := dial(t, standby.DSN(database))
		eventually(t, "the standby to have the publications", func() bool {
			return value[bool](t, conn, "select pg_last_wal_replay_lsn() >= $1::pg_lsn", at)
		})
	}
	primary.Kill()
	if err := standby.Promote(); err != nil {
		t.Fatal(err)
	}
	o.Create = false
	after, err := cdc.Prepare(t.Context(), o, allOps("t"))
	if version < 17 {
		var setup *cdc.SetupError
		if !errors.As(err, &setup) || !strings.Contains(err.Error(), "does not exist") {
			t.Fatalf("a slot that is not synchronized: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if after.Identity.Timeline != 2 || after.Identity.SystemID != before.Identity.SystemID || after.ConfirmedFlush < before.ConfirmedFlush {
		t.Errorf("before: %+v\nafter: %+v", before, after)
	}
	if beyond := value[bool](t, dial(t, standby.DSN(database)), "select $1::pg_lsn > $2::pg_lsn", after.ConfirmedFlush.String(), read); beyond {
		t.Errorf("the slot stands at %s, beyond %s, up to which it had been read", after.ConfirmedFlush, read)
	}
	// What reads the first timeline is told so, and reads nothing.
	var changed *cdc.IdentityChangedError
	if err := cdc.NewReader(o, before).Run(t.Context(), onlooker()); !errors.As(err, &changed) || changed.Is.Timeline != 2 {
		t.Errorf("read on: %v", err)
	}
}
