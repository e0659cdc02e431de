package bridge_test

import (
	"strings"
	"testing"
	"time"

	"gancho/delivery/queue"
	"gancho/internal/bridge"
)

// TestStuckMoves: an endpoint of which nothing moves is passed over for a while, and named;
// one of which something moves is not, though as much is queued.
func TestStuckMoves(t *testing.T) {
	t.Parallel()
	var s bridge.StuckMoves
	at := time.Date(2026, 11, 29, 0, 0, 0, 0, time.UTC)
	keep := map[string]int64{"idle": 1, "moves": 1}
	measure := func(moved int64) map[string]bool {
		at = at.Add(time.Second)
		return s.Measure(at, keep, queue.Stats{Endpoint: "idle", Backlog: 10}, queue.Stats{Endpoint: "moves", Backlog: 10 + moved, Overflowed: moved})
	}
	begun := at
	for moved := int64(0); at.Sub(begun) < bridge.StuckAfter; moved++ {
		if stuck := measure(moved); stuck["idle"] || stuck["moves"] || s.Err() != nil {
			t.Fatalf("after %s: %v, %v", at.Sub(begun), stuck, s.Err())
		}
	}
	stuck := measure(1000)
	if err := s.Err(); !stuck["idle"] || stuck["moves"] || err == nil || !strings.Contains(err.Error(), "those of idle to") {
		t.Errorf("an endpoint of which nothing has moved: %v, %v", stuck, err)
	}
	if err := s.Err(); err == nil || !strings.Contains(err.Error(), "gancho endpoints remove NAME") {
		t.Errorf("what can be done: %v", err)
	}
	at = at.Add(bridge.StuckAgain)
	if stuck := measure(1001); stuck["idle"] || s.Err() != nil {
		t.Errorf("it is not asked again: %v", s.Err())
	}
}

// TestFleetReady: the process that captures several sources is not ready while nobody moves a backlog.
func TestFleetReady(t *testing.T) {
	t.Parallel()
	if err := bridge.FleetReady(true); err == nil || !strings.Contains(err.Error(), "crm of source loja_1") {
		t.Error(err)
	}
	if err := bridge.FleetReady(false); err != nil {
		t.Errorf("one that delivers alone: %v", err)
	}
}

// TestStuckMovesOfSources: of several sources the endpoint and the source are named apart, and removing the endpoint, which the others may need, is no advice.
func TestStuckMovesOfSources(t *testing.T) {
	t.Parallel()
	var s bridge.StuckMoves
	at := time.Date(2026, 11, 29, 0, 0, 0, 0, time.UTC)
	for range 3 {
		s.Measure(at, map[string]int64{"loja_1/crm": 1}, queue.Stats{Endpoint: "loja_1/crm", Backlog: 10})
		at = at.Add(bridge.StuckAfter)
	}
	if err := s.Err(); err == nil || !strings.Contains(err.Error(), "those of crm of source loja_1 to") || strings.Contains(err.Error(), "remove") {
		t.Error(err)
	}
}
