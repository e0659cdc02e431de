package cdc_test

import (
	"errors"
	"testing"
	"time"

	"gancho/cdc"
)

// TestFootprint: a transaction is found in the WAL where it was read, also where its commit
// record goes over pages, and not after anything about it is different.
func TestFootprint(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", oneTable)
	o := optionsFor(dsn)
	s := start(t, o, allOps("t"))
	conn := dial(t, dsn)
	// Many subtransactions make a commit record of several pages.
	do(t, conn, "insert into t values (1)", `do $$ begin for i in 1..6000 loop begin insert into t values (100 + i); exception when division_by_zero then null; end; end loop; end $$`)
	for range 2 {
		f := func() cdc.Footprint { tx := s.next(); return tx.Footprint() }()
		if f.End <= f.Commit {
			t.Fatalf("no footprint: %+v", f)
		}
		other := f
		other.Time = f.Time.Add(time.Microsecond)
		for _, c := range []struct {
			f    cdc.Footprint
			want bool
		}{{f, true}, {other, false}} {
			if found, err := cdc.FindFootprint(t.Context(), o, c.f); found != c.want || err != nil {
				t.Errorf("%+v: found %v, %v, want %v", c.f, found, err, c.want)
			}
		}
	}
	// WAL that the server has removed says nothing.
	if _, err := cdc.FindFootprint(t.Context(), o, cdc.Footprint{Commit: 0x100, End: 0x200, Time: time.Now()}); !errors.Is(err, cdc.ErrUnverified) {
		t.Errorf("removed WAL: %v", err)
	}
}
