package cdc_test

import (
	"context"
	"testing"

	"gancho/cdc"
)

// TestSlowAdmission: the server keeps the slot for a process that takes longer than the server's
// patience to decide whether it may read it, and nothing is confirmed meanwhile.
func TestSlowAdmission(t *testing.T) {
	t.Parallel()
	o := optionsFor(pg.Database(t, "", oneTable) + "&options=-c%20wal_sender_timeout%3D300ms")
	source := prepare(t, o, allOps("t"))
	reader, rec := cdc.NewReader(o, source), onlooker()
	reader.Confirm(source.Current) // beyond the slot, which a status of an admitted one would move
	admitted := make(chan struct{})
	attempts := 0
	reader.Admit(func(ctx context.Context, _ cdc.Identity) error {
		attempts++
		select {
		case <-admitted:
		case <-ctx.Done():
		}
		return ctx.Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- reader.Run(ctx, rec) }()
	conn := dial(t, o.DSN)
	eventually(t, "signs of life", func() bool {
		return value[bool](t, conn, `select coalesce(bool_or(r.reply_time > r.backend_start + interval '1 second'), false)
			from pg_replication_slots s join pg_stat_replication r on r.pid = s.active_pid where s.slot_name = $1`, o.Slot)
	})
	at := value[string](t, conn, "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = $1", o.Slot)
	if at != source.ConfirmedFlush.String() {
		t.Errorf("the slot stands at %s, and stood at %s", at, source.ConfirmedFlush)
	}
	close(admitted)
	await(t, rec.resets, "the stream to start")
	cancel()
	if err := await(t, done, "the reader to end"); err != nil || attempts != 1 {
		t.Errorf("%d attempts, %v", attempts, err)
	}
}
