package bridge_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"gancho/cdc"
	"gancho/delivery/endpoint"
	"gancho/internal/bridge"
)

// Sources that cannot be read leave most places to the others, and get those that nobody else wants.
func TestFleetPlaces(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ streams, failed, others, ofFailed, ofOthers int }{
		{8, 20, 20, 2, 6}, {8, 20, 0, 2, 0}, {8, 1, 3, 1, 3}, {8, 0, 20, 0, 8}, {2, 5, 5, 1, 1},
	} {
		if failed, others := bridge.Places(c.streams, c.failed, c.others); failed != c.ofFailed || others != c.ofOthers {
			t.Errorf("%+v: %d and %d places", c, failed, others)
		}
	}
}

// A source that is written to all the time keeps its place before one that was written to once, though that has just begun; and only where
// there are more of them than may stay, each gives its place to others in turn.
func TestFleetBusy(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		busy         int
		held         time.Duration
		ofBusy, kept int
	}{{5, time.Minute, 5, 8}, {6, time.Minute, 6, 8}, {8, time.Minute, 6, 6}, {8, time.Second, 8, 8}} {
		if ofBusy, kept := bridge.BusyKept(c.busy, c.held); ofBusy != c.ofBusy || kept != c.kept {
			t.Errorf("%+v: %d and %d keep their places", c, ofBusy, kept)
		}
	}
}

// A visit is left out only when the server has just said that nothing was written.
func TestFleetVisits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		confirmed, current cdc.LSN
		ago                time.Duration
		visited            bool
	}{
		{10, 10, time.Second, false}, {10, 11, time.Second, true}, {10, 10, time.Hour, true}, {10, 0, time.Second, true}, {0, 10, time.Second, true}, {0, 0, 0, true},
	} {
		if got := bridge.Visited(c.confirmed, c.current, c.ago); got != c.visited {
			t.Errorf("%+v: visited is %t", c, got)
		}
	}
}

// An endpoint that is activated has all sources looked at: what waits for it is in their queues.
func TestFleetActivated(t *testing.T) {
	t.Parallel()
	paused, active := []endpoint.Endpoint{{Name: "crm", State: endpoint.Paused}}, []endpoint.Endpoint{{Name: "crm", State: endpoint.Active}}
	if n := bridge.Woken(paused, active); n != 2 {
		t.Errorf("%d sources are woken", n)
	}
	if n := bridge.Woken(active, active) + bridge.Woken(active, paused); n != 0 {
		t.Errorf("%d sources are woken, and no endpoint was activated", n)
	}
}

// A server is asked at the DSN of a source that there is.
func TestFleetServers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ before, after, want string }{
		{"a b", "a b", "a"}, {"a b", "b c", "b"}, {"b", "a b", "b"}, {"old", "new", "new"}, {"a", "", ""},
	} {
		if got := bridge.Tended(strings.Fields(c.before), strings.Fields(c.after)); got != c.want {
			t.Errorf("%+v: asked at %q", c, got)
		}
	}
}

// TestFleetCountersBroken: sources are visited by time while the counters of their server cannot be read.
func TestFleetCountersBroken(t *testing.T) {
	t.Parallel()
	s := newShops(t, 2)
	s.options.Sources.Cluster = func() string { return "postgres://postgres@127.0.0.1:1/postgres" }
	s.options.Sources.VisitEvery = 2 * time.Second
	s.start()
	s.awaitSlots(2)
	for n := 1; n <= 2; n++ {
		s.exec(shop(1), "insert into pedidos (empresa, cliente, n) values (1, 1, 1)")
		s.await("an event of a source that is visited by time", 30*time.Second, func(all []received) bool { return count(all, shop(1)) == n })
	}
}

// TestFleetTimers: a timer that was set after the source was read up to its end is fired, though nothing is written any more.
func TestFleetTimers(t *testing.T) {
	t.Parallel()
	s := newShops(t, 2)
	rules := fleetRules + "  - {event: pedido.parado, table: pedidos, on: insert, after: 8s, when: n = 2, columns: [id, cliente, n]}\n"
	if err := os.WriteFile(s.where.Rules, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	s.options.Sources.Streams, s.options.Sources.VisitEvery = 1, time.Hour
	s.exec(shop(0), "alter table pedidos replica identity full") // as a rule with after and when needs it
	s.exec(shop(1), "alter table pedidos replica identity full")
	s.start()
	s.awaitSlots(2)
	for n := 1; n <= 2; n++ { // the first has the source be read for a while, in which the second sets the timer
		s.exec(shop(0), fmt.Sprintf("insert into pedidos (empresa, cliente, n) values (1, 1, %d)", n))
		s.await("the events of the changes", 30*time.Second, func(all []received) bool { return count(all, shop(0)) == n })
	}
	s.exec(shop(1), "insert into pedidos (empresa, cliente, n) values (1, 1, 1)") // which takes the only place
	s.await("the event of the timer", 30*time.Second, func(all []received) bool { return count(all, shop(0)) == 3 })
}

// TestFleetTimersSent: the event of a timer is delivered while its source is read, though no change of it has made an event since the process began.
func TestFleetTimersSent(t *testing.T) {
	t.Parallel()
	s := newShops(t, 1)
	rules := fleetRules + "  - {event: pedido.parado, table: pedidos, on: insert, after: 8s, columns: [id, cliente, n]}\n"
	if err := os.WriteFile(s.where.Rules, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	s.options.Sources.VisitEvery = time.Hour
	s.exec(shop(0), "create table ruido (id bigserial)")
	stop := s.start()
	s.awaitSlots(1)
	s.exec(shop(0), "insert into pedidos (empresa, cliente, n) values (1, 1, 1)")
	s.await("the event of the change", 30*time.Second, func(all []received) bool { return count(all, shop(0)) == 1 })
	stop()
	s.start()
	writing, ended := make(chan struct{}), make(chan struct{})
	go func() { // what no rule is for has the source be read all the time
		defer close(ended)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-writing:
				return
			case <-tick.C:
				_ = s.pg.Exec(context.Background(), shop(0), "insert into ruido default values")
			}
		}
	}()
	defer func() { close(writing); <-ended }()
	s.await("the event of the timer", 30*time.Second, func(all []received) bool { return count(all, shop(0)) == 2 })
}
