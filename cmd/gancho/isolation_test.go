package main_test

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"gancho/internal/testservers"
)

// TestSlowAndDeadEndpointsDelayNoOther puts the same events to three endpoints,
// of which one takes two seconds for each and one is not there.
func TestSlowAndDeadEndpointsDelayNoOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, loadTable)
	release := make(chan struct{})
	slow := newReceiver(t, func(_ http.ResponseWriter, _ arrival) {
		select {
		case <-time.After(2 * time.Second):
		case <-release:
		}
	})
	healthy := newReceiver(t, nil)
	w.rules = loadRules
	w.endpoint("slow", slow.url())
	w.endpoint("dead", "http://"+closedPort(t))
	w.endpoint("healthy", healthy.url())
	b := w.run()
	const rows = 3000
	start := time.Now()
	w.exec("insert into eventos (cliente_id, seq) select g % 50, 1 + g / 50 from generate_series(0, $1::int - 1) g", rows)
	all := healthy.waitCount(rows)
	took := time.Since(start)
	if repeats := checkDelivery(t, all, rows); repeats > 0 {
		t.Errorf("%d repeated deliveries", repeats)
	}
	// 3,000 events at 16 in flight and 2 s each would take 375 s.
	slowOnes, _ := slow.snapshot()
	t.Logf("healthy endpoint: %d events in %v; slow endpoint: %d meanwhile", rows, took.Round(time.Millisecond), len(slowOnes))
	if 10*len(slowOnes) >= rows {
		t.Errorf("the healthy endpoint got %d events while the slow one got %d: less than ten times as many", rows, len(slowOnes))
	}
	close(release)
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
