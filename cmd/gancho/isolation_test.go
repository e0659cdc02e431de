package main_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"gancho/internal/testservers"
)

// TestSlowAndDeadEndpointsDelayNoOther delivers the same events to three
// endpoints: one answers nothing until another has got all of them, and one
// accepts no connections.
func TestSlowAndDeadEndpointsDelayNoOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, loadTable)
	release, answer := context.WithCancel(context.Background())
	slow := newReceiver(t, func(http.ResponseWriter, arrival) { <-release.Done() })
	t.Cleanup(answer) // before the receiver's end, which waits for its answers
	healthy := newReceiver(t, nil)
	w.rules = loadRules
	w.endpoint("slow", slow.url())
	w.endpoint("dead", "http://"+closedPort(t))
	w.endpoint("healthy", healthy.url())
	b := w.run()
	const rows = 3000
	w.exec("insert into eventos (cliente_id, seq) select g % 50, 1 + g / 50 from generate_series(0, $1::int - 1) g", rows)
	all := healthy.waitCount(rows)
	if repeats := checkDelivery(t, all, rows); repeats > 0 {
		t.Errorf("%d repeated deliveries", repeats)
	}
	answer()
	b.stop()
}

// TestFailingKeyHoldsBackOnlyItself answers 500 to one cliente_id until told
// to stop: all others arrive meanwhile, and then it arrives in order.
func TestFailingKeyHoldsBackOnlyItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, loadTable)
	var failing atomic.Bool
	failing.Store(true)
	var accepted []arrival
	mu := make(chan struct{}, 1)
	r := newReceiver(t, func(w http.ResponseWriter, a arrival) {
		if a.field("cliente_id") == "7" && failing.Load() {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		mu <- struct{}{}
		accepted = append(accepted, a)
		<-mu
	})
	w.rules = loadRules
	w.endpoint("a", r.url(), "retry: [300ms, 300ms, 300ms, 300ms, 300ms, 300ms, 300ms, 300ms, 300ms, 300ms, 1s, 1s, 1s, 1s, 1s, 1s, 1s, 1s, 1s, 1s, 1s, 1s, 1s, 1s, 1s]")
	b := w.run()
	const rows, keys = 4000, 40
	w.exec("insert into eventos (cliente_id, seq) select g % $2::int, 1 + g / $2::int from generate_series(0, $1::int - 1) g", rows, keys)
	r.waitFor(60*time.Second, "all keys but the failing one", func(all []arrival) bool {
		others := 0
		for _, a := range all {
			if a.field("cliente_id") != "7" {
				others++
			}
		}
		return others >= rows-rows/keys
	})
	all, _ := r.snapshot()
	for _, a := range all {
		if a.field("cliente_id") == "7" && a.field("seq") != "1" {
			t.Fatalf("event %s of the failing key overtook its first", a.field("seq"))
		}
	}
	failing.Store(false)
	r.waitCount(rows)
	b.stop() // every answer has been given
	checkDelivery(t, accepted, rows)
}
