package bridge_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"gancho/delivery/queue"
	"gancho/internal/bridge"
)

// A source is visited for a closing that waits until its slot is confirmed further, and for none that waits for the time, which a visit does not hasten.
func TestClosingWaitsForSlot(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", "create table pedidos (id int)")
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	for _, sql := range []string{"select pg_create_logical_replication_slot('gancho_closes', 'pgoutput')", "insert into pedidos select generate_series(1, 1000)"} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	for in, want := range map[time.Duration]bool{-time.Hour: true, time.Hour: false} {
		if waits, err := bridge.Uncounted(t.Context(), dsn, "gancho_closes", in); err != nil || waits != want {
			t.Errorf("of a time in %s it waits for its slot: %t, %v", in, waits, err)
		}
	}
	if waits, err := bridge.Uncounted(t.Context(), dsn, "gancho_none", -time.Hour); err == nil || waits {
		t.Errorf("without a slot: %t, %v", waits, err)
	}
}

// While the counters of its server cannot be read, a source is measured over a connection of its own.
func TestClosingGauge(t *testing.T) {
	t.Parallel()
	for _, failing := range []bool{true, false} {
		if own, sharedLater := bridge.MeasuresOverOwn(failing); own != failing || !sharedLater {
			t.Errorf("failing is %t: over its own %t, over that of all later %t", failing, own, sharedLater)
		}
	}
}

// What hundreds of sources fail with is one line.
func TestShortenedErrors(t *testing.T) {
	t.Parallel()
	one, two := errors.New("source b: it is down"), errors.New("source a: it is down")
	for _, c := range []struct {
		failed []error
		want   string
	}{{[]error{one}, "source b: it is down"}, {[]error{one, two, queue.ErrUnreachable}, "redis is unreachable (and 2 other sources)"}, {[]error{one, two, one}, "source a: it is down (and 2 other sources)"}} {
		if err := bridge.Shortened(c.failed); err == nil || err.Error() != c.want {
			t.Errorf("%v: %v, want %s", c.failed, err, c.want)
		}
	}
	if err := bridge.Shortened(nil); err != nil {
		t.Errorf("of none: %v", err)
	}
}
