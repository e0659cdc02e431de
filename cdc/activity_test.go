package cdc_test

import (
	"context"
	"testing"

	"gancho/cdc"
)

// TestActivity: what is written to a database moves its counter, and no other's; a slot holds WAL.
func TestActivity(t *testing.T) {
	t.Parallel()
	dsn, other := pg.Database(t, "", oneTable), pg.Database(t, "")
	conn := dial(t, dsn)
	name, quiet := value[string](t, conn, "select current_database()::text"), value[string](t, dial(t, other), "select current_database()::text")
	w := cdc.NewActivityWatch(dsn)
	defer w.Close(context.Background())
	before, err := w.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	do(t, conn, "insert into t select i from generate_series(1, 1000) i")
	after, err := w.Read(t.Context())
	for err == nil && after.Written[name] < before.Written[name]+1000 { // sessions report with a delay
		do(t, conn, "select 1")
		after, err = w.Read(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, there := after.Written[quiet]; !there || after.Current <= before.Current {
		t.Errorf("the other database is there: %t; the WAL ended at %s and ends at %s", there, before.Current, after.Current)
	}
	o := optionsFor(dsn)
	do(t, conn, "select pg_create_logical_replication_slot('"+o.Slot+"', 'pgoutput')")
	defer do(t, conn, "select pg_drop_replication_slot('"+o.Slot+"')")
	held, err := w.HeldWAL(t.Context())
	if _, there := held[o.Slot]; err != nil || !there {
		t.Errorf("slots %v, %v", held, err)
	}
	if slot, err := w.Gauge(o.Slot).Measure(t.Context()); err != nil || slot.Name != o.Slot {
		t.Errorf("the gauge has %v, %v", slot, err)
	}
	// Another DSN, as of a password that was changed, is that of the gauges, too.
	g := w.Gauge(o.Slot)
	if err := w.Use(t.Context(), "postgres://nobody@127.0.0.1:1/nowhere"); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Measure(t.Context()); err == nil {
		t.Error("the old connection is used still")
	}
	if err := w.Use(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	if slot, err := g.Measure(t.Context()); err != nil || slot.Name != o.Slot {
		t.Errorf("at another DSN, the gauge has %v, %v", slot, err)
	}
}
